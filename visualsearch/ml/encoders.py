"""The network: image trunk, text encoder and composer around one vector space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from visualsearch.exceptions import TrainingError
from visualsearch.ml.composition import TIRG
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.text import TextEncoder
from visualsearch.ml.trunks import build_trunk

# ImageNet's channel means and deviations, which torchvision's weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageEncoder(nn.Module):
    """Photos to vectors: a torchvision trunk, beside it a shallow branch on a thumbnail.

    The shallow branch keeps colour and layout, which a deep trunk pools away
    (multi-scale network of arXiv 1901.03546).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe, *, weights: str | None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.trunk, features = build_trunk(recipe.trunk, weights=weights)
        self.thumbnail = recipe.thumbnail
        if recipe.thumbnail:
            self.shallow = nn.Sequential(
                nn.Flatten(), nn.Linear(3 * recipe.thumbnail**2, 256), nn.ReLU(), nn.LayerNorm(256)
            )
            features += 256
        # Without training there is nothing to learn a projection from.
        plain = recipe.optimizer == "none"
        if plain and features != recipe.width:
            raise TrainingError(
                f"Recipe {recipe.name!r} trains nothing, so its width must be the trunk's: "
                f"{recipe.trunk} gives {features}, the recipe says {recipe.width}."
            )
        self.project: nn.Module = nn.Identity() if plain else nn.Linear(features, recipe.width)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> float [B, 3, S, S] as the trunk expects it."""
        # The permuted view of NHWC is already in channels_last order.
        return (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images float [B, 3, S, S] -> unit vectors float [B, width]."""
        features = self.trunk(images)
        if self.thumbnail:
            small = functional.adaptive_avg_pool2d(images, self.thumbnail)
            features = torch.cat([features, self.shallow(small).to(features.dtype)], dim=1)
        return functional.normalize(self.project(features).float(), dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> unit vectors float [B, width]."""
        return self.embed(self.normalise(pixels))


class VisualEncoder(nn.Module):
    """Images, sentences and "image + sentence" queries as unit vectors of one space."""

    def __init__(self, recipe: Recipe, *, vocabulary_size: int, weights: str | None) -> None:
        super().__init__()
        self.recipe = recipe
        self.image = ImageEncoder(recipe, weights=weights)
        self.text: TextEncoder | None = None
        self.composer: TIRG | None = None
        if recipe.text != "none":
            self.text = TextEncoder(recipe, vocabulary_size=vocabulary_size)
        if recipe.composer == "tirg":
            self.composer = TIRG(recipe.width)

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
