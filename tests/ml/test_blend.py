"""The blend starts as arithmetic of vectors, and learns what depends on photo and words together."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.ml.recipes import tiny
from visualsearch.ml.blend import Blend
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.export import export_onnx

WIDTH = 6


def test_blend__starts_as_the_sum_of_photo_and_words() -> None:
    torch.manual_seed(0)
    image, text = torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    with torch.inference_mode():
        assert torch.allclose(Blend(WIDTH).eval()(image, text), image + text, atol=1e-6)


def test_blend__every_part_of_it_learns() -> None:
    torch.manual_seed(0)
    made = Blend(WIDTH)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    before = {name: value.detach().clone() for name, value in made.named_parameters()}
    for _ in range(3):  # what ends in zeros passes on no gradient in the first step
        optimizer.zero_grad()
        made(torch.randn(8, WIDTH), torch.randn(8, WIDTH)).square().sum().backward()
        optimizer.step()
    assert not [name for name, value in made.named_parameters() if torch.equal(value, before[name])]


def test_blend__composes_unit_vectors_in_a_network() -> None:
    network = VisualEncoder(tiny(composer="blend"), vocabulary_size=9, weights=None).eval()
    vectors = torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    with torch.inference_mode():
        composed = network.compose(vectors, vectors.flip(0))
    assert torch.allclose(composed.norm(dim=1), torch.ones(4), atol=1e-5)
    assert not torch.allclose(composed, vectors, atol=0.1)


def test_blend__is_exported_as_it_answers(tmp_path: Path) -> None:
    network = VisualEncoder(tiny(composer="blend"), vocabulary_size=9, weights=None).eval()
    assert export_onnx(network, tmp_path)["compose.onnx"] >= 0.999
