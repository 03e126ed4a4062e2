"""Texts of different lengths are encoded beside their like, and come back in their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.ml.recipes import tiny
from visualsearch.ml.length_parts import LENGTHS, encode_in_parts
from visualsearch.ml.text import TextEncoder
from visualsearch.ml.text_convolution import ConvolutionalTextEncoder

CPU = torch.device("cpu")


def texts(count: int, *, longest: int = 32) -> np.ndarray:
    """Token numbers of texts of every length, none included, in a random order."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 50, (count, 32))
    tokens[np.arange(32)[None] >= rng.integers(0, longest + 1, count)[:, None]] = 0
    return tokens


@pytest.mark.parametrize("kind", ["conv", "gru", "bigru", "lstm"])
def test_vectors__are_those_of_all_texts_in_one_go(kind: str) -> None:
    torch.manual_seed(0)
    maker = ConvolutionalTextEncoder if kind == "conv" else TextEncoder
    encoder = maker(tiny(text=kind), vocabulary_size=50).eval()
    tokens = texts(300)
    with torch.inference_mode():
        whole = encoder(torch.from_numpy(tokens))
        parts = encode_in_parts(encoder, tokens, device=CPU)
    assert torch.allclose(whole, parts, atol=1e-5)


def test_parts__are_padded_to_their_own_longest_text() -> None:
    seen: list[tuple[int, int]] = []

    def encode(part: Tensor) -> Tensor:
        seen.append((part.shape[0], part.shape[1]))
        return part[:, :1].float()

    encode_in_parts(encode, texts(400), device=CPU)

    assert sum(count for count, _ in seen) == 400
    assert [longest for _, longest in seen] == [*LENGTHS, 32]


@pytest.mark.parametrize("count", [1, 2, 31, 33])
def test_few_texts__are_one_part(count: int) -> None:
    calls = []

    def encode(part: Tensor) -> Tensor:
        calls.append(len(part))
        return part.float().sum(dim=1, keepdim=True)

    found = encode_in_parts(encode, texts(count), device=CPU)

    assert calls == [count]
    assert found[:, 0].tolist() == texts(count).sum(axis=1).tolist()


def test_texts_without_tokens__have_vectors_too() -> None:
    encoder = ConvolutionalTextEncoder(tiny(text="conv"), vocabulary_size=50).eval()
    with torch.inference_mode():
        found = encode_in_parts(encoder, np.zeros((3, 32), np.int64), device=CPU)
    assert found.shape[0] == 3
    assert bool(found.isfinite().all())
