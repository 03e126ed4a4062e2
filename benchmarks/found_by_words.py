"""Whether "red dress" finds red dresses: precision of vectors alone, by words that say colour and kind."""

from __future__ import annotations

from typing import Any

import numpy as np

K = 10
LEAST = 10
"""Products of a colour and kind that there have to be, so that ten can be right."""


def measure(checkpoint: Any) -> dict[str, Any]:
    """P@10 of kind, colour and both over the catalogue that `checkpoint` has embedded, beside chance.

    Every vector is compared: this is about the encoder, whatever its index finds. Without queries
    where the catalogue is too small, or the encoder reads no text.
    """
    from shop.drawing.kinds import KINDS
    from shop.models import Product
    from visualsearch import encoding
    from visualsearch.exceptions import VisualSearchError
    from visualsearch.upkeep import gallery as galleries

    gallery = galleries.load(checkpoint)
    rows = Product.objects.values_list("pk", "colour", "attributes__kind")
    shown = {pk: (colour, kind) for pk, colour, kind in rows}
    colours, kinds = np.array([shown[pk] for pk in gallery.product_ids]).T
    pairs, counts = np.unique(np.stack([colours, kinds]), axis=1, return_counts=True)
    asked = [
        (colour, kind) for (colour, kind), n in zip(pairs.T, counts, strict=True) if n >= LEAST
    ]
    texts = [f"{colour} {KINDS[kind].noun}" for colour, kind in asked]
    try:
        queries = encoding.bulk_encoder(checkpoint).encode_text(texts) if texts else []
    except VisualSearchError:
        queries = []
    if not len(queries):
        return {"queries": 0}
    vectors = gallery.vectors[gallery.starts[:-1]].astype(np.float32)
    right: dict[str, list[float]] = {"kind": [], "colour": [], "both": []}
    chance: dict[str, list[float]] = {"kind": [], "colour": [], "both": []}
    for (colour, kind), query in zip(asked, queries, strict=True):
        nearest = np.argpartition(-(vectors @ query), K - 1)[:K]
        is_right = {"kind": kinds == kind, "colour": colours == colour}
        is_right["both"] = is_right["kind"] & is_right["colour"]
        for what, each in is_right.items():
            right[what].append(float(each[nearest].mean()))
            chance[what].append(float(each.mean()))
    return {
        "queries": len(asked),
        "precision_at_10": {what: round(float(np.mean(each)), 3) for what, each in right.items()},
        "chance": {what: round(float(np.mean(each)), 3) for what, each in chance.items()},
    }
