"""Counts by value over everything that matches the filters, for the filters of a results page."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models import Count, Max, Min, Q
from django.db.models.expressions import RawSQL

from visualsearch.exceptions import QueryError
from visualsearch.indexes import VisualIndex
from visualsearch.models import Checkpoint
from visualsearch.search import visibility
from visualsearch.search.filters import FilterField, find_field
from visualsearch.tables import partitions
from visualsearch.tables.deadlines import bounded, database, read

MOST_FACETS = 10
MOST_VALUES = 100
SCOPE = "filter"
"""What is counted: all products that match the filters and may be seen, not only the hits shown."""


@dataclass(frozen=True, kw_only=True)
class Facet:
    """The values of one field, the most frequent first."""

    name: str
    counts: tuple[tuple[Any, int], ...]
    """(value, products that have it)."""
    least: Any = None
    most: Any = None
    """Of a field with an order, such as a price: its smallest and greatest value."""


def clean_names(index: VisualIndex, names: Any) -> tuple[FilterField, ...]:
    """The fields to be counted, or an error that says what may be."""
    if names is None:
        return ()
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise QueryError('facets is not a list: send ["brand"].', field="facets")
    if len(names) > MOST_FACETS:
        raise QueryError(f"facets has {len(names)} names: at most {MOST_FACETS}.", field="facets")
    fields = [find_field(index, name, field="facets") for name in names]
    return tuple({each.name: each for each in fields}.values())


def count(
    index: VisualIndex,
    allowed: models.QuerySet[Any],
    fields: Sequence[FilterField],
    *,
    checkpoint: Checkpoint | None,
) -> list[Facet]:
    """Counts by value among `allowed`, each product once for each of its values.

    With a checkpoint, of the products that it has embedded, as `total` counts them. Counted now and
    never remembered: what was hidden a moment ago is in no count. What a product has one value of
    is counted for all such fields in one pass over the products.
    """
    single = [field for field in fields if not field.to_many]
    try:
        found = _single(index, allowed, single, checkpoint) if single else []
        found += [_many(index, allowed, each, checkpoint) for each in fields if each.to_many]
    except EmptyResultSet:
        found = [Facet(name=field.name, counts=()) for field in fields]
    by_name = {facet.name: facet for facet in found}
    return [by_name[field.name] for field in fields]


def _single(
    index: VisualIndex,
    allowed: models.QuerySet[Any],
    fields: Sequence[FilterField],
    checkpoint: Checkpoint | None,
) -> list[Facet]:
    """Of fields that products have one value of: one column each, counted by GROUPING SETS."""
    products = _products(index, allowed, fields, checkpoint)
    query = products.values_list(*(field.path for field in fields)).query
    compiler = query.get_compiler(connection=database())
    sql, parameters = compiler.as_sql()
    converters = compiler.get_converters([expression for expression, _, _ in compiler.select])
    columns = [f"c{number}" for number in range(len(fields))]
    names = ", ".join(columns)
    # A bit for each column that is not the one that was counted.
    which = f"GROUPING({names}) AS which"
    sets = ", ".join(f"({column})" for column in columns)
    # All but one are NULL, and that one is if it is of products without a value.
    known = f"num_nonnulls({names}) = 1"
    for column, field in zip(columns, fields, strict=True):
        if _is_text(field):
            known += f" AND {column} IS DISTINCT FROM ''"
    ends = "".join(
        f", min({column}) OVER of_one AS least{column}, max({column}) OVER of_one AS most{column}"
        for column, field in zip(columns, fields, strict=True)
        if _has_ends(field)
    )
    rows = read(
        f"SELECT * FROM (SELECT counted.*, row_number() OVER (of_one ORDER BY n DESC, {names}) AS place"
        f"{ends} FROM (SELECT {which}, count(*) AS n, {names} FROM ({sql}) AS product({names}) "
        f"GROUP BY GROUPING SETS ({sets})) AS counted WHERE {known} WINDOW of_one AS (PARTITION BY which)"
        f") AS placed WHERE place <= {MOST_VALUES} ORDER BY which, place",
        parameters,
    )
    found = {}
    ends_at = len(columns) + 3
    for number, field in enumerate(fields):
        bit = 1 << (len(fields) - 1 - number)
        mine = [row for row in rows if not row[0] & bit]
        values = [row[2 + number] for row in mine]
        ends_of_it: Sequence[Any] = ()
        if _has_ends(field):
            ends_of_it = mine[0][ends_at : ends_at + 2] if mine else ()
            ends_at += 2
        values, (least, most) = (
            [_python(value, *converters.get(number, ((), None))) for value in each]
            for each in (values, ends_of_it or (None, None))
        )
        counts = tuple((value, row[1]) for value, row in zip(values, mine, strict=True))
        found[field.name] = Facet(name=field.name, counts=counts, least=least, most=most)
    return list(found.values())


def _many(
    index: VisualIndex,
    allowed: models.QuerySet[Any],
    field: FilterField,
    checkpoint: Checkpoint | None,
) -> Facet:
    """Of a field that a product may have several values of, each of which counts it once."""
    products = _products(index, allowed, [field], checkpoint)
    known = products.exclude(Q(**{f"{field.path}__isnull": True}))
    if _is_text(field):
        known = known.exclude(**{field.path: ""})
    counted = known.values(field.path).annotate(visualsearch_count=Count("pk", distinct=True))
    with bounded():
        ordered = counted.order_by("-visualsearch_count", field.path)
        rows = list(ordered.values_list(field.path, "visualsearch_count")[:MOST_VALUES])
        ends: dict[str, Any] = {}
        if rows and _has_ends(field):
            ends = known.aggregate(least=Min(field.path), most=Max(field.path))
    return Facet(
        name=field.name,
        counts=tuple((plain(value), number) for value, number in rows),
        least=plain(ends.get("least")),
        most=plain(ends.get("most")),
    )


def _products(
    index: VisualIndex,
    allowed: models.QuerySet[Any],
    fields: Sequence[FilterField],
    checkpoint: Checkpoint | None,
) -> models.QuerySet[Any]:
    """What is counted, each product once."""
    query = allowed.query
    annotations = index.get_queryset().query.annotations
    has_annotation = any(field.path in annotations for field in fields)
    is_simple = visibility.is_plain(allowed) and not (query.distinct or query.group_by)
    if is_simple and len(query.alias_map) <= 1 and not has_annotation:
        # No join can repeat a product: they need not be looked for among themselves.
        products = allowed.order_by()
    else:
        source = index.get_queryset() if has_annotation else index.model._base_manager.all()
        products = source.filter(pk__in=allowed.order_by().values("pk")).order_by()
    if checkpoint is None:
        return products
    # Of the partition Postgres knows how many products it has, of all partitions together not: it
    # looked up one product after the other, four times as long.
    table = partitions.partition_name(checkpoint)
    return products.filter(pk__in=RawSQL(f"SELECT product_id FROM {table}", []))


def _is_text(field: FilterField) -> bool:
    return isinstance(field.field, models.CharField | models.TextField)


def _has_ends(field: FilterField) -> bool:
    return "gte" in field.lookups


def _python(value: Any, converters: Sequence[Any], expression: Any) -> Any:
    """A column's value as the ORM gives it, then as JSON has that."""
    for convert in converters:
        value = convert(value, expression, database())
    return plain(value)


def plain(value: Any) -> Any:
    """A value as JSON has it, and as a filter takes it back."""
    if isinstance(value, Decimal | uuid.UUID | datetime.timedelta):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
