"""A recipe that trains within seconds; settings may import it, as it knows no models."""

from __future__ import annotations

import dataclasses

from visualsearch.ml.recipes import RECIPES, Recipe

TINY: Recipe = dataclasses.replace(
    RECIPES["default"],
    name="tiny",
    summary="For tests.",
    trunk="resnet10",
    gradients=False,
    colours=False,
    head_hidden=0,
    head_epochs=0,
    wild_views=0.0,
    average=0.0,
    text="gru",
    thumbnail=8,
    image_size=32,
    width=32,
    vocabulary_size=300,
    text_length=16,
    token_width=32,
    text_hidden=32,
    attribute_weight=1.0,
    lr=2e-3,
    epochs=24,
    min_steps=0,
    small_first=0.0,
)
