"""Triggers that note every catalogue change in the transaction that makes it.

Signals miss bulk_create(), update(), loaddata and raw SQL; a trigger sees them all. It raises
the version of the product's IndexEntry and opens it; the content hash decides later whether
anything has to be embedded. A delete needs no trigger: the entry and the embeddings cascade.
TRUNCATE, of which no row trigger hears, has one of its own that opens every product's entry.

The product's own rows, and those of `VisualIndex.related`, have row triggers. Tables further away
(a brand, a category) have triggers that find the products they say something of: see reach.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from visualsearch.indexes import VisualIndex, resolve_path
from visualsearch.models import IndexEntry
from visualsearch.tables import reach

FUNCTION = "visualsearch_note_change"
TRIGGER = "visualsearch_capture"
TRUNCATE_FUNCTION = "visualsearch_note_truncate"
TRUNCATE_TRIGGER = "visualsearch_capture_truncate"

# Opens the entries of some products. The query of the product table drops the keys of products that
# are being deleted in the same transaction, whose entries may not come back; the order keeps two
# editors from a deadlock. What rests for a moment after a storm of edits (claiming.STORM_SECONDS)
# goes on resting; what waits for longer to be tried again does not.
_OPEN_SQL = """
INSERT INTO {entry} AS entry (product_id)
    SELECT product.{key} FROM {product} AS product WHERE product.{key} IN ({{keys}})
    ORDER BY product.{key}
ON CONFLICT (product_id) DO UPDATE SET
    version = entry.version + 1, status = 'pending', attempts = 0, crashes = 0, error_code = '',
    error = '',
    available_at = LEAST(statement_timestamp() + interval '1 second',
        GREATEST(statement_timestamp(), entry.available_at)),
    changed_at = statement_timestamp()
"""

# TG_ARGV[0] is the column that holds the product's key. A row that moves from one product to
# another notes both. *= compares rows byte for byte: unlike =, it takes columns of every type
# (json and xml have no =, and the shop's UPDATE would fail). It finds its tables whatever the
# search_path of the session that writes (pg_restore has none): else that session's write would fail.
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
    {opened};
    RETURN NULL;
END
$body$
"""

_TRIGGER_SQL = """
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION {function}('{column}')
"""

_TRUNCATE_FUNCTION_SQL = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $body$
BEGIN
    {opened};
    RETURN NULL;
END
$body$
"""

_TRUNCATE_TRIGGER_SQL = """
CREATE OR REPLACE TRIGGER {trigger} AFTER TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION {function}()
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
    opened = _open_sql(index, connection)
    with connection.cursor() as cursor:
        cursor.execute(_function_sql(index, connection))
        for captured in captured_tables(index):
            cursor.execute(
                _TRIGGER_SQL.format(
                    trigger=TRIGGER,
                    table=quote(captured.table),
                    function=FUNCTION,
                    column=captured.column.replace("'", "''"),
                )
            )
        cursor.execute(_truncate_function_sql(index, connection))
        for table in _truncated_tables(index, connection):
            cursor.execute(
                _TRUNCATE_TRIGGER_SQL.format(
                    trigger=TRUNCATE_TRIGGER, table=quote(table), function=TRUNCATE_FUNCTION
                )
            )
        for reached in _reached(index, connection):
            cursor.execute(reach.function_sql(index, reached, connection, opened))
            for statement in reach.trigger_sql(reached, connection):
                cursor.execute(statement)
    _remove_surplus(index, connection)
    open_missing_entries(index, using=using)


def remove(index: VisualIndex, *, using: str = "default") -> None:
    """Take the triggers and their functions out of the database."""
    connection = connections[using]
    _remove_surplus(index, connection, keep=False)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP FUNCTION IF EXISTS {FUNCTION}(), {TRUNCATE_FUNCTION}()")


def missing_triggers(index: VisualIndex, *, using: str = "default") -> list[str]:
    """Tables that should have triggers, and lack one, or have a disabled or an outdated one."""
    connection = connections[using]
    there = {(table, name) for table, name, is_enabled in _triggers(connection) if is_enabled}
    missing = [c.table for c in captured_tables(index) if (c.table, TRIGGER) not in there]
    missing += [
        table
        for table in _truncated_tables(index, connection)
        if (table, TRUNCATE_TRIGGER) not in there
    ]
    opened = _open_sql(index, connection)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname, prosrc FROM pg_proc WHERE starts_with(proname, %s) "
            "OR proname = ANY(%s)",
            [reach.TRIGGER, [FUNCTION, TRUNCATE_FUNCTION]],
        )
        bodies = dict(cursor.fetchall())
    if bodies.get(FUNCTION, "-") not in _function_sql(index, connection):
        missing += [captured.table for captured in captured_tables(index)]
    if bodies.get(TRUNCATE_FUNCTION, "-") not in _truncate_function_sql(index, connection):
        missing += _truncated_tables(index, connection)
    for reached in _reached(index, connection):
        wanted = {(reached.table, f"{reach.TRIGGER}_{event}") for event in reach.EVENTS}
        current = reach.function_sql(index, reached, connection, opened)
        if not wanted <= there or bodies.get(reached.function, "-") not in current:
            missing.append(reached.table)
    return list(dict.fromkeys(missing))


