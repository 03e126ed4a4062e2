"""The network: image trunk, text encoder and composer around one vector space."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from visualsearch.exceptions import TrainingError
from visualsearch.ml.blend import Blend
from visualsearch.ml.combiner import Combiner
from visualsearch.ml.composition import TIRG, Sum
from visualsearch.ml.descriptors import ColourHistogram, Descriptor, OrientedGradients
from visualsearch.ml.foundation import PREFIX as TOWERS
from visualsearch.ml.foundation import Towers, TowerText, load_towers
from visualsearch.ml.multiscale import ShallowScale
from visualsearch.ml.normalisation import MEAN, STD
from visualsearch.ml.projection import Adapter, Projection
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.text import TextEncoder
from visualsearch.ml.text_convolution import ConvolutionalTextEncoder
from visualsearch.ml.trunks import build_trunk, fix_norms


class Thumbnail(nn.Sequential):
    """A shallow branch on a thumbnail: the colour and layout that a deep trunk pools away."""

    features = 256

    def __init__(self, side: int) -> None:
        layers = (nn.Linear(3 * side**2, self.features), nn.ReLU(), nn.LayerNorm(self.features))
        super().__init__(nn.Flatten(), *layers)
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images float [B, 3, S, S] -> float [B, 256]."""
        vectors: Tensor = super().forward(functional.adaptive_avg_pool2d(images, self.side))
        return vectors


class GlobalMaxPool(nn.Module):
    """The largest answer of each channel of a feature map, [B, C, H, W] -> [B, C, 1, 1]."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax(dim=(2, 3), keepdim=True)


class ImageEncoder(nn.Module):
    """Photos to vectors: a trunk, branches beside it, and a projection of them all together.

    A branch is a module with a number of `features` that maps the normalised images to them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, recipe: Recipe, *, weights: str | None, towers: Towers | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.trunk: nn.Module
        if towers is not None:
            self.trunk, features = towers.image, towers.features
        else:
            self.trunk, features = build_trunk(recipe.trunk, weights=weights)
        if recipe.trunk_pool == "max":
            _pool_by_max(self.trunk, recipe)
        self.blocks = [features]
        # Attributes rather than a ModuleList: their names are those of the stored weights.
        self.branches: list[str] = []
        if recipe.gradients:
            features += self._add("gradients", OrientedGradients())
        if recipe.colours:
            features += self._add("colours", ColourHistogram())
        if recipe.thumbnail:
            features += self._add("shallow", Thumbnail(recipe.thumbnail))
        for level in range(recipe.scales):
            branch = ShallowScale(level, image_size=recipe.image_size)
            features += self._add(f"scale{level}", branch)
        # Features of several scales differ in size, and count alike once they have unit length.
        self.balanced = bool(recipe.scales)
        # Without training there is nothing to learn a projection from.
        plain = recipe.optimizer == "none"
        self.width = recipe.width or features
        if self.width != features and plain:
            raise TrainingError(
                f"Recipe {recipe.name!r} trains nothing, so its width must be the trunk's: "
                f"{recipe.trunk} gives {features}, the recipe says {recipe.width}. Set width=0."
            )
        self.project: nn.Module = nn.Identity()
        options: Any = {"hidden": recipe.head_hidden, "dropout": recipe.head_dropout}
        if towers is not None and not self.branches:
            self.project = Adapter(features, self.width, **options)
        elif recipe.frozen or recipe.head_hidden:
            self.project = Projection(features, self.width, **options)
        elif not plain:
            self.project = nn.Linear(features, self.width)
        self.frozen, self.norms = recipe.frozen, recipe.norms

    def train(self, mode: bool = True) -> Self:
        """As every module's, but what is frozen or fixed stays as it is."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        elif self.norms == "fixed":
            fix_norms(self.trunk)
        return self

    def _add(self, name: str, branch: Thumbnail | ShallowScale | Descriptor) -> int:
        self.add_module(name, branch)
        self.branches.append(name)
        self.blocks.append(branch.features)
        return branch.features

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> float [B, 3, S, S] as the trunk expects it."""
        # The permuted view of NHWC is already in channels_last order.
        return (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images float [B, 3, S, S] -> unit vectors float [B, width]."""
        features = self.trunk(images)
        if self.branches:
            beside = [getattr(self, name)(images).to(features.dtype) for name in self.branches]
            if self.balanced:
                shallow = functional.normalize(torch.cat(beside, dim=1), dim=1)
                beside, features = [shallow], functional.normalize(features, dim=1)
            features = torch.cat([features, *beside], dim=1)
        return functional.normalize(self.project(features).float(), dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> unit vectors float [B, width]."""
        return self.embed(self.normalise(pixels))


class VisualEncoder(nn.Module):
    """Images, sentences and "image + sentence" queries as unit vectors of one space."""

    def __init__(self, recipe: Recipe, *, vocabulary_size: int, weights: str | None) -> None:
        super().__init__()
        towers: Towers | None = None
        if recipe.trunk.startswith(TOWERS):
            towers = load_towers(recipe, weights=weights)
            recipe = dataclasses.replace(
                recipe,
                tower=towers.config,
                text_length=towers.text_length if recipe.text == "tower" else recipe.text_length,
            )
        self.image = ImageEncoder(recipe, weights=weights, towers=towers)
        # With the width of the vectors, where the recipe leaves it to the trunk.
        self.recipe = recipe = dataclasses.replace(recipe, width=self.image.width)
        self.text: TextEncoder | ConvolutionalTextEncoder | TowerText | None = None
        self.composer: TIRG | Blend | Combiner | Sum | None = None
        if recipe.text == "conv":
            self.text = ConvolutionalTextEncoder(recipe, vocabulary_size=vocabulary_size)
        elif recipe.text == "tower" and towers is not None:
            self.text = TowerText(recipe, towers)
        elif recipe.text != "none":
            self.text = TextEncoder(recipe, vocabulary_size=vocabulary_size)
        if recipe.composer == "tirg":
            self.composer = TIRG(recipe.width)
        elif recipe.composer == "blend":
            self.composer = Blend(recipe.width)
        elif recipe.composer == "combiner":
            self.composer = Combiner(recipe.width)
        elif recipe.composer == "sum":
            self.composer = Sum()

    def encode_image(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> unit float [B, width]."""
        vectors: Tensor = self.image(pixels)
        return vectors

    def encode_text(self, tokens: Tensor) -> Tensor:
        """int64 [B, L], padded with 0 -> unit float [B, width]."""
        if self.text is None:
            raise TrainingError(f"Recipe {self.recipe.name!r} reads no text.")
        vectors: Tensor = self.text(tokens)
        return vectors

    def compose(self, image: Tensor, text: Tensor) -> Tensor:
        """Unit vectors [B, width] of reference and modification -> unit query [B, width]."""
        if self.composer is None:
            raise TrainingError(f"Recipe {self.recipe.name!r} has no composer.")
        # TIRG was written for features of norm about sqrt(d); ours are stored as unit vectors.
        scale = math.sqrt(self.recipe.width)
        return functional.normalize(self.composer(image * scale, text * scale), dim=1)

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def _pool_by_max(trunk: nn.Module, recipe: Recipe) -> None:
    pool = getattr(trunk, "avgpool", None)
    if not isinstance(pool, nn.AdaptiveAvgPool2d) or pool.output_size not in (1, (1, 1)):
        raise TrainingError(
            f"{recipe.trunk} does not end in a global average that trunk_pool=max could replace. "
            "Set trunk_pool=avg, or take resnet50."
        )
    trunk.avgpool = GlobalMaxPool()
