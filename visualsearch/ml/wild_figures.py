"""Figures of phone photos: the product's own photo, cropped, lit, on another ground."""

from __future__ import annotations

import numpy as np

from visualsearch.ml import metrics, queries
from visualsearch.ml.judge import Judge
from visualsearch.ml.report import ENCODER
from visualsearch.ml.wild_photos import wild_sets

WILD_QUERIES = 500
"""Each of them is a photo to encode, twice."""


def wild(judge: Judge) -> None:
    """Photos as a shopper would take them: cropped, in other light, on a table."""
    asked = queries.product_queries(
        judge.coded, limit=min(judge.limit, WILD_QUERIES), seed=judge.seed, among=judge.among
    )
    clean = judge.gallery.pixels[judge.gallery.first[asked.products]]
    for name, photos in wild_sets(clean, seed=judge.seed):
        with judge.timed("wild"):
            vectors = judge.encoder.encode_image(photos)
            found = judge.gallery.find(vectors, judge.vectors, asked.products)
        with judge.timed("figures"):
            figures = {
                f"{name} R@1": metrics.hits_at(found.ranks, 1),
                f"{name} R@10": metrics.hits_at(found.ranks, 10),
                f"{name} MRR": metrics.reciprocal(found.ranks),
            }
            for metric, values in figures.items():
                judge.report.add(
                    "wild", metric, ENCODER, values, keys=asked.keys, units=asked.units
                )
        rows = np.arange(len(asked))
        judge.remember("wild", name, asked.products, [], found, rows, photos=photos)