def _function_sql(index: VisualIndex, connection: BaseDatabaseWrapper) -> str:
    key_type = index.model._meta.pk.rel_db_type(connection)
    keys = f"CAST(before AS {key_type}), CAST(after AS {key_type})"
    opened = _open_sql(index, connection).format(keys=keys).strip()
    return _FUNCTION_SQL.format(function=FUNCTION, opened=opened)


def _truncate_function_sql(index: VisualIndex, connection: BaseDatabaseWrapper) -> str:
    quote, meta = connection.ops.quote_name, index.model._meta
    every = f"SELECT {quote(str(meta.pk.column))} FROM {quote(meta.db_table)}"
    opened = _open_sql(index, connection).format(keys=every).strip()
    return _TRUNCATE_FUNCTION_SQL.format(function=TRUNCATE_FUNCTION, opened=opened)


def _truncated_tables(index: VisualIndex, connection: BaseDatabaseWrapper) -> list[str]:
    """Tables that can be emptied while there are products: with theirs, the entries go too."""
    tables = [captured.table for captured in captured_tables(index)]
    tables += [reached.table for reached in _reached(index, connection)]
    return [table for table in dict.fromkeys(tables) if table != index.model._meta.db_table]


def _open_sql(index: VisualIndex, connection: BaseDatabaseWrapper) -> str:
    quote = connection.ops.quote_name
    return _OPEN_SQL.format(
        entry=quote(IndexEntry._meta.db_table),
        product=quote(index.model._meta.db_table),
        key=quote(str(index.model._meta.pk.column)),
    )


def _reached(index: VisualIndex, connection: BaseDatabaseWrapper) -> list[reach.ReachedTable]:
    """Those that are tables of this database: a trigger cannot be put on a view."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
        )
        tables = {name for (name,) in cursor.fetchall()}
    return [reached for reached in reach.reached_tables(index) if reached.table in tables]


def _triggers(connection: BaseDatabaseWrapper) -> list[tuple[str, str, bool]]:
    """(table, name, whether it is enabled) of every trigger of ours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, tgname, tgenabled <> 'D' FROM pg_trigger "
            "JOIN pg_class ON pg_class.oid = tgrelid "
            "WHERE NOT tgisinternal AND pg_table_is_visible(tgrelid) "
            "AND (tgname = ANY(%s) OR starts_with(tgname, %s))",
            [[TRIGGER, TRUNCATE_TRIGGER], f"{reach.TRIGGER}_"],
        )
        return [(table, name, enabled) for table, name, enabled in cursor.fetchall()]


def _remove_surplus(
    index: VisualIndex, connection: BaseDatabaseWrapper, *, keep: bool = True
) -> None:
    """Drop triggers that an earlier declaration wanted, or without `keep` all of them."""
    quote = connection.ops.quote_name
    wanted: set[tuple[str, str]] = set()
    functions: set[str] = set()
    if keep:
        reached = _reached(index, connection)
        wanted = {(captured.table, TRIGGER) for captured in captured_tables(index)}
        wanted |= {(table, TRUNCATE_TRIGGER) for table in _truncated_tables(index, connection)}
        wanted |= {(r.table, f"{reach.TRIGGER}_{event}") for r in reached for event in reach.EVENTS}
        functions = {each.function for each in reached}
    surplus = [(table, name) for table, name, _ in _triggers(connection)]
    with connection.cursor() as cursor:
        for table, name in surplus:
            if (table, name) not in wanted:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name} ON {quote(table)}")
        cursor.execute(
            "SELECT proname FROM pg_proc WHERE starts_with(proname, %s) "
            "AND pg_function_is_visible(oid)",
            [f"{reach.TRIGGER}_"],
        )
        for (name,) in cursor.fetchall():
            if name not in functions:
                cursor.execute(f"DROP FUNCTION IF EXISTS {quote(name)}()")


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
