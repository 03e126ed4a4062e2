"""The words of every product in a table of ours, kept by a trigger in the transaction that changes them.

A shop only runs `migrate`: the function is compiled from the paths that its VisualIndex declares, so
nothing of the shop's tables changes, and words are there before anything is trained or any worker
runs. What SQL cannot read (hooks, properties, to-many paths) is not in it. A statement that changes a
thousand products writes their words in one go; one that changes no text writes nothing.
"""

from __future__ import annotations

import hashlib
import logging

from django.db import OperationalError, connections, models, transaction

from visualsearch.conf import get_settings
from visualsearch.indexes import VisualIndex, readable_paths, resolve_path
from visualsearch.models import SearchDocument

logger = logging.getLogger(__name__)

FUNCTION = "visualsearch_note_words"
TRIGGERS = {"INSERT": "visualsearch_words_insert", "UPDATE": "visualsearch_words_update"}
FIELD_CHARACTERS = 10_000
"""What is read of one field: a tsvector has a size limit, and one huge text must not end all."""
AT_A_TIME = 5_000
_TABLE = SearchDocument._meta.db_table

# Both are statements' transition tables, so that a bulk statement is one upsert. ORDER BY: two
# statements that change the same products take their rows in the same order.
_FUNCTION_SQL = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $body$
BEGIN
    {upsert}
    RETURN NULL;
END
$body$
"""
_TRIGGER_SQL = """
CREATE OR REPLACE TRIGGER {trigger} AFTER {event} ON {table}
REFERENCING NEW TABLE AS visualsearch_changed
FOR EACH STATEMENT EXECUTE FUNCTION {function}()
"""


def install(index: VisualIndex, *, using: str = "default") -> bool:
    """Create or replace the triggers; whether all words were written anew.

    They are where the declaration, or the setting TEXT_SEARCH_CONFIG, has changed.
    """
    connection = connections[using]
    quote = connection.ops.quote_name
    table, key = quote(index.model._meta.db_table), quote(str(index.model._meta.pk.column))
    upsert = _upsert(index, f"SELECT {key} FROM visualsearch_changed", using=using) + ";"
    body = _FUNCTION_SQL.format(function=FUNCTION, upsert=upsert)
    mark = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    with transaction.atomic(using=using), connection.cursor() as cursor:
        cursor.execute("SELECT obj_description(to_regprocedure(%s), 'pg_proc')", [f"{FUNCTION}()"])
        (before,) = cursor.fetchone()
        cursor.execute(body)
        cursor.execute(f"COMMENT ON FUNCTION {FUNCTION}() IS '{mark}'")
        for event, trigger in TRIGGERS.items():
            cursor.execute(
                _TRIGGER_SQL.format(trigger=trigger, event=event, table=table, function=FUNCTION)
            )
    if before != mark:
        refresh(index, using=using)
    return before != mark


def refresh(index: VisualIndex, *, using: str = "default") -> int:
    """Write the words that no trigger has written, such as those of a renamed brand; their number.

    Waits for no lock of the shop's for long: what is held stays until the next time.
    """
    connection, written, last = connections[using], 0, None
    products = index.model._base_manager.using(using).order_by("pk")
    while True:
        rest = products if last is None else products.filter(pk__gt=last)
        keys = list(rest.values_list("pk", flat=True)[:AT_A_TIME])
        if not keys:
            return written
        last = keys[-1]
        pk = index.model._meta.pk
        prepared = [pk.get_db_prep_value(key, connection) for key in keys]
        chosen = f"SELECT unnest(%s::{pk.rel_db_type(connection)}[])"
        try:
            with transaction.atomic(using=using), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', '300ms', true)")
                cursor.execute(_escaped(_upsert(index, chosen, using=using)), [prepared])
                written += cursor.rowcount
        except OperationalError as error:
            logger.warning("The words of some products are written another time: %s", error)


def missing(index: VisualIndex, *, using: str = "default") -> int:
    """How many products have no words yet."""
    documents = SearchDocument.objects.using(using).values("product_id")
    return index.get_queryset().using(using).exclude(pk__in=documents).count()


def missing_triggers(index: VisualIndex, *, using: str = "default") -> list[str]:
    """Triggers that should be on the product's table and are not, or are disabled."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE tgname = ANY(%s) AND tgenabled <> 'D'",
            [list(TRIGGERS.values())],
        )
        present = {name for (name,) in cursor.fetchall()}
    return [name for name in TRIGGERS.values() if name not in present]


