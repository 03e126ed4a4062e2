"""Image trunks: classifiers without their last layer, from scratch or with weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from visualsearch.exceptions import TrainingError


def build_trunk(name: str, *, weights: str | None) -> tuple[nn.Module, int]:
    """A classifier without its last layer, and the number of features it gives.

    `name`: torchvision's, ``"resnet8"`` or ``"resnet10"``. It reads images normalised by
    `normalisation`. `weights`: None (from scratch), ``"DEFAULT"`` (torchvision's, downloaded), or
    the path of a file, or of a checkpoint's folder whose trunk it takes.
    """
    if name == "resnet10":
        block = torchvision.models.resnet.BasicBlock
        model: Any = torchvision.models.ResNet(block, [1, 1, 1, 1])
    elif name == "resnet8":
        model = _small_resnet()
    else:
        model = _torchvision_model(name, download=weights == "DEFAULT")
    if weights is None or weights == "DEFAULT":
        return model, _drop_last_layer(model, name)
    path = Path(weights)
    if not path.is_dir():
        _load_weights(model, name, path)
        return model, _drop_last_layer(model, name)
    features = _drop_last_layer(model, name)
    _load_trunk(model, name, path)
    return model, features


def _small_resnet() -> Any:
    """Three residual blocks of 64, 128 and 256 channels for images of 64 to 96 pixels.

    torchvision's stem shrinks an image to a quarter before the first block, which leaves 2 × 2
    places at the end of one of 64 pixels. Here it is a half, there is no fourth stage, and the last
    map has 8 × 8.
    """
    block = torchvision.models.resnet.BasicBlock
    model: Any = torchvision.models.ResNet(block, [1, 1, 1, 1])
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, bias=False)
    model.maxpool = nn.Identity()
    model.layer4 = nn.Identity()
    model.fc = nn.Linear(256, 1000)
    return model


def fix_norms(trunk: nn.Module) -> None:
    """Lets batch norms use the statistics of their weights: a small batch's own say too little."""
    for module in trunk.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _torchvision_model(name: str, *, download: bool) -> Any:
    try:
        return torchvision.models.get_model(name, weights="DEFAULT" if download else None)
    except ValueError as error:
        raise TrainingError(
            f"torchvision has no model {name!r}: {error}. Choose resnet18, regnet_x_400mf, vgg16 …"
        ) from error
    except (OSError, RuntimeError) as error:  # no network, or a broken download
        raise TrainingError(
            f"Cannot download torchvision's weights for {name}: {error}. Without a network, give "
            f"a weights file (state dict, .pth or .safetensors): --set weights=/path/{name}.pth; "
            "or train from scratch: --set weights=none."
        ) from error


def _load_weights(model: nn.Module, name: str, path: Path) -> None:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            # weights_only: a pickle may not run code here.
            state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except FileNotFoundError as error:
        raise TrainingError(
            f"There is no weights file {path}. Download torchvision's file for {name} on a machine "
            "with a network and give its path, or train from scratch: --set weights=none."
        ) from error
    except Exception as error:
        raise TrainingError(f"{path} does not hold weights of {name}: {error}") from error


def _load_trunk(trunk: nn.Module, name: str, folder: Path) -> None:
    """The weights that a checkpoint's trunk has; checkpoints keep no classification layer."""
    from safetensors.torch import load_file

    from visualsearch.ml.checkpoints import WEIGHTS_NAME
    from visualsearch.ml.manifest import Manifest

    Manifest.load(folder)  # which checks that the files are those that were written
    prefix = "image.trunk."
    whole = load_file(folder / WEIGHTS_NAME)
    state = {key.removeprefix(prefix): whole[key] for key in whole if key.startswith(prefix)}
    try:
        trunk.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(f"{folder} does not hold a {name}: {error}") from error


def _drop_last_layer(model: Any, name: str) -> int:
    """Replaces the classification layer by the identity; returns its input size."""
    for attribute in ("fc", "classifier", "head", "heads"):
        layer = getattr(model, attribute, None)
        if isinstance(layer, nn.Linear):
            setattr(model, attribute, nn.Identity())
            return layer.in_features
        if isinstance(layer, nn.Sequential) and isinstance(layer[-1], nn.Linear):
            last = layer[-1]
            # The dropout before it would only blur the features.
            kept = [part for part in layer[:-1] if not isinstance(part, nn.Dropout)]
            setattr(model, attribute, nn.Sequential(*kept))
            return last.in_features
    raise TrainingError(f"{name} has no last linear layer that could be left out; take resnet18.")
