"""Embedding rows in Postgres: what is stored, upserts by COPY, removal.

Nothing here makes an editor wait for long or lose a deadlock: products whose row is locked (being
deleted, or held by SELECT FOR UPDATE) are left out and reported, so that the caller tries later.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.core.exceptions import EmptyResultSet
from django.db import IntegrityError, models, transaction

from visualsearch.models import Checkpoint, Embedding, IndexEntry, SimilarProduct
from visualsearch.tables import copying, keys
from visualsearch.tables.partitions import database, partition_name

_EMBEDDING = Embedding._meta.db_table
_ENTRY = IndexEntry._meta.db_table
_SIMILAR = SimilarProduct._meta.db_table
_STAGING = "visualsearch_staged_embedding"
COLUMNS = {  # of the staging table
    "product_id": "text",
    "position": "smallint",
    "image": "text",
    "content_hash": "bytea",
    "version": "bigint",
    "vector": "halfvec",
}
FRESH_COLUMNS = (
    "product_id",
    "position",
    "checkpoint_id",
    "image",
    "content_hash",
    "version",
    "vector",
)
_UNIQUE_VIOLATION = "23505"

Vector = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One embedding to be stored."""

    position: int
    image: str
    content_hash: bytes
    vector: Vector
    """Float of shape [width], length 1."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to become of one product's embeddings by one checkpoint."""

    product_id: Any
    version: int
    """Of the index entry, read before the product was."""
    rows: Sequence[Row]
    """Embeddings that are new, or not as they are stored."""
    positions: Sequence[int]
    """Positions that shall have an embedding afterwards; those at others are deleted."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What is known of an embedding in the table, without its vector."""

    position: int
    image: str
    content_hash: bytes


def stored(
    checkpoints: Collection[Checkpoint], product_ids: Sequence[Any]
) -> Mapping[tuple[int, Any], list[Stored]]:
    """(checkpoint id, product id) -> the embeddings there are."""
    found: defaultdict[tuple[int, Any], list[Stored]] = defaultdict(list)
    rows = Embedding.objects.filter(
        checkpoint_id__in=[checkpoint.pk for checkpoint in checkpoints],
        product_id__in=product_ids,
    ).values_list("checkpoint_id", "product_id", "position", "image", "content_hash")
    for checkpoint_id, product_id, position, image, content_hash in rows.order_by("position"):
        found[checkpoint_id, product_id].append(
            Stored(position=position, image=image, content_hash=bytes(content_hash))
        )
    return found


def vectors(checkpoint: Checkpoint, product_ids: Sequence[Any]) -> dict[tuple[Any, bytes], Vector]:
    """(product id, content hash) -> the stored vector, float32 [width]."""
    rows = Embedding.objects.filter(checkpoint=checkpoint, product_id__in=product_ids)
    return {
        (product_id, bytes(content_hash)): np.asarray(vector, dtype=np.float32)
        for product_id, content_hash, vector in rows.values_list(
            "product_id", "content_hash", "vector"
        )
    }


def spoilt(checkpoint: Checkpoint) -> list[Any]:
    """Products with a vector by `checkpoint` that is not of length 1, of its width, or no number."""
    with database().cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT product_id FROM {partition_name(checkpoint)} "
            "WHERE vector_dims(vector) <> %s OR NOT abs(l2_norm(vector) - 1) < 0.01",
            [checkpoint.width],
        )
        return [pk for (pk,) in cursor.fetchall()]


def write(
    checkpoint: Checkpoint, changes: Sequence[Change], *, lease: uuid.UUID | None = None
) -> set[Any]:
    """Make `changes`, all or nothing for each product; the products whose row was locked just now.

    A writer with a `lease` writes the products that it holds by it and no other: one that was
    frozen until somebody else took its products over changes nothing. Without a lease, a change is
    dropped when its product has moved on to a later version. So is that of a deleted product.
    """
    if not changes:
        return set()
    try:
        return _write(checkpoint, changes, lease=lease, fresh=True)
    except IntegrityError as error:
        if getattr(error.__cause__, "sqlstate", None) != _UNIQUE_VIOLATION:
            raise
        # Another worker has stored one of them since we looked.
        return _write(checkpoint, changes, lease=lease, fresh=False)


