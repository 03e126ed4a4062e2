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

from visualsearch.exceptions import QueryError
from visualsearch.indexes import VisualIndex
from visualsearch.models import Checkpoint, Embedding
from visualsearch.search.filters import FilterField, find_field
from visualsearch.tables.deadlines import bounded

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
    never remembered: what was hidden a moment ago is in no count.
    """
    return [_facet(index, allowed, field, checkpoint) for field in fields]


def _facet(
    index: VisualIndex,
    allowed: models.QuerySet[Any],
    field: FilterField,
    checkpoint: Checkpoint | None,
) -> Facet:
    is_annotation = field.path in index.get_queryset().query.annotations
    products = index.get_queryset() if is_annotation else index.model._base_manager.all()
    products = products.filter(pk__in=allowed.order_by().values("pk")).order_by()
    if checkpoint is not None:
        embedded = Embedding.objects.filter(checkpoint=checkpoint).values("product_id")
        products = products.filter(pk__in=embedded)
    known = products.exclude(Q(**{f"{field.path}__isnull": True}))
    if isinstance(field.field, models.CharField | models.TextField):
        known = known.exclude(**{field.path: ""})
    counted = known.values(field.path).annotate(visualsearch_count=Count("pk", distinct=True))
    try:
        with bounded():
            ordered = counted.order_by("-visualsearch_count", field.path)
            rows = list(ordered.values_list(field.path, "visualsearch_count")[:MOST_VALUES])
            ends: dict[str, Any] = {}
            if rows and "gte" in field.lookups:
                ends = known.aggregate(least=Min(field.path), most=Max(field.path))
    except EmptyResultSet:
        rows, ends = [], {}
    return Facet(
        name=field.name,
        counts=tuple((plain(value), number) for value, number in rows),
        least=plain(ends.get("least")),
        most=plain(ends.get("most")),
    )


def plain(value: Any) -> Any:
    """A value as JSON has it, and as a filter takes it back."""
    if isinstance(value, Decimal | uuid.UUID | datetime.timedelta):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
