"""The gallery of a checkpoint in memory, whole or in parts, and what changed in the table since."""

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
from visualsearch.tables.partitions import database, partition_name

PART_PHOTOS = 16_384
"""Photos read at a time where the gallery is not held as a whole."""
ROWS_AT_A_TIME = 1000
"""Rows that PostgreSQL sends at once: a few milliseconds of its time."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Every indexed product's vectors by one checkpoint, in memory as they are in the table."""

    product_ids: list[Any]
    starts: npt.NDArray[np.int64]
    """Index of each product's first photo, and the number of photos at the end: [products + 1]."""
    positions: npt.NDArray[np.int16]
    versions: npt.NDArray[np.int64]
    """Of the products, when the photos were embedded."""
    vectors: npt.NDArray[np.float16]
    """[photos, width]; two bytes a number: a million photos of width 256 take half a gigabyte."""

    def __len__(self) -> int:
        return len(self.product_ids)

    def _photos(self, number: int) -> tuple[list[int], list[int]]:
        there = slice(self.starts[number], self.starts[number + 1])
        return self.positions[there].tolist(), self.versions[there].tolist()


def load(
    checkpoint: Checkpoint,
    *,
    product_ids: Collection[Any] | None = None,
    with_vectors: bool = True,
) -> Gallery:
    """The vectors of the products that are in the index now, ordered by product and position.

    With `product_ids`, of those alone.
    """
    with transaction.atomic(using=database().alias):
        rows = _embeddings(checkpoint, product_ids, with_vectors=with_vectors)
        return _gather(rows, width=checkpoint.width if with_vectors else 0)


def parts(checkpoint: Checkpoint) -> Iterator[Gallery]:
    """The same gallery in parts of about PART_PHOTOS photos, whole products each: memory stays flat."""
    with transaction.atomic(using=database().alias):
        rows: list[tuple[Any, int, int, bytes]] = []
        for row in _embeddings(checkpoint, None):
            if len(rows) >= PART_PHOTOS and rows[-1][0] != row[0]:
                yield _gather(rows, width=checkpoint.width)
                rows = []
            rows.append(row)
        if rows:
            yield _gather(rows, width=checkpoint.width)


def differing(before: Gallery, after: Gallery) -> set[Any]:
    """Products whose photos are not the same in both: new, edited or gone. Vectors are not compared."""
    number_of = {pk: number for number, pk in enumerate(before.product_ids)}
    found = set()
    for number, pk in enumerate(after.product_ids):
        other = number_of.pop(pk, None)
        if other is None or after._photos(number) != before._photos(other):
            found.add(pk)
    return found | set(number_of)


def _gather(rows: Iterable[tuple[Any, int, int, bytes]], *, width: int) -> Gallery:
    product_ids: list[Any] = []
    starts: list[int] = []
    positions: list[int] = []
    versions: list[int] = []
    packed = bytearray()
    for product_id, position, version, vector in rows:
        if not product_ids or product_ids[-1] != product_id:
            product_ids.append(product_id)
            starts.append(len(positions))
        positions.append(position)
        versions.append(version)
        packed += vector[4:]  # after its length: the numbers, big-endian
    vectors = np.frombuffer(packed, dtype=">f2").astype(np.float16).reshape(len(positions), width)
    return Gallery(
        product_ids=product_ids,
        starts=np.array([*starts, len(positions)], dtype=np.int64),
        positions=np.array(positions, dtype=np.int16),
        versions=np.array(versions, dtype=np.int64),
        vectors=vectors,
    )


def take(gallery: Gallery, products: npt.NDArray[np.int64]) -> Gallery:
    """Some products of the gallery, in this order."""
    counts = np.diff(gallery.starts)[products]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    photos = np.repeat(gallery.starts[:-1][products] - starts[:-1], counts) + np.arange(starts[-1])
    return Gallery(
        product_ids=[gallery.product_ids[p] for p in products],
        starts=starts,
        positions=gallery.positions[photos],
        versions=gallery.versions[photos],
        vectors=gallery.vectors[photos],
    )


def _embeddings(
    checkpoint: Checkpoint, product_ids: Collection[Any] | None, *, with_vectors: bool = True
) -> Iterator[tuple[Any, int, int, bytes]]:
    """(product, position, version, vector in the binary format), by a cursor on the server."""
    try:
        products = get_index().get_queryset().order_by().values("pk")
        if product_ids is not None:
            products = products.filter(pk__in=list(product_ids))
        inner, parameters = products.query.sql_with_params()
    except EmptyResultSet:
        return
    connection = database()
    connection.ensure_connection()
    vector = "halfvec_send(vector)" if with_vectors else "''::bytea"
    with connection.connection.cursor(name="visualsearch_gallery", binary=True) as cursor:
        cursor.itersize = ROWS_AT_A_TIME
        cursor.execute(
            f"SELECT product_id, position, version, {vector} FROM {partition_name(checkpoint)} "
            f"WHERE product_id IN ({inner}) ORDER BY product_id, position",
            parameters,
        )
        yield from cursor
