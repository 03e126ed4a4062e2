"""The convolutional text encoder reads what is there, in its order, and no padding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.ml.recipes import tiny
from visualsearch.ml.text_convolution import ConvolutionalTextEncoder


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def encoder() -> ConvolutionalTextEncoder:
    torch.manual_seed(0)
    return ConvolutionalTextEncoder(tiny(text="conv"), vocabulary_size=50).eval()


def test_vector__does_not_depend_on_the_padded_length() -> None:
    text = torch.tensor([[5, 6, 7]])
    padded = torch.tensor([[5, 6, 7, 0, 0, 0, 0]])
    read = encoder()
    assert torch.allclose(read(text), read(padded), atol=1e-6)


def test_vector__depends_on_the_order_of_the_words() -> None:
    read = encoder()
    one, other = read(torch.tensor([[5, 6, 7, 8], [8, 6, 7, 5]]))
    assert float(one @ other) < 0.999


def test_text_without_tokens__has_a_finite_unit_vector() -> None:
    vector = encoder()(torch.zeros(1, 6, dtype=torch.int64))
    assert bool(vector.isfinite().all())
    assert torch.allclose(vector.norm(dim=1), torch.ones(1), atol=1e-5)
