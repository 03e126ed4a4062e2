"""Searches all photos of a catalogue by brute force, and says how far down the right ones stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visualsearch.ml import metrics
from visualsearch.ml.coding import Codes, fulfils
from visualsearch.ml.data import Catalogue

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TOP = 10
SCORES_AT_A_TIME = 4_000_000
"""Scores in memory: four thousand queries in a hundred thousand products would be 1.6 GB."""


@dataclass(frozen=True)
class Found:
    """What Q queries found; indices are of products."""

    ranks: Floats
    # [Q] of the first right product, from 1; inf where there is none
    top: Indices
    # [Q, TOP] best first
    is_right: Bools
    # [Q, TOP]
    right: Indices
    # [Q] how many products are right
    best: Indices
    # [Q] the right product that stands first; -1 where there is none

    def take(self, rows: Indices) -> Found:
        """Some of the queries."""
        return Found(
            self.ranks[rows], self.top[rows], self.is_right[rows], self.right[rows], self.best[rows]
        )

    @property
    def precision(self) -> Floats:
        """Share of right products among the first ten."""
        shares: Floats = self.is_right.mean(axis=1)
        return shares

    @property
    def recall(self) -> Floats:
        """Share of the right products among the first ten, of those that can be there."""
        possible = np.clip(self.right, 1, self.top.shape[1])
        shares: Floats = self.is_right.sum(axis=1) / possible
        return shares


class Gallery:
    """All photos of a catalogue in one array, and which belong to which product."""

    def __init__(self, catalogue: Catalogue, codes: Codes) -> None:
        rows = [row for item in catalogue.items for row in item.images]
        counts = [len(item.images) for item in catalogue.items]
        self.pixels: npt.NDArray[np.uint8] = np.asarray(catalogue.pixels[rows])
        self.first = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        # [N] the row of each product's first photo
        self.codes = codes

    def __len__(self) -> int:
        return len(self.first)

    def scores(self, query: Vectors, vectors: Vectors) -> Vectors:
        """Cosines of queries [Q, d] with products [Q, N]: the best photo counts."""
        photos = query @ vectors.T
        if len(self.first) == photos.shape[1]:
            return photos
        best: Vectors = np.maximum.reduceat(photos, self.first, axis=1)
        return best

    def search(
        self,
        query: Vectors,
        vectors: Vectors,
        wanted: Mapping[str, Codes],
        *,
        excluded: Indices | None = None,
        codes: Codes | None = None,
    ) -> dict[str, Found]:
        """Searches the photos' `vectors` [P, d] once and judges by several requirements [Q, C].

        `excluded` [Q]: a product that is neither shown nor right for that query. `codes` [N, C]:
        what is required of, if not the catalogue's own.
        """
        parts: dict[str, list[Found]] = {name: [] for name in wanted}
        for rows, scores in self._scored(query, vectors):
            out = None if excluded is None else self._one_hot(excluded[rows])
            top = metrics.top_indices(scores, TOP, out)
            for name, requirements in wanted.items():
                right = fulfils(requirements[rows], self.codes if codes is None else codes)
                parts[name].append(_judged(scores, top, right, out))
        return {name: _joined(found) for name, found in parts.items()}

    def find(self, query: Vectors, vectors: Vectors, products: Indices) -> Found:
        """As `search`, where one product is right for each query."""
        parts = []
        for rows, scores in self._scored(query, vectors):
            top = metrics.top_indices(scores, TOP)
            parts.append(_judged(scores, top, self._one_hot(products[rows]), None))
        return _joined(parts)

    def _scored(self, query: Vectors, vectors: Vectors) -> Iterator[tuple[slice, Floats]]:
        step = max(1, SCORES_AT_A_TIME // max(1, len(self)))
        for start in range(0, max(1, len(query)), step):
            rows = slice(start, start + step)
            scores = self.scores(query[rows], vectors)
            yield rows, np.where(np.isnan(scores), -np.inf, scores)

    def _one_hot(self, products: Indices) -> Bools:
        mask: Bools = products[:, None] == np.arange(len(self))[None, :]
        return mask


def _judged(scores: Floats, top: Indices, right: Bools, out: Bools | None) -> Found:
    if out is not None:
        right = right & ~out
    count = right.sum(axis=1)
    best = np.where(right, scores, -np.inf).argmax(axis=1)
    return Found(
        metrics.first_ranks(scores, right, out),
        top,
        np.take_along_axis(right, top, axis=1),
        count,
        np.where(count > 0, best, -1),
    )


def _joined(parts: list[Found]) -> Found:
    return Found(
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.top for part in parts]),
        np.concatenate([part.is_right for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.best for part in parts]),
    )