def remove(index: VisualIndex, *, using: str = "default") -> None:
    """Take the triggers and their function out of the database."""
    connection = connections[using]
    table = connection.ops.quote_name(index.model._meta.db_table)
    with connection.cursor() as cursor:
        for trigger in TRIGGERS.values():
            cursor.execute(f"DROP TRIGGER IF EXISTS {trigger} ON {table}")
        cursor.execute(f"DROP FUNCTION IF EXISTS {FUNCTION}()")


def code_paths(index: VisualIndex) -> list[str]:
    """Paths to what names one product exactly."""
    if index.code_fields is not None:
        return readable_paths(index, index.code_fields)
    return [
        field.name
        for field in index.model._meta.concrete_fields
        if field.unique
        and not field.primary_key
        and isinstance(field, models.CharField | models.TextField)
    ]


def _upsert(index: VisualIndex, chosen: str, *, using: str) -> str:
    """The statement that writes the words of the products whose keys the SQL `chosen` gives."""
    title = readable_paths(index, index.text_fields[:1])
    rest = readable_paths(index, index.text_fields[1:])
    kinds = readable_paths(index, [index.label_field, *index.attribute_fields])
    codes = code_paths(index)
    paths = list(dict.fromkeys([*title, *kinds, *rest, *codes]))
    columns = {path: f"c{number}" for number, path in enumerate(paths)}
    products = index.model._base_manager.using(using).order_by()
    query = products.values_list("pk", *(_lookup(index, path) for path in paths)).query
    inner, parameters = query.get_compiler(connection=connections[using]).as_sql()
    if parameters:
        raise ValueError(f"the words of {index.model._meta.label} need parameters: {parameters!r}")
    config = get_settings().TEXT_SEARCH_CONFIG.replace("'", "''")
    words = {
        weight: _joined([columns[path] for path in group if path not in before])
        for weight, group, before in (
            ("A", title, []),
            ("B", kinds, title),
            ("C", rest, [*title, *kinds]),
        )
    }
    vector = " || ".join(
        f"setweight(to_tsvector('{config}'::regconfig, made.{weight}), '{weight}')"
        for weight in words
    )
    found = ", ".join(
        f"nullif(lower(regexp_replace({columns[path]}::text, '\\s', '', 'g')), '')"
        for path in codes
    )
    names = ", ".join(["pk", *columns.values()])
    made = ", ".join(f"{text} AS {weight}" for weight, text in words.items())
    return (
        f"INSERT INTO {_TABLE} AS kept (product_id, digest, codes, document) "
        f"SELECT made.pk, md5(row('{config}', made.A, made.B, made.C, made.codes)::text)::uuid, made.codes, "
        f"{vector} FROM (SELECT pk, {made}, array_remove(ARRAY[{found}]::text[], NULL) AS codes "
        f"FROM ({inner}) AS product ({names}) WHERE pk IN ({chosen})) AS made ORDER BY made.pk "
        "ON CONFLICT (product_id) DO UPDATE SET digest = EXCLUDED.digest, "
        "codes = EXCLUDED.codes, document = EXCLUDED.document "
        "WHERE kept.digest IS DISTINCT FROM EXCLUDED.digest"
    )


def _joined(columns: list[str]) -> str:
    if not columns:
        return "''"
    return (
        "concat_ws(' ', " + ", ".join(f"left({c}::text, {FIELD_CHARACTERS})" for c in columns) + ")"
    )


def _lookup(index: VisualIndex, path: str) -> str:
    """The path as queries name it: a reverse relation has another name there."""
    return "__".join(step.name for step in resolve_path(index.model, path))


def _escaped(sql: str) -> str:
    """For a driver that takes % for a parameter: none of ours stands inside the shop's own names."""
    return sql.replace("%", "%%").replace("%%s", "%s")
