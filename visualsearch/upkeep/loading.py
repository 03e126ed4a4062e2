"""A checkpoint's first embeddings: written into a table of their own, which then becomes its partition.

Nobody searches a checkpoint that has no embeddings yet, so they need no lock and no look at each
product while they are written. What happened to the products meanwhile is made good afterwards:
those that were deleted lose their rows before the table is attached, and those that changed have a
later version than their rows, which `indexing.embed_checkpoint` looks for when it is.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, ProgrammingError, transaction

from visualsearch.exceptions import TablesBusyError
from visualsearch.models import Checkpoint, Embedding
from visualsearch.tables import copying, keys, partitions
from visualsearch.tables.partitions import database, loading_name, partition_name
from visualsearch.tables.unattached import Unattached
from visualsearch.upkeep import storing
from visualsearch.upkeep.storing import Change

logger = logging.getLogger(__name__)

PRODUCTS_AT_A_TIME = 10_000
_UNDEFINED_TABLE = "42P01"


def begin(checkpoint: Checkpoint) -> Any:
    """Create the table, unless an attempt before this one did; the last product in it, or None.

    Products are written in the order of their keys.
    """
    table = _table(checkpoint)
    if not table.exists():
        table.create(with_keys=True)
    with database().cursor() as cursor:
        cursor.execute(f"SELECT product_id FROM {table.name} ORDER BY product_id DESC LIMIT 1")
        row = cursor.fetchone()
    return row[0] if row else None


def append(
    checkpoint: Checkpoint, changes: Sequence[Change], *, lease: uuid.UUID | None = None
) -> set[Any]:
    """As `storing.write`, into the table; nobody's lock is in the way.

    Once the table is a partition, because another process has gone on with it, they go there.
    """
    try:
        _append(checkpoint, changes, fresh=True)
    except IntegrityError:  # another process has written some of these
        _append(checkpoint, changes, fresh=False)
    except ProgrammingError as error:
        if getattr(error.__cause__, "sqlstate", None) != _UNDEFINED_TABLE:
            raise
        return storing.write(checkpoint, changes, lease=lease)
    return set()


def attach(checkpoint: Checkpoint) -> None:
    """Make the table the checkpoint's partition of embeddings.

    That locks the products for a moment. Where others read them for long, a dump for one, its rows
    go into a partition that was made empty, with which nobody is in the way of anybody.
    Raises TablesBusyError where others write to the products for long.
    """
    table = _table(checkpoint)
    table.add_references(lambda: _delete_gone(table.name))
    try:
        table.attach(partition_name(checkpoint), replacing=False)
    except TablesBusyError as error:
        logger.warning("The embeddings are copied row by row: %s", error)
        partitions.create(checkpoint)
        _copy_rows(checkpoint, table.name)
        with contextlib.suppress(TablesBusyError):  # then it goes when the checkpoint does
            table.drop()


def _append(checkpoint: Checkpoint, changes: Sequence[Change], *, fresh: bool) -> None:
    table, key_field = loading_name(checkpoint), keys.binary_field()
    with transaction.atomic(using=database().alias), database().cursor() as cursor:
        # To attach the table waits for the disk, and so for all before it; of what a crash takes
        # before that, the products are embedded again.
        cursor.execute("SET LOCAL synchronous_commit = off")
        if fresh and key_field:
            rows = storing.encoded_fresh(checkpoint, changes, key_field)
            copying.copy(cursor, table, storing.FRESH_COLUMNS, rows)
        else:
            storing.upsert(cursor, checkpoint, changes, table=table)


def _copy_rows(checkpoint: Checkpoint, table: str) -> None:
    (products, key), key_type = keys.table_and_column(), keys.sql_type()
    columns = ", ".join((*storing.FRESH_COLUMNS, "embedded_at"))
    last = None
    while True:
        with database().cursor() as cursor:
            cursor.execute(
                f"SELECT DISTINCT product_id FROM {table} "
                f"WHERE %s::{key_type} IS NULL OR product_id > %s ORDER BY product_id LIMIT %s",
                [last, last, PRODUCTS_AT_A_TIME],
            )
            some = [pk for (pk,) in cursor.fetchall()]
            if not some:
                return
            cursor.execute(
                f"INSERT INTO {partition_name(checkpoint)} ({columns}) "
                f"SELECT {columns} FROM {table} JOIN {products} AS product "
                f"ON product.{key} = product_id WHERE product_id = ANY(%s::{key_type}[]) "
                "FOR KEY SHARE OF product ON CONFLICT DO NOTHING",
                [keys.prepared(some)],
            )
        (last,) = keys.prepared(some[-1:])


def _delete_gone(table: str) -> None:
    products, key = keys.table_and_column()
    with database().cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {table} WHERE NOT EXISTS "
            f"(SELECT FROM {products} AS product WHERE product.{key} = {table}.product_id)"
        )


def _table(checkpoint: Checkpoint) -> Unattached:
    return Unattached(loading_name(checkpoint), Embedding._meta.db_table, checkpoint)
