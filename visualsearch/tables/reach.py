"""Which tables hold what a VisualIndex reads of a product, and the way back from their rows to it.

`brand__name` reads the brand's table, `categories__title` a through table and the categories'. A
change of theirs changes products whose own rows stay as they are: a brand renamed, a product put
into another category. Statement triggers with transition tables note it: one INSERT for however
many rows a bulk write changes, and only when a column that is read has changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from visualsearch.indexes import VisualIndex, resolve_path

TRIGGER = "visualsearch_reach"
EVENTS = {
    "insert": "REFERENCING NEW TABLE AS after",
    "update": "REFERENCING OLD TABLE AS before NEW TABLE AS after",
    "delete": "REFERENCING OLD TABLE AS before",
}

_FUNCTION_SQL = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $body$
BEGIN
    IF TG_OP = 'INSERT' THEN
        {insert};
    ELSIF TG_OP = 'DELETE' THEN
        {delete};
    ELSE
        {update};
    END IF;
    RETURN NULL;
END
$body$
"""


@dataclass(frozen=True)
class Hop:
    """One join on the way from the product."""

    model: type[models.Model]
    """Whose table it leads to."""
    columns: tuple[tuple[str, str], ...]
    """(column of the table before, column of this one)"""


@dataclass
class ReachedTable:
    """A table whose rows say something of products that are not in them."""

    model: type[models.Model]
    ways: set[tuple[Hop, ...]] = field(default_factory=set)
    """From the product to this table, the hop to it last."""
    columns: set[str] | None = field(default_factory=set)
    """Columns that are read; None for all, when a path ends at the row itself."""

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @property
    def function(self) -> str:
        """Name of its trigger function; table names may be as long as names may be."""
        return f"{TRIGGER}_{zlib.crc32(self.table.encode()):08x}"


def reached_tables(index: VisualIndex) -> list[ReachedTable]:
    """Every table that the declared paths cross, but for those that `related` covers.

    What a hook of the shop's reads besides is not known here. Nor are relations without a join of
    columns (generic ones).
    """
    found: dict[str, ReachedTable] = {}
    paths = [index.image_field, index.label_field, index.group_field]
    for path in dict.fromkeys([*paths, *index.text_fields, *index.attribute_fields]):
        try:
            steps = resolve_path(index.model, path) if path else []
        except FieldDoesNotExist:  # an attribute of the product, or what a check complains about
            continue
        _follow(index, steps, found)
    return [each for _, each in sorted(found.items())]


def _follow(index: VisualIndex, steps: Sequence[Any], found: dict[str, ReachedTable]) -> None:
    way: tuple[Hop, ...] = ()
    model: type[models.Model] = index.model

    def reach(hop: Hop) -> ReachedTable:
        nonlocal way, model
        if way:
            _read(found, way, {before for before, _ in hop.columns})
        way, model = (*way, hop), hop.model
        if len(way) > 1 or not _is_covered(index, hop):
            reached = found.setdefault(hop.model._meta.db_table, ReachedTable(hop.model))
            reached.ways.add(way)
            _read(found, way, {after for _, after in hop.columns})
        return found.get(hop.model._meta.db_table, ReachedTable(hop.model))

    for step in steps:
        owner = step.model._meta.concrete_model
        if owner is not None and owner is not model._meta.concrete_model:
            for parent in model._meta.get_path_to_parent(owner):  # columns that are inherited
                reach(_hop(parent))
        if not step.is_relation:
            _read(found, way, {step.column})
        elif hasattr(step, "path_infos") and step.related_model is not None:
            try:
                hops = [_hop(info) for info in step.path_infos]
            except (AttributeError, NotImplementedError):
                return
            for hop in hops:
                reach(hop)
    if steps and steps[-1].is_relation and way:
        reached = found.get(way[-1].model._meta.db_table)
        if reached is not None:
            reached.columns = None  # it is shown as str(): anything may be in that


def _hop(info: Any) -> Hop:
    fields = info.join_field.get_joining_fields()
    return Hop(info.to_opts.model, tuple((left.column, right.column) for left, right in fields))


def _is_covered(index: VisualIndex, hop: Hop) -> bool:
    """Whether a row trigger of `related` notes every change of these rows already."""
    for accessor in index.related:
        try:
            relation: Any = resolve_path(index.model, accessor)[-1]
        except FieldDoesNotExist:
            continue
        if relation.is_relation and [_hop(info) for info in relation.path_infos] == [hop]:
            return True
    return False


def _read(found: dict[str, ReachedTable], way: tuple[Hop, ...], columns: set[str]) -> None:
    reached = found.get(way[-1].model._meta.db_table) if way else None
    if reached is not None and reached.columns is not None:
        reached.columns |= columns


def function_sql(
    index: VisualIndex, reached: ReachedTable, connection: BaseDatabaseWrapper, open_sql: str
) -> str:
    """CREATE FUNCTION for the triggers of one table.

    `open_sql` opens the entries of the products whose keys the query in its place {keys} gives.
    """
    quote = connection.ops.quote_name
    key = [quote(str(f.column)) for f in reached.model._meta.pk_fields]
    columns = [quote(c) for c in sorted(reached.columns)] if reached.columns is not None else None

    def row(name: str) -> str:
        return f"ROW({', '.join(f'{name}.{c}' for c in columns)})::record" if columns else name

    def opened(*changed: str) -> str:
        ways = sorted(_way_back(index, way, quote) for way in reached.ways)
        queries = [way.format(changed=rows) for way in ways for rows in changed]
        return open_sql.format(keys=" UNION ".join(queries)).strip()

    same = " AND ".join(f"old_row.{k} = new_row.{k}" for k in key)
    differ = (
        f"before AS old_row FULL JOIN after AS new_row ON {same} "
        # *= compares byte for byte: it takes columns of every type.
        f"WHERE old_row.{key[0]} IS NULL OR new_row.{key[0]} IS NULL "
        f"OR NOT ({row('old_row')} *= {row('new_row')})"
    )
    return _FUNCTION_SQL.format(
        function=reached.function,
        insert=opened("after"),
        delete=opened("before"),
        update=opened(f"(SELECT old_row.* FROM {differ})", f"(SELECT new_row.* FROM {differ})"),
    )


def _way_back(index: VisualIndex, way: tuple[Hop, ...], quote: Any) -> str:
    """A query of the keys of products that rows {changed} of the last table belong to."""
    pk = quote(str(index.model._meta.pk.column))
    sql = f"SELECT t0.{pk} FROM {quote(index.model._meta.db_table)} AS t0"
    for number, hop in enumerate(way, start=1):
        is_last = number == len(way)
        table = "{changed}" if is_last else quote(hop.model._meta.db_table)
        on = " AND ".join(
            f"t{number}.{quote(right)} = t{number - 1}.{quote(left)}" for left, right in hop.columns
        )
        sql += f" JOIN {table} AS t{number} ON {on}"
    return sql


def trigger_sql(reached: ReachedTable, connection: BaseDatabaseWrapper) -> Iterator[str]:
    """CREATE TRIGGER, one for each kind of statement: transition tables take no fewer."""
    table = connection.ops.quote_name(reached.table)
    for event, rows in EVENTS.items():
        yield (
            f"CREATE OR REPLACE TRIGGER {TRIGGER}_{event} AFTER {event.upper()} ON {table} "
            f"{rows} FOR EACH STATEMENT EXECUTE FUNCTION {reached.function}()"
        )