def _write(
    checkpoint: Checkpoint, changes: Sequence[Change], *, lease: uuid.UUID | None, fresh: bool
) -> set[Any]:
    """As `write`; with `fresh`, products of which nothing is stored go straight into the table."""
    versions = {change.product_id: change.version for change in changes}
    key_field = keys.binary_field() if fresh else None
    with transaction.atomic(using=database().alias), database().cursor() as cursor:
        # The entry of a product is settled after this, in a transaction that waits for the disk and
        # so for all before it: what a crash takes from here is never noted as done.
        cursor.execute("SET LOCAL synchronous_commit = off")
        free, busy, there = _lock_products(cursor, versions, lease=lease, checkpoint=checkpoint)
        mine = [change for change in changes if change.product_id in free]
        new = [c for c in mine if c.product_id not in there] if key_field else []
        if new and key_field:
            rows = encoded_fresh(checkpoint, new, key_field)
            copying.copy(cursor, _EMBEDDING, FRESH_COLUMNS, rows)
        known = [c for c in mine if c.product_id in there] if key_field else mine
        if known:
            upsert(cursor, checkpoint, known)
    return busy


def upsert(
    cursor: Any, checkpoint: Checkpoint, changes: Sequence[Change], *, table: str = _EMBEDDING
) -> None:
    """Make `changes` where a row may be there already; the later version wins."""
    _drop_surplus(cursor, checkpoint, changes, table)
    copying.stage(cursor, _STAGING, COLUMNS, encoded(changes))
    cursor.execute(
        f"INSERT INTO {table} AS embedding (checkpoint_id, product_id, position, image, "
        "content_hash, version, vector, embedded_at) "
        f"SELECT %s, product_id::{keys.sql_type()}, position, image, content_hash, version, "
        f"vector, clock_timestamp() FROM {_STAGING} ORDER BY 2, 3 "
        "ON CONFLICT (product_id, position, checkpoint_id) DO UPDATE SET "
        "image = EXCLUDED.image, content_hash = EXCLUDED.content_hash, "
        "version = EXCLUDED.version, vector = EXCLUDED.vector, "
        # A file that only has another name was not embedded again.
        "embedded_at = CASE WHEN embedding.content_hash = EXCLUDED.content_hash "
        "THEN embedding.embedded_at ELSE EXCLUDED.embedded_at END "
        "WHERE embedding.version <= EXCLUDED.version",
        [checkpoint.pk],
    )


def remove(versions: Mapping[Any, int], *, lease: uuid.UUID | None = None) -> set[Any]:
    """Delete every embedding of these products by any checkpoint; the ones that were locked.

    `versions` maps product ids to the versions that were read, as in `Change`.
    """
    if not versions:
        return set()
    with transaction.atomic(using=database().alias), database().cursor() as cursor:
        free, busy, _ = _lock_products(cursor, versions, lease=lease)
        cursor.execute(
            f"DELETE FROM {_EMBEDDING} WHERE product_id = ANY(%s::{keys.sql_type()}[])",
            [keys.prepared(free)],
        )
    return busy


def delete_orphans(products: models.QuerySet[Any]) -> int:
    """Delete the embeddings and neighbours of products that are not among `products`."""
    try:
        inner, parameters = products.order_by().values("pk").query.sql_with_params()
    except EmptyResultSet:  # a queryset that Django knows to be empty
        inner, parameters = f"SELECT NULL::{keys.sql_type()}", ()
    gone = "NOT EXISTS (SELECT 1 FROM ({inner}) AS product (pk) WHERE product.pk = {column})"
    deleted = 0
    with database().cursor() as cursor:
        for table, column in (
            (_EMBEDDING, "product_id"),
            (_SIMILAR, "source_id"),
            (_SIMILAR, "target_id"),
        ):
            where = gone.format(inner=inner, column=f"{table}.{column}")
            cursor.execute(f"DELETE FROM {table} WHERE {where}", parameters)
            deleted += cursor.rowcount if table == _EMBEDDING else 0
    return deleted


