"""The batches that a recipe trains on: clusters of variants with their texts, or triplets of photos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.hard_negatives import Nearest
from visualsearch.ml.pairs import Batch, batches
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.sentence_triplets import with_triplets
from visualsearch.ml.siamese import triplet_batches


def draw(
    coded: CodedCatalogue,
    recipe: Recipe,
    *,
    size: int,
    rng: np.random.Generator,
    nearest: Nearest | None = None,
) -> Iterator[Batch]:
    """Batches of about `size` photos without end, as `recipe.sampler` says.

    `nearest`: what hard negatives are chosen by.
    """
    if recipe.sampler == "triplets":
        return triplet_batches(
            coded,
            size=size,
            in_class_negatives=recipe.in_class_negatives,
            wild_views=recipe.wild_views,
            rng=rng,
        )
    own = batches(
        coded,
        size=size,
        second_views=recipe.second_views,
        kind_pairs=recipe.kind_pairs,
        title_pairs=recipe.title_pairs,
        wild_views=recipe.wild_views,
        wild_photos=recipe.wild_photos,
        reads_text=recipe.text != "none",
        two_texts=recipe.texts == "two",
        hard_negatives=recipe.hard_negatives,
        nearest=nearest,
        rng=rng,
    )
    if coded.catalogue.triplets and recipe.text != "none":
        return with_triplets(coded, own, size=size, rng=rng)
    return own
