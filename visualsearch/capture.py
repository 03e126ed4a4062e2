"""Row triggers that note every catalogue change in the transaction that makes it.

Signals miss bulk_create(), update(), loaddata and raw SQL; a trigger sees them all. It raises
the version of the product's IndexEntry and opens it; the content hash decides later whether
anything has to be embedded. A delete needs no trigger: the entry and the embeddings cascade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from visualsearch.indexes import VisualIndex, resolve_path
from visualsearch.models import IndexEntry

FUNCTION = "visualsearch_note_change"
TRIGGER = "visualsearch_capture"

# TG_ARGV[0] is the column that holds the product's key. A row that moves from one product to
# another notes both. *= compares rows byte for byte: unlike =, it takes columns of every type
# (json and xml have no =, and the shop's UPDATE would fail). The join with the product table
# drops keys of products that are being deleted in the same transaction, whose entries may not
# come back. It finds its tables whatever the search_path of the session that writes (pg_restore
# has none): else that session's write would fail. What rests for a moment after a storm of edits
# (claiming.STORM_SECONDS) goes on resting; what waits for longer to be tried again does not.
_FUNCTION_SQL = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $body$
DECLARE
    before text;
    after text;
BEGIN
    IF TG_OP = 'UPDATE' AND OLD *= NEW THEN RETURN NULL; END IF;
    IF TG_OP <> 'INSERT' THEN before := to_jsonb(OLD) ->> TG_ARGV[0]; END IF;
    IF TG_OP <> 'DELETE' THEN after := to_jsonb(NEW) ->> TG_ARGV[0]; END IF;
    INSERT INTO {entry} AS entry (product_id)
        SELECT product.{key} FROM {product} AS product
        WHERE product.{key} IN (CAST(before AS {key_type}), CAST(after AS {key_type}))
        ORDER BY product.{key}
    ON CONFLICT (product_id) DO UPDATE SET
        version = entry.version + 1, status = 'pending', attempts = 0,
        error_code = '', error = '',
        available_at = LEAST(statement_timestamp() + interval '1 second',
            GREATEST(statement_timestamp(), entry.available_at)),
        changed_at = statement_timestamp();
    RETURN NULL;
END
$body$
"""

_TRIGGER_SQL = """
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION {function}('{column}')
"""


@dataclass(frozen=True, kw_only=True)
class CapturedTable:
    """One table whose rows belong to a product."""

    table: str
    column: str
    """Column that holds the key of the product."""


def captured_tables(index: VisualIndex) -> list[CapturedTable]:
    """The product's table, and those of `VisualIndex.related`."""
    meta = index.model._meta
    tables = [CapturedTable(table=meta.db_table, column=str(meta.pk.column))]
    for accessor in index.related:
        relation = resolve_path(index.model, accessor)[-1]
        model: type[models.Model] = relation.related_model  # type: ignore[assignment]
        foreign_key: Any = model._meta.get_field(index.related[accessor])
        tables.append(CapturedTable(table=model._meta.db_table, column=str(foreign_key.column)))
    return tables


def install(index: VisualIndex, *, using: str = "default") -> None:
    """Create or replace the triggers, and open an entry for products that have none yet."""
    connection = connections[using]
    quote = connection.ops.quote_name
    pk = index.model._meta.pk
    with connection.cursor() as cursor:
        cursor.execute(
            _FUNCTION_SQL.format(
                function=FUNCTION,
                entry=quote(IndexEntry._meta.db_table),
                product=quote(index.model._meta.db_table),
                key=quote(str(pk.column)),
                key_type=pk.rel_db_type(connection),
            )
        )
        for captured in captured_tables(index):
            cursor.execute(
                _TRIGGER_SQL.format(
                    trigger=TRIGGER,
                    table=quote(captured.table),
                    function=FUNCTION,
                    column=captured.column.replace("'", "''"),
                )
            )
    open_missing_entries(index, using=using)


def remove(index: VisualIndex, *, using: str = "default") -> None:
    """Take the triggers and their function out of the database."""
    connection = connections[using]
    with connection.cursor() as cursor:
        for captured in captured_tables(index):
            table = connection.ops.quote_name(captured.table)
            cursor.execute(f"DROP TRIGGER IF EXISTS {TRIGGER} ON {table}")
        cursor.execute(f"DROP FUNCTION IF EXISTS {FUNCTION}()")


def missing_triggers(index: VisualIndex, *, using: str = "default") -> list[str]:
    """Tables that should have the trigger and have none, or a disabled one."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text FROM pg_trigger "
            "WHERE tgname = %s AND tgenabled <> 'D' AND NOT tgisinternal",
            [TRIGGER],
        )
        present = {name.strip('"') for (name,) in cursor.fetchall()}
    return [c.table for c in captured_tables(index) if c.table not in present]


def open_missing_entries(index: VisualIndex, *, using: str = "default") -> int:
    """Open an entry for every product without one; the number opened.

    For products that are older than the triggers.
    """
    connection: BaseDatabaseWrapper = connections[using]
    quote = connection.ops.quote_name
    key, table = quote(str(index.model._meta.pk.column)), quote(index.model._meta.db_table)
    entry = quote(IndexEntry._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {entry} (product_id) SELECT p.{key} FROM {table} p "
            f"LEFT JOIN {entry} e ON e.product_id = p.{key} WHERE e.product_id IS NULL "
            "ON CONFLICT DO NOTHING"
        )
        return int(cursor.rowcount)