def _lock_products(
    cursor: Any,
    versions: Mapping[Any, int],
    *,
    lease: uuid.UUID | None,
    checkpoint: Checkpoint | None = None,
) -> tuple[set[Any], set[Any], set[Any]]:
    """Keep products from being deleted until the transaction ends: (ours to write, locked, there).

    Those that are gone, or whose version is no longer ours to write, are in neither of the first
    two. The last are those of which `checkpoint` has an embedding.
    """
    table, key = keys.table_and_column()
    cursor.execute(
        "WITH ours AS MATERIALIZED ("
        f"SELECT given.product_id FROM unnest(%s::{keys.sql_type()}[], %s::bigint[]) "
        "AS given (product_id, version) "
        # OFFSET keeps it a look-up by key: as a join it would read the whole table.
        f"LEFT JOIN LATERAL (SELECT version, lease FROM {_ENTRY} AS each "
        "WHERE each.product_id = given.product_id OFFSET 0) AS entry ON true "
        f"JOIN {table} AS product ON product.{key} = given.product_id "
        "WHERE CASE WHEN %s::uuid IS NULL THEN entry.version IS NULL "
        "OR entry.version = given.version ELSE entry.lease = %s END"
        "), free AS MATERIALIZED ("
        f"SELECT {key} AS pk FROM {table} WHERE {key} = ANY(ARRAY(SELECT product_id FROM ours)) "
        "FOR KEY SHARE SKIP LOCKED) "
        "SELECT ours.product_id, free.pk IS NOT NULL, EXISTS ("
        f"SELECT FROM {_EMBEDDING} AS e WHERE e.checkpoint_id = %s "
        "AND e.product_id = ours.product_id) "
        "FROM ours LEFT JOIN free ON free.pk = ours.product_id",
        [
            keys.prepared(versions),
            list(versions.values()),
            lease,
            lease,
            None if checkpoint is None else checkpoint.pk,
        ],
    )
    found = cursor.fetchall()
    free = {pk for pk, is_free, _ in found if is_free}
    return free, {pk for pk, *_ in found} - free, {pk for pk, _, there in found if there}


def _drop_surplus(
    cursor: Any, checkpoint: Checkpoint, changes: Sequence[Change], table: str
) -> None:
    kept = [(c.product_id, position) for c in changes for position in c.positions]
    cursor.execute(
        f"DELETE FROM {table} WHERE checkpoint_id = %s "
        f"AND product_id = ANY(%s::{keys.sql_type()}[]) AND NOT EXISTS ("
        f"SELECT 1 FROM unnest(%s::{keys.sql_type()}[], %s::int[]) AS kept (product_id, position) "
        f"WHERE kept.product_id = {table}.product_id "
        f"AND kept.position = {table}.position)",
        [
            checkpoint.pk,
            keys.prepared(change.product_id for change in changes),
            keys.prepared(pk for pk, _ in kept),
            [position for _, position in kept],
        ],
    )


def encoded_fresh(
    checkpoint: Checkpoint, changes: Iterable[Change], key_field: Callable[[Any], bytes]
) -> Iterator[list[bytes]]:
    """The rows of `changes` as fields of FRESH_COLUMNS."""
    checkpoint_id = copying.bigint(checkpoint.pk)
    for change in changes:
        key, version = key_field(change.product_id), copying.bigint(change.version)
        for row in change.rows:
            yield [
                key,
                copying.smallint(row.position),
                checkpoint_id,
                copying.text(row.image),
                copying.bytea(row.content_hash),
                version,
                copying.halfvec(row.vector),
            ]


def encoded(changes: Iterable[Change]) -> Iterator[list[bytes]]:
    """The rows of `changes` as fields of COLUMNS."""
    for change in changes:
        for row in change.rows:
            yield [
                copying.text(str(change.product_id)),
                copying.smallint(row.position),
                copying.text(row.image),
                copying.bytea(row.content_hash),
                copying.bigint(change.version),
                copying.halfvec(row.vector),
            ]
