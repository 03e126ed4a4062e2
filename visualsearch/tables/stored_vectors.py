"""Vectors of products' photos, read from the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import models

from visualsearch.models import Checkpoint, Embedding

Vector = npt.NDArray[np.float32]

MOST_PHOTOS = 8
"""Photos of one product that are searched with: each costs a scan of its own."""


def of_product(checkpoint: Checkpoint, product: models.Model) -> Vector | None:
    """float32 [photos, width] of the product, the main photo first; None while not indexed."""
    rows = Embedding.objects.filter(checkpoint=checkpoint, product_id=product.pk)
    found = list(rows.order_by("position").values_list("vector", flat=True)[:MOST_PHOTOS])
    if not found:
        return None
    return np.stack([_as_array(vector) for vector in found])


def any_of(checkpoint: Checkpoint) -> Vector:
    """float32 [width]: one of those stored, else zeros; to ask how Postgres would search."""
    row = Embedding.objects.filter(checkpoint=checkpoint).values_list("vector", flat=True).first()
    if row is None:
        return np.zeros(checkpoint.width, dtype=np.float32)
    return _as_array(row)


def of_main_photos(checkpoint: Checkpoint, products: Sequence[models.Model]) -> dict[Any, Vector]:
    """Product id -> float32 [width] of its first photo, for the products that have one."""
    if not products:
        return {}
    rows = Embedding.objects.filter(
        checkpoint=checkpoint, product_id__in=[product.pk for product in products]
    )
    first = rows.order_by("product_id", "-position").values_list("product_id", "vector")
    return {pk: _as_array(vector) for pk, vector in first}


def of_photos(
    checkpoint: Checkpoint, photos: Sequence[tuple[Any, int]]
) -> dict[tuple[Any, int], Vector]:
    """(product id, position) -> float32 [width], for the photos that are there."""
    if not photos:
        return {}
    rows = Embedding.objects.filter(
        checkpoint=checkpoint, product_id__in={product_id for product_id, _ in photos}
    )
    wanted = set(photos)
    return {
        (pk, position): _as_array(vector)
        for pk, position, vector in rows.values_list("product_id", "position", "vector")
        if (pk, position) in wanted
    }


def _as_array(vector: Any) -> Vector:
    return np.asarray(vector.to_list() if hasattr(vector, "to_list") else vector, dtype=np.float32)
