"""Why a product is a hit: the parts of its score, what it has in common, which photo matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import models

from visualsearch.indexes import VisualIndex
from visualsearch.models import Checkpoint
from visualsearch.search.query_vector import QueryVector
from visualsearch.search.results import Match
from visualsearch.tables import stored_vectors
from visualsearch.tables.deadlines import bounded
from visualsearch.tables.stored_vectors import Vector


@dataclass(frozen=True, kw_only=True)
class ScorePart:
    """What one part of the query adds to the score."""

    field: str
    label: str
    weight: float
    cosine: float
    """Of this part alone and the photo that matched."""
    adds: float
    """Its share of the score; the shares of all parts sum up to it."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a product is a hit."""

    parts: tuple[ScorePart, ...]
    position: int | None
    """Which photo matched."""
    by_vector: int | None
    by_words: int | None
    is_code: bool
    shared: dict[str, str]
    """Attributes that it shares with the product that was asked about."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "parts": [
                {
                    "field": part.field,
                    "label": part.label,
                    "weight": round(part.weight, 4),
                    "cosine": round(part.cosine, 4),
                    "adds": round(part.adds, 4),
                }
                for part in self.parts
            ],
            "photo": self.position,
            "place_by_vector": self.by_vector,
            "place_by_words": self.by_words,
            "exact_code": self.is_code,
            "shared_attributes": self.shared,
        }


def explain(
    matches: Sequence[Match],
    *,
    index: VisualIndex,
    checkpoint: Checkpoint | None,
    asked: QueryVector | None,
    reference: models.Model | None,
    products: Sequence[models.Model],
) -> list[Explanation]:
    """An explanation for each of `matches`, whose products are `products`; one query."""
    photos: dict[tuple[Any, int], Vector] = {}
    if checkpoint is not None and asked is not None:
        wanted = [(m.product_id, m.position) for m in matches if m.position is not None]
        with bounded():
            photos = stored_vectors.of_photos(checkpoint, wanted)
    own = _attributes(index, reference) if reference is not None else {}
    found = []
    for match, product in zip(matches, products, strict=True):
        photo = photos.get((match.product_id, match.position or 0))
        theirs = _attributes(index, product) if own else {}
        found.append(
            Explanation(
                parts=() if photo is None or asked is None else _parts(asked, photo),
                position=match.position,
                by_vector=match.by_vector,
                by_words=match.by_words,
                is_code=match.is_code,
                shared={name: value for name, value in own.items() if theirs.get(name) == value},
            )
        )
    return found


def _parts(asked: QueryVector, photo: Vector) -> tuple[ScorePart, ...]:
    if asked.vector.ndim == 2:  # a product alone: the nearest of its photos is what counts
        cosine = float(np.max(asked.vector @ photo))
        (part,) = asked.parts
        return (
            ScorePart(field=part.field, label=part.label, weight=1.0, cosine=cosine, adds=cosine),
        )
    total = np.sum([part.weight * part.vector for part in asked.parts], axis=0)
    length = float(np.linalg.norm(total))
    return tuple(
        ScorePart(
            field=part.field,
            label=part.label,
            weight=part.weight,
            cosine=(cosine := float(part.vector @ photo)),
            adds=part.weight * cosine / length,
        )
        for part in asked.parts
    )


def _attributes(index: VisualIndex, product: models.Model) -> dict[str, str]:
    attributes = dict(index.get_attributes(product))
    if label := index.get_label(product):
        attributes.setdefault("kind", label)
    return attributes
