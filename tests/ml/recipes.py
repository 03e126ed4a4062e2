"""A recipe and a trunk that train within a second, for the tests of how `visualsearch.ml` trains."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from visualsearch.ml.recipes import Recipe, get_recipe

TINY = dataclasses.replace(
    get_recipe("default"),
    trunk="resnet10",
    image_size=32,
    gradients=False,
    colours=False,
    head_hidden=0,
    head_epochs=0,
    text="gru",
    wild_views=0.0,
    average=0.0,
    width=16,
    thumbnail=8,
    vocabulary_size=300,
    text_length=16,
    token_width=16,
    text_hidden=16,
    batch=16,
    epochs=2,
    min_steps=0,
    small_first=0.5,
    lr=2e-3,
)


def tiny(**changes: Any) -> Recipe:
    """TINY with other fields."""
    return dataclasses.replace(TINY, **changes)


def small_trunk(name: str, *, weights: str | None) -> tuple[nn.Module, int]:
    """In the place of `encoders.build_trunk`: two convolutions with their norms."""
    layers = [
        *(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ]
    return nn.Sequential(*layers), 16
