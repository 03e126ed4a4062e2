"""Combinations of a recipe's fields that cannot train, each with the change that makes them fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visualsearch.ml.recipes import Recipe

SHARES = (
    "second_views",
    "kind_pairs",
    "in_class_negatives",
    "wild_views",
    "wild_photos",
    "hard_negatives",
    "small_first",
    "validation",
    "head_dropout",
    "text_dropout",
)
DIAMETER = 2.0
"""The largest distance between two unit vectors."""


def contradictions(recipe: Recipe) -> Iterator[str]:
    """What is wrong with `recipe`, and the fix; nothing for one that can train.

    Only what could never have trained: a checkpoint's recipe goes through here when it is loaded.
    """
    yield from _numbers(recipe)
    yield from _nested(recipe)
    yield from _trunk(recipe)
    yield from _text(recipe)
    yield from _loss(recipe)
    if recipe.sampler == "triplets":
        yield from _triplets(recipe)


def _numbers(recipe: Recipe) -> Iterator[str]:
    for name in SHARES:
        value = getattr(recipe, name)
        if not 0 <= value <= 1:
            yield f"{name}={value} is no share; give a number from 0 to 1, as {name}=0.5."
    if not 0 < recipe.margin < DIAMETER:
        yield (
            f"margin={recipe.margin} can never be kept: unit vectors are at most {DIAMETER} apart. "
            "Set margin=0.2."
        )
    smallest = 2 ** (1 + recipe.scales)
    if recipe.scales and recipe.image_size < 2 * smallest:
        yield (
            f"scales={recipe.scales} shrinks an image to a {smallest}th, and image_size="
            f"{recipe.image_size} leaves nothing of it. Set image_size={4 * smallest}, or scales=0."
        )
    if recipe.scales and recipe.small_first:
        yield (
            f"scales={recipe.scales} reads images of one size only, so small_first="
            f"{recipe.small_first} does not fit. Set small_first=0."
        )


def _nested(recipe: Recipe) -> Iterator[str]:
    if recipe.nested_from and recipe.loss != "contrastive":
        yield (
            f"nested_from={recipe.nested_from} shortens what loss=contrastive compares, and loss="
            f"{recipe.loss!r} compares otherwise. Set nested_from=0, or loss=contrastive."
        )
    if recipe.width and not 0 <= recipe.nested_from < recipe.width:
        yield (
            f"nested_from={recipe.nested_from} is no part of width={recipe.width}. "
            f"Set nested_from={recipe.width // 4}, or 0."
        )


def _trunk(recipe: Recipe) -> Iterator[str]:
    has_towers = recipe.trunk.startswith("open_clip:")
    if recipe.width == 0 and recipe.optimizer != "none" and not has_towers:
        yield (
            "width=0 is the trunk's own, for optimizer=none or a trunk of open_clip. Set width=256."
        )
    if recipe.text == "tower" and not has_towers:
        yield (
            f"text='tower' reads with the text tower of an open_clip model, and trunk={recipe.trunk!r} "
            "is none. Set text=conv, or trunk=open_clip:…"
        )
    if has_towers and recipe.small_first:
        yield (
            f"a tower of open_clip reads images of one size, so small_first={recipe.small_first} "
            "does not fit. Set small_first=0."
        )
    if recipe.frozen and recipe.optimizer == "none":
        yield "frozen=true trains heads, and optimizer='none' trains nothing. Set frozen=false."
    if recipe.frozen and recipe.scales:
        yield (
            f"scales={recipe.scales} reads whole images, and frozen=true caches features only. "
            "Set scales=0, or frozen=false."
        )
    if recipe.frozen and recipe.wild_photos and not recipe.wild_variations:
        yield (
            f"wild_photos={recipe.wild_photos} of heads are taken from cached features of phone-like views, "
            "and wild_variations=0 caches none. Set wild_variations=2, or wild_photos=0."
        )
    if recipe.frozen and (recipe.wild_views or recipe.sampler == "triplets"):
        yield (
            "frozen=true learns from features, which cannot be made to look like phone photos. "
            "Set wild_views=0 and sampler=clusters, or frozen=false."
        )


def _text(recipe: Recipe) -> Iterator[str]:
    if recipe.text == "none" and recipe.composer != "none":
        yield (
            f"composer={recipe.composer!r} needs a text, and text='none' reads none. "
            "Set composer=none, or text=gru."
        )
    if recipe.text != "none" and recipe.composer == "none":
        yield (
            f'text={recipe.text!r} without a composer leaves "like this but…" without an answer. '
            "Set composer=sum, which has nothing to learn, or text=none."
        )
    if recipe.text != "none" and recipe.text_length < 1:
        yield f"text={recipe.text!r} reads text_length={recipe.text_length} tokens. Set text_length=32."


def _loss(recipe: Recipe) -> Iterator[str]:
    if recipe.optimizer == "none":
        return
    if recipe.loss in ("batch_classification", "soft_triplet") and recipe.composer != "tirg":
        yield (
            f"loss={recipe.loss!r} is scaled by TIRG's s, and composer={recipe.composer!r} has none. "
            "Set composer=tirg, or loss=contrastive."
        )
    weights = [recipe.image_weight, recipe.attribute_weight, recipe.neighbour_weight]
    if recipe.text != "none":
        weights += [recipe.text_weight, recipe.composed_weight, recipe.value_weight]
    if not any(weights):
        yield "all weights of the loss are 0, so nothing is learned. Set image_weight=1."


def _triplets(recipe: Recipe) -> Iterator[str]:
    if recipe.loss != "triplet":
        yield (
            f"sampler='triplets' draws triplets of photos, which loss={recipe.loss!r} does not read. "
            "Set loss=triplet, or sampler=clusters."
        )
    if recipe.text != "none":
        yield (
            f"sampler='triplets' draws no texts, so text={recipe.text!r} would stay untrained. "
            "Set text=none and composer=none, or sampler=clusters."
        )
    if recipe.mining != "random":
        yield (
            f"sampler='triplets' draws the negatives itself, in_class_negatives="
            f"{recipe.in_class_negatives} of them in class, so mining={recipe.mining!r} has nothing "
            "to choose from. Set mining=random, or sampler=clusters."
        )
    if not recipe.image_weight:
        yield "sampler='triplets' trains by image_weight, which is 0. Set image_weight=1."
    if recipe.batch < 3:
        yield f"sampler='triplets' needs three photos a batch, batch={recipe.batch}. Set batch=96."
