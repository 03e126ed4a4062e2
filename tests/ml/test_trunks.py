"""Trunks: what they are built from, and norms that small batches leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from tests.ml.recipes import tiny
from visualsearch.exceptions import TrainingError
from visualsearch.ml.encoders import ImageEncoder
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
