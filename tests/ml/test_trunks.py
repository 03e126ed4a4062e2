"""Trunks: what they are built from, and norms that small batches leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import tiny
from visualsearch.exceptions import TrainingError
from visualsearch.ml.checkpoints import load
from visualsearch.ml.encoders import ImageEncoder
from visualsearch.ml.train import train
from visualsearch.ml.trunks import build_trunk


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_file__fills_the_trunk(tmp_path: Path, suffix: str) -> None:
    published = torchvision.models.get_model("resnet18", weights=None)
    file = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save(published.state_dict(), file)
    else:
        save_file(published.state_dict(), file)

    trunk, features = build_trunk("resnet18", weights=str(file))

    assert features == 512
    for name, value in trunk.state_dict().items():
        assert torch.equal(value, published.state_dict()[name])


def test_weights_file__of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.get_model("resnet18", weights=None).state_dict(), file)
    with pytest.raises(TrainingError, match="does not hold weights of vgg11"):
        build_trunk("vgg11", weights=str(file))


@pytest.mark.parametrize("norms", ["fixed", "batch"])
def test_norms__fixed_ones_do_not_learn_from_a_small_batch(norms: str) -> None:
    image = ImageEncoder(tiny(norms=norms), weights=None).train()
    trunk: Any = image.trunk
    before = trunk.bn1.running_mean.clone()
    image(torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8))
    assert torch.equal(trunk.bn1.running_mean, before) == (norms == "fixed")
    assert trunk.bn1.weight.requires_grad


def test_weights__of_a_checkpoint_are_its_trunk(tmp_path: Path) -> None:
    catalogue, first, second = coloured_shapes(designs=3), tmp_path / "a", tmp_path / "b"
    train(catalogue, tiny(epochs=1), out=first, device="cpu")
    fields = dict(weights=str(first), frozen=True, small_first=0.0, epochs=1)
    train(catalogue, tiny(**fields), out=second, device="cpu")

    before, after = (load(folder)[0].image.trunk.state_dict() for folder in (first, second))

    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(TrainingError, match="does not hold a resnet8"):
        build_trunk("resnet8", weights=str(first))


def test_resnet8__keeps_eight_places_a_side_of_a_small_image() -> None:
    trunk: Any = build_trunk("resnet8", weights=None)[0]
    maps: list[torch.Size] = []
    trunk.layer3.register_forward_hook(lambda _module, _inputs, found: maps.append(found.shape))
    assert trunk(torch.zeros(2, 3, 64, 64)).shape == (2, 256)
    assert maps == [torch.Size([2, 256, 8, 8])]
