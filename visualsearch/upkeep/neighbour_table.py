"""A checkpoint's table of neighbours: filled beside the one that is read, and put in its place at once."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import transaction

from visualsearch.models import Checkpoint, SimilarProduct
from visualsearch.tables import copying, keys, partitions
from visualsearch.tables.partitions import database, neighbours_name
from visualsearch.tables.unattached import Unattached
from visualsearch.upkeep.ranking import Nearest

logger = logging.getLogger(__name__)

_PARENT = SimilarProduct._meta.db_table
_STAGING = "visualsearch_staged_neighbour"
_COLUMNS = {
    "source_id": "text",
    "target_id": "text",
    "rank": "smallint",
    "score": "double precision",
    "position": "smallint",
}


@dataclass(frozen=True)
class Lists:
    """The nearest products of some products."""

    product_ids: Sequence[Any]
    """What the numbers in `near` stand for."""
    near: Nearest

    @property
    def sources(self) -> list[Any]:
        return [self.product_ids[number] for number in self.near.sources.tolist()]

    def take(self, rows: slice) -> Lists:
        """Some of them."""
        near = self.near
        return Lists(
            self.product_ids,
            Nearest(
                sources=near.sources[rows],
                targets=near.targets[rows],
                scores=near.scores[rows],
                positions=near.positions[rows],
            ),
        )

    def columns(self, fields: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Source, target, rank, score and position of each pair; `fields`: key of each number."""
        near = self.near
        rows, ranks = np.nonzero(np.isfinite(near.scores))  # else there are no more products
        return [
            fields[near.sources[rows]],
            fields[near.targets[rows, ranks]],
            (ranks + 1).astype(np.int16),
            near.scores[rows, ranks].astype(np.float64),
            near.positions[rows, ranks],
        ]


def stage(cursor: Any, lists: Lists) -> str:
    """A temporary table that holds the lists, keys as text; its name."""
    fields = np.empty(len(lists.product_ids), dtype=object)
    used = np.union1d(lists.near.sources, lists.near.targets)
    used = used[used >= 0]
    fields[used] = keys.as_text([lists.product_ids[number] for number in used.tolist()])
    copying.stage_packed(cursor, _STAGING, _COLUMNS, copying.packed(lists.columns(fields)))
    return _STAGING


def insert(
    cursor: Any,
    table: str,
    checkpoint: Checkpoint,
    *,
    staged: str,
    sources: Sequence[Any] | None = None,
) -> None:
    """Rows of `staged` into `table`, those of `sources` alone if there are any given.

    Products that are deleted meanwhile are left out.
    """
    (products, key), key_type = keys.table_and_column(), keys.sql_type()
    some = "" if sources is None else f" WHERE source.{key} = ANY(%s::{key_type}[])"
    cursor.execute(
        f"INSERT INTO {table} (checkpoint_id, source_id, rank, target_id, score, position) "
        f"SELECT %s, source.{key}, rank, target.{key}, score, position FROM {staged} AS staged "
        f"JOIN {products} AS source ON source.{key} = staged.source_id::{key_type} "
        f"JOIN {products} AS target ON target.{key} = staged.target_id::{key_type}{some}",
        [checkpoint.pk] if sources is None else [checkpoint.pk, keys.prepared(sources)],
    )


class FreshTable:
    """A table that becomes the checkpoint's partition of neighbours when it is complete.

    It has no index and no foreign key while it is filled: with them each row is looked up in both and
    in the products, twice. And the exchange leaves no dead rows behind.
    """

    def __init__(self, checkpoint: Checkpoint, product_ids: Sequence[Any]) -> None:
        self.checkpoint = checkpoint
        self.product_ids = product_ids
        self.fields = keys.binary_column(product_ids)
        name = f"{neighbours_name(checkpoint)}_{uuid.uuid4().hex[:8]}"
        self.table = Unattached(name, _PARENT, checkpoint)

    @property
    def name(self) -> str:
        return self.table.name

    def create(self) -> None:
        """Create it; those that a process left behind that died over them are dropped."""
        partitions.drop_unattached(self.checkpoint)
        self.table.create()

    def append(self, near: Nearest) -> None:
        lists = Lists(self.product_ids, near)
        with transaction.atomic(using=database().alias), database().cursor() as cursor:
            # A crash loses no more than the table, which nobody reads.
            cursor.execute("SET LOCAL synchronous_commit = off")
            if self.fields is None:
                insert(cursor, self.name, self.checkpoint, staged=stage(cursor, lists))
                return
            columns = lists.columns(self.fields)
            checkpoint = np.full(len(columns[0]), self.checkpoint.pk, dtype=np.int64)
            rows = copying.packed([*columns, checkpoint])
            copying.copy_packed(cursor, self.name, [*_COLUMNS, "checkpoint_id"], rows)

    def complete(self) -> None:
        """Build its indexes and foreign keys, those that the parent has.

        Raises TablesBusyError where others hold the products for long.
        """
        self.table.add_keys()
        self.table.add_references(self._delete_gone)

    def put_in_place(self) -> None:
        """Make it the partition; TablesBusyError where others hold the tables for long."""
        self.table.attach(neighbours_name(self.checkpoint), replacing=True)

    def exists(self) -> bool:
        return self.table.exists()

    def drop(self) -> None:
        self.table.drop()

    def _delete_gone(self) -> None:
        """Delete the rows of products that were deleted before there were foreign keys."""
        (table, key), key_type = keys.table_and_column(), keys.sql_type()
        with database().cursor() as cursor:
            cursor.execute(
                f"SELECT pk FROM unnest(%s::{key_type}[]) AS given (pk) "
                f"WHERE NOT EXISTS (SELECT FROM {table} WHERE {key} = pk)",
                [keys.prepared(self.product_ids)],
            )
            gone = keys.prepared(pk for (pk,) in cursor.fetchall())
            for column in ("source_id", "target_id"):
                if gone:
                    cursor.execute(
                        f"DELETE FROM {self.name} WHERE {column} = ANY(%s::{key_type}[])", [gone]
                    )
