"""The nearest products of many others, by matrix products in blocks and a bar for each that few scores pass.

A bar is the score of the k-th best so far: one comparison sorts out nearly all scores of a block.
Scores are inner products of unit vectors; of two products with several photos, the best pair counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from visualsearch.upkeep.gallery import Gallery, take

BLOCK_PHOTOS = 1024
"""Photos of the products that are compared with a part at a time."""
PART_PHOTOS = 4096
"""Photos of a part: its scores with a block take 16 MB, which stay in the processor's cache."""
ROOM = 4
"""Times k: candidates that are kept for a product before all but the best k are dropped."""

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The nearest products of some products, best first; all but `sources` [products, k]."""

    sources: Numbers
    """[products]"""
    targets: Numbers
    scores: Floats
    """-inf where there is no product."""
    positions: npt.NDArray[np.int16]
    """Which photo of the target matched."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Products and their photos in layers: the first photos of all, then the second ones, and so on.

    Those with most photos come first, so that a layer is as long as there are products that have
    one, and the best of each product's photos is the maximum of the beginnings of a few arrays.
    """

    numbers: Numbers
    """What the products are called, [products]."""
    layers: tuple[slice, ...]
    """Where the photos of each layer are."""
    vectors: Floats
    """[photos, width]"""
    positions: npt.NDArray[np.int16]

    @classmethod
    def of(cls, gallery: Gallery, numbers: Numbers) -> Part:
        """`numbers` are those of the gallery's products."""
        counts = np.diff(gallery.starts)
        order = np.argsort(-counts, kind="stable")
        photos: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
        layers: list[slice] = []
        for layer in range(int(counts.max(initial=0))):
            there = order[: int((counts > layer).sum())]
            start = layers[-1].stop if layers else 0
            layers.append(slice(start, start + len(there)))
            photos.append(gallery.starts[there] + layer)
        chosen = np.concatenate(photos)
        return cls(
            numbers=numbers[order],
            layers=tuple(layers),
            vectors=gallery.vectors[chosen].astype(np.float32),
            positions=gallery.positions[chosen],
        )


def parts(gallery: Gallery) -> Iterator[Numbers]:
    """The numbers of the products of a gallery in parts of about PART_PHOTOS photos.

    In an order by chance: after the first part the bars are close to where they will end, however
    the catalogue is sorted.
    """
    order = np.random.default_rng(0).permutation(len(gallery))
    ends = np.cumsum(np.diff(gallery.starts)[order])
    return _cut(order, ends, PART_PHOTOS)


def blocks(gallery: Gallery) -> Iterator[Numbers]:
    """The same in blocks of about BLOCK_PHOTOS photos, in the gallery's order."""
    return _cut(np.arange(len(gallery)), gallery.starts[1:], BLOCK_PHOTOS)


