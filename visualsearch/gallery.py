"""The gallery of a checkpoint in memory, and the nearest products by exact comparison, in blocks.

Scores are inner products of unit vectors; of two products with several photos, the best pair counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.core.exceptions import EmptyResultSet
from django.db import transaction

from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint
from visualsearch.partitions import database, partition_name

BLOCK_BYTES = 64 * 1024 * 1024
"""Size of one block of scores."""
PART_PHOTOS = 16_384
"""Photos read at a time where the gallery is not held as a whole."""
BLOCK_PRODUCTS = 1024
"""Products in one block at most."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Every indexed product's vectors by one checkpoint, in memory as they are in the table."""

    product_ids: list[Any]
    starts: npt.NDArray[np.int64]
    """Index of each product's first photo, and the number of photos at the end: [products + 1]."""
    positions: npt.NDArray[np.int16]
    vectors: npt.NDArray[np.float16]
    """[photos, width]; two bytes a number: a million photos of width 256 take half a gigabyte."""

    def __len__(self) -> int:
        return len(self.product_ids)


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The nearest products of some products, best first; all [products, k]."""

    targets: npt.NDArray[np.int64]
    """Indices into the gallery."""
    scores: npt.NDArray[np.float32]
    positions: npt.NDArray[np.int16]
    """Which photo of the target matched."""


def load(checkpoint: Checkpoint, *, product_ids: Collection[Any] | None = None) -> Gallery:
    """The vectors of the products that are in the index now, ordered by product and position.

    With `product_ids`, of those alone.
    """
    with transaction.atomic(using=database().alias):
        return _gather(_embeddings(checkpoint, product_ids), width=checkpoint.width)


def parts(checkpoint: Checkpoint) -> Iterator[Gallery]:
    """The same gallery in parts of about PART_PHOTOS photos, whole products each: memory stays flat."""
    with transaction.atomic(using=database().alias):
        rows: list[tuple[Any, int, bytes]] = []
        for row in _embeddings(checkpoint, None):
            if len(rows) >= PART_PHOTOS and rows[-1][0] != row[0]:
                yield _gather(rows, width=checkpoint.width)
                rows = []
            rows.append(row)
        if rows:
            yield _gather(rows, width=checkpoint.width)


def _gather(rows: Iterable[tuple[Any, int, bytes]], *, width: int) -> Gallery:
    product_ids: list[Any] = []
    starts: list[int] = []
    positions: list[int] = []
    packed = bytearray()
    for product_id, position, vector in rows:
        if not product_ids or product_ids[-1] != product_id:
            product_ids.append(product_id)
            starts.append(len(positions))
        positions.append(position)
        packed += vector[4:]  # after its length: the numbers, big-endian
    vectors = np.frombuffer(packed, dtype=">f2").astype(np.float16).reshape(-1, width)
    return Gallery(
        product_ids=product_ids,
        starts=np.array([*starts, len(positions)], dtype=np.int64),
        positions=np.array(positions, dtype=np.int16),
        vectors=vectors,
    )


def blocks(gallery: Gallery, sources: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """`sources` in parts whose scores fit into BLOCK_BYTES."""
    photos = max(1, len(gallery.positions))
    average = photos / max(1, len(gallery))
    at_a_time = max(1, min(BLOCK_PRODUCTS, int(BLOCK_BYTES / (4 * photos * average))))
    for start in range(0, len(sources), at_a_time):
        yield sources[start : start + at_a_time]


def nearest(gallery: Gallery, sources: npt.NDArray[np.int64], *, k: int) -> Nearest:
    """The `k` products nearest to each of `sources` (indices into the gallery), itself left out."""
    k = max(0, min(k, len(gallery) - 1))
    return nearest_to(take(gallery, sources), gallery, own=sources, k=k)


def take(gallery: Gallery, products: npt.NDArray[np.int64]) -> Gallery:
    """Some products of the gallery, in this order."""
    counts = np.diff(gallery.starts)[products]
    photos = np.concatenate(
        [np.arange(gallery.starts[p], gallery.starts[p + 1]) for p in products]
        or [np.zeros(0, dtype=np.int64)]
    )
    return Gallery(
        product_ids=[gallery.product_ids[p] for p in products],
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        positions=gallery.positions[photos],
        vectors=gallery.vectors[photos],
    )


def nearest_to(
    sources: Gallery, gallery: Gallery, *, own: npt.NDArray[np.int64], k: int
) -> Nearest:
    """The `k` products of the gallery nearest to each of `sources`.

    `own` is each source's index in the gallery, or -1; its score with itself is -inf.
    """
    k = max(0, min(k, len(gallery)))
    counts = np.diff(gallery.starts)
    # [photos of the sources, photos]
    pairs = _product(sources.vectors.astype(np.float32), gallery.vectors)
    firsts = sources.starts[:-1]
    several = len(sources.positions) > len(sources)
    by_photo = np.maximum.reduceat(pairs, firsts, axis=0) if several else pairs
    single = len(gallery.positions) == len(gallery)
    scores = by_photo if single else np.maximum.reduceat(by_photo, gallery.starts[:-1], axis=1)
    there = np.flatnonzero(own >= 0)
    scores[there, own[there]] = -np.inf
    found = np.argpartition(scores, -k, axis=1)[:, scores.shape[1] - k :]
    best = np.take_along_axis(scores, found, axis=1)
    # Equal scores in the order of the catalogue, so that the same vectors give the same lists.
    order = np.lexsort((found, -best), axis=1)
    targets = np.take_along_axis(found, order, axis=1)
    photo = gallery.starts[targets]
    if not single:
        best_photo = np.take_along_axis(by_photo, photo, axis=1)
        for offset in range(1, int(counts.max(initial=1))):
            other = gallery.starts[targets] + offset
            has = offset < counts[targets]
            score = np.take_along_axis(by_photo, np.where(has, other, 0), axis=1)
            better = has & (score > best_photo)
            photo = np.where(better, other, photo)
            best_photo = np.where(better, score, best_photo)
    return Nearest(
        targets=targets,
        scores=np.take_along_axis(best, order, axis=1),
        positions=gallery.positions[photo],
    )


def _product(
    queries: npt.NDArray[np.float32], vectors: npt.NDArray[np.float16]
) -> npt.NDArray[np.float32]:
    """queries @ vectors.T, turning only a part of the vectors into float32 at a time."""
    scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
    for start in range(0, len(vectors), 65_536):
        part = vectors[start : start + 65_536].astype(np.float32)
        np.matmul(queries, part.T, out=scores[:, start : start + len(part)])
    return scores


def _embeddings(
    checkpoint: Checkpoint, product_ids: Collection[Any] | None
) -> Iterator[tuple[Any, int, bytes]]:
    """(product, position, vector in the binary format), by a cursor on the server."""
    try:
        products = get_index().get_queryset().order_by().values("pk")
        if product_ids is not None:
            products = products.filter(pk__in=list(product_ids))
        inner, parameters = products.query.sql_with_params()
    except EmptyResultSet:
        return
    connection = database()
    connection.ensure_connection()
    with connection.connection.cursor(name="visualsearch_gallery", binary=True) as cursor:
        cursor.itersize = 5000
        cursor.execute(
            f"SELECT product_id, position, halfvec_send(vector) FROM {partition_name(checkpoint)} "
            f"WHERE product_id IN ({inner}) ORDER BY product_id, position",
            parameters,
        )
        yield from cursor
