"""The copy of a network that is made for speed gives the network's own answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import tiny
from visualsearch.ml import quick as module
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.precision import precisions
from visualsearch.ml.quick import Quick, folded

CPU = torch.device("cpu")


def network(trunk: str = "resnet10", *, seed: int = 0, thumbnail: int = 8) -> VisualEncoder:
    """With statistics in its norms as if it were trained."""
    torch.manual_seed(seed)
    made = VisualEncoder(tiny(trunk=trunk, thumbnail=thumbnail), vocabulary_size=9, weights=None)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
    return made.eval()


@pytest.mark.parametrize("trunk", ["resnet10", "mobilenet_v3_small"])
def test_folded__the_norms_are_gone_and_the_vectors_the_same(trunk: str) -> None:
    image = network(trunk).image
    copy = folded(image)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in copy.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in image.modules())
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(copy(pixels), image(pixels), atol=1e-4)


def test_quick__agrees_with_float32_on_photos_it_was_not_tried_on() -> None:
    made = network("mobilenet_v3_small")
    pixels = coloured_shapes(designs=4).pixels
    encoder = TorchEncoder.of(made, None, device=CPU)
    fast = encoder.encode_image(pixels)
    with torch.inference_mode():
        exact = made.encode_image(torch.from_numpy(pixels)).numpy()
    assert encoder._quick is not None
    assert (fast * exact).sum(axis=1).min() >= 0.999
    assert np.allclose(np.linalg.norm(fast, axis=1), 1, atol=1e-3)


def test_quick__a_precision_that_is_not_precise_enough_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "precisions", lambda _, **__: iter((torch.bfloat16,)))
    monkeypatch.setattr(module, "MIN_COSINE", 0.9999999)
    image = network().image
    quick = Quick(image, device=CPU)
    pixels = torch.from_numpy(coloured_shapes().pixels)
    with torch.inference_mode():
        assert torch.allclose(quick(pixels), image(pixels), atol=1e-5)
    assert quick.precision is None


def test_precisions__float16_is_for_grouped_convolutions_where_there_are_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = {"amx_bf16": True, "avx512_fp16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: both, raising=False)
    assert list(precisions(CPU, grouped=True)) == [torch.bfloat16, torch.float16]
    assert list(precisions(CPU, grouped=False)) == [torch.bfloat16]
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert list(precisions(CPU, grouped=True)) == []


class Crosswise(nn.Module):
    """Registers a norm after a convolution that it does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        assert self.norm.running_mean is not None
        self.norm.running_mean += 3.0

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.norm(pixels.permute(0, 3, 1, 2).float() / 255)
        return torch.as_tensor(self.first(maps.abs()).mean(dim=(2, 3)))


def test_quick__norms_that_are_no_pair_with_a_convolution_stay() -> None:
    torch.manual_seed(0)
    crosswise = Crosswise().eval()
    quick = Quick(crosswise, device=CPU)
    pixels = torch.from_numpy(coloured_shapes().pixels)
    with torch.inference_mode():
        assert torch.equal(quick(pixels), crosswise(pixels))


class Loud(nn.Module):
    """Passes the largest float16 on bright photos only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2, bias=False)
        nn.init.constant_(self.layer.weight, 1.0)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.as_tensor(self.layer(pixels.float().mean(dim=(1, 2)) ** 2))


def test_quick__a_photo_that_overflows_float16_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "precisions", lambda _, **__: iter((torch.float16,)))
    loud = Loud().eval()
    quick = Quick(loud, device=CPU)
    dark, bright = (torch.full((1, 4, 4, 3), value, dtype=torch.uint8) for value in (20, 250))
    with torch.inference_mode():
        quick(dark)
        assert quick.precision is torch.float16
        assert torch.equal(quick(bright), loud(bright))