def _cut(numbers: Numbers, ends: Numbers, photos: int) -> Iterator[Numbers]:
    """`numbers` in pieces that hold about `photos` photos; `ends`: those up to each and with it."""
    if len(numbers):
        cuts = np.flatnonzero(np.diff((ends - 1) // photos)) + 1
        yield from np.split(numbers, cuts)


def rank(sources: Gallery, numbers: Numbers, parts: Iterable[Part], *, k: int) -> Iterator[Nearest]:
    """The `k` products of all `parts` nearest to each of `sources`, the product itself left out.

    `numbers` are those of the sources; a part's product of the same number is the same product.
    Of `k` below 1 nothing comes.
    """
    if k < 1:
        return
    scratch = Scratch()
    rankings = [Ranking(take(sources, block), numbers[block], k=k) for block in blocks(sources)]
    for part in parts:
        for ranking in rankings:
            ranking.add(part, scratch)
    for ranking in rankings:
        yield ranking.nearest()


class Scratch:
    """Arrays that are used again and again, as the system clears fresh memory page by page."""

    def __init__(self) -> None:
        self._memory: dict[str, npt.NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, int], dtype: type) -> npt.NDArray[Any]:
        """One that holds anything."""
        size = shape[0] * shape[1] * np.dtype(dtype).itemsize
        if name not in self._memory or len(self._memory[name]) < size:
            self._memory[name] = np.empty(size, dtype=np.uint8)
        return self._memory[name][:size].view(dtype).reshape(shape)


class Ranking:
    """The best `k` of the products seen so far, of each of some sources."""

    def __init__(self, sources: Gallery, numbers: Numbers, *, k: int) -> None:
        self.sources = Part.of(sources, numbers)
        self.k = k
        self.room = max(ROOM * k, k + 64)
        shape = (len(sources), self.room)
        self.scores = np.full(shape, -np.inf, dtype=np.float32)
        self.targets = np.full(shape, -1, dtype=np.int64)
        self.positions = np.zeros(shape, dtype=np.int16)
        self.filled = np.zeros(len(sources), dtype=np.int64)
        """Candidates of each source."""
        self.bars = np.full(len(sources), -np.inf, dtype=np.float32)

    def add(self, part: Part, scratch: Scratch) -> None:
        """Compare the sources with the products of one more part."""
        by_photo, scores = self._compare(part, scratch)
        if np.isneginf(self.bars).any():
            rows, columns = self._best(scores)
        else:
            passed = np.greater(
                scores, self.bars[:, None], out=scratch.array("passed", scores.shape, np.bool_)
            )
            rows, columns = np.divmod(np.flatnonzero(passed), scores.shape[1])
            if not self._has_room(rows):
                self._narrow()
                if not self._has_room(rows):
                    rows, columns = self._best(scores)
        self._put(rows, columns, part, by_photo, scores)
        if np.isneginf(self.bars).any():
            self._narrow()

    def nearest(self) -> Nearest:
        self._narrow()
        order = np.lexsort((self.targets, -self.scores), axis=1)[:, : self.k]
        return Nearest(
            sources=self.sources.numbers,
            targets=np.take_along_axis(self.targets, order, axis=1),
            scores=np.take_along_axis(self.scores, order, axis=1),
            positions=np.take_along_axis(self.positions, order, axis=1),
        )

    def _compare(self, part: Part, scratch: Scratch) -> tuple[Floats, Floats]:
        """Scores of the sources with the part's photos, and with its products."""
        shape = (len(self.sources.vectors), len(part.vectors))
        pairs = scratch.array("pairs", shape, np.float32)
        np.matmul(self.sources.vectors, part.vectors.T, out=pairs)
        by_photo = pairs[self.sources.layers[0]]
        for layer in self.sources.layers[1:]:
            some = by_photo[: layer.stop - layer.start]
            np.maximum(some, pairs[layer], out=some)
        scores = by_photo
        if len(part.layers) > 1:
            scores = scratch.array("scores", (len(by_photo), len(part.numbers)), np.float32)
            scores[:] = by_photo[:, part.layers[0]]
            for layer in part.layers[1:]:
                some = scores[:, : layer.stop - layer.start]
                np.maximum(some, by_photo[:, layer], out=some)
        _, mine, theirs = np.intersect1d(
            self.sources.numbers, part.numbers, assume_unique=True, return_indices=True
        )
        scores[mine, theirs] = -np.inf
        return by_photo, scores

    def _best(self, scores: Floats) -> tuple[Numbers, Numbers]:
        """(rows, columns) of the best `k` of each row, whatever the bars."""
        self._narrow()
        k = min(self.k, scores.shape[1])
        found = np.argpartition(scores, -k, axis=1)[:, scores.shape[1] - k :]
        return np.repeat(np.arange(len(scores)), k), found.ravel()

    def _has_room(self, rows: Numbers) -> bool:
        counts = np.bincount(rows, minlength=len(self.filled))
        return bool((self.filled + counts <= self.room).all())

    def _put(
        self, rows: Numbers, columns: Numbers, part: Part, by_photo: Floats, scores: Floats
    ) -> None:
        """Add candidates, `rows` ascending."""
        counts = np.bincount(rows, minlength=len(self.filled))
        starts = np.cumsum(counts) - counts
        places = np.arange(len(rows)) + (self.filled - starts)[rows]
        self.scores[rows, places] = scores[rows, columns]
        self.targets[rows, places] = part.numbers[columns]
        self.positions[rows, places] = part.positions[_photos(rows, columns, part, by_photo)]
        self.filled += counts

    def _narrow(self) -> None:
        """Drop all but the best `k`, and set the bars anew."""
        found = np.argpartition(self.scores, -self.k, axis=1)[:, self.room - self.k :]
        for kept in (self.scores, self.targets, self.positions):
            kept[:, : self.k] = np.take_along_axis(kept, found, axis=1)
        self.scores[:, self.k :] = -np.inf
        self.filled[:] = self.k  # those that there are not have the score -inf
        self.bars = self.scores[:, : self.k].min(axis=1)


def _photos(rows: Numbers, columns: Numbers, part: Part, by_photo: Floats) -> Numbers:
    """Which of the part's photos gives the score; of equal ones the first."""
    photos = columns
    if len(part.layers) > 1:
        photos, best = columns.copy(), by_photo[rows, columns]
        for layer in part.layers[1:]:
            there = np.flatnonzero(columns < layer.stop - layer.start)
            others = columns[there] + layer.start
            score = by_photo[rows[there], others]
            better = score > best[there]
            photos[there[better]] = others[better]
            best[there[better]] = score[better]
    return photos
