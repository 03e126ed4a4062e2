"""Conditions on the shop's own fields, in the names that the index allows."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.utils import timezone

from visualsearch.exceptions import InvalidFilterError, InvalidTextError, UnknownFilterError
from visualsearch.indexes import VisualIndex, readable_paths, resolve_path
from visualsearch.queries.cleaning import check_characters

MOST_CONDITIONS = 20
MOST_VALUES = 100
MOST_CHARACTERS = 255

_COMPARABLE = ("exact", "in", "lt", "lte", "gt", "gte")
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One filter as it was asked for and as the ORM takes it."""

    name: str
    path: str
    lookup: str
    value: Any
    to_many: bool
    """Whether the path crosses a to-many relation, where a plain filter would repeat products."""


@dataclass(frozen=True, kw_only=True)
class FilterField:
    """A path of `VisualIndex.filter_fields`, resolved."""

    name: str
    path: str
    field: models.Field[Any, Any]
    to_many: bool

    @property
    def lookups(self) -> tuple[str, ...]:
        """What may follow the name after two underscores."""
        if isinstance(self.field, models.BooleanField):
            return ("exact",)
        ordered = (
            models.IntegerField,
            models.FloatField,
            models.DecimalField,
            models.DateField,
            models.TimeField,
            models.DurationField,
        )
        return _COMPARABLE if isinstance(self.field, ordered) else ("exact", "in")


def filter_fields(index: VisualIndex) -> dict[str, FilterField]:
    """The fields that a search may filter by, by name."""
    return {name: resolve(index, name) for name in index.filter_fields}


def allowed_names(index: VisualIndex) -> list[str]:
    """Every name that a filter may have, lookups included."""
    return [
        name if lookup == "exact" else f"{name}__{lookup}"
        for name, field in filter_fields(index).items()
        for lookup in field.lookups
    ]


def parse(index: VisualIndex, given: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The conditions that `given` (name -> value) asks for.

    A list asks for any of its values. Raises UnknownFilterError, naming what is allowed, and
    InvalidFilterError.
    """
    if not given:
        return ()
    if len(given) > MOST_CONDITIONS:
        raise InvalidFilterError(
            f"{len(given)} filters were given: at most {MOST_CONDITIONS} are read.", field="filter"
        )
    fields = filter_fields(index)
    return tuple(_parse_one(index, fields, name, value) for name, value in given.items())


def apply(
    index: VisualIndex,
    queryset: models.QuerySet[Any],
    conditions: tuple[Condition, ...],
) -> models.QuerySet[Any]:
    """`queryset` with the conditions added; each product is still there only once."""
    for condition in conditions:
        lookup = {f"{condition.path}__{condition.lookup}": condition.value}
        if condition.to_many:
            matching = index.model._default_manager.filter(**lookup).order_by()
            lookup = {"pk__in": matching.values("pk")}
        queryset = queryset.filter(**lookup)
    return queryset


def find_field(index: VisualIndex, name: Any, *, field: str) -> FilterField:
    """The filter field of that name, or UnknownFilterError with the part of the request at fault."""
    found = filter_fields(index).get(name) if isinstance(name, str) else None
    if found is None:
        raise UnknownFilterError(
            f"{field} names {str(name)[:40]!r}. Allowed: {', '.join(index.filter_fields)}.",
            field=field,
        )
    return found


def group_field(index: VisualIndex) -> FilterField | None:
    """What variants of one design share, if that is a plain field."""
    paths = readable_paths(index, [index.group_field])
    return resolve(index, paths[0]) if paths else None


def values_by_product(
    index: VisualIndex, field: FilterField, product_ids: Sequence[Any]
) -> dict[Any, tuple[Any, ...]]:
    """Product id -> its values of the field, empty ones left out; one query."""
    products = index.get_queryset().filter(pk__in=product_ids).order_by()
    found: dict[Any, tuple[Any, ...]] = {}
    for pk, value in products.values_list("pk", field.path):
        if value not in (None, ""):
            found[pk] = (*found.get(pk, ()), value)
    return {pk: tuple(dict.fromkeys(values)) for pk, values in found.items()}


def _parse_one(
    index: VisualIndex, fields: dict[str, FilterField], name: str, value: Any
) -> Condition:
    base, _, lookup = name.rpartition("__")
    if name in fields:
        base, lookup = name, "in" if isinstance(value, list | tuple) else "exact"
    field = fields.get(base)
    if field is None or (lookup not in field.lookups and name not in fields):
        names = ", ".join(allowed_names(index)) or "none: the index declares no filter_fields"
        raise UnknownFilterError(
            f"There is no filter {name[:64]!r}. Allowed: {names}.", field="filter"
        )
    if lookup == "in":
        values = value if isinstance(value, list | tuple) else [value]
        if not 1 <= len(values) <= MOST_VALUES:
            raise InvalidFilterError(
                f"Filter {name} has {len(values)} values: give 1 to {MOST_VALUES}.", field=name
            )
        cleaned: Any = [_clean(field, name, each) for each in values]
        if len(cleaned) == 1:
            lookup, cleaned = "exact", cleaned[0]
    else:
        cleaned = _clean(field, name, value)
    return Condition(
        name=name, path=field.path, lookup=lookup, value=cleaned, to_many=field.to_many
    )


def _clean(field: FilterField, name: str, value: Any) -> Any:
    """`value` as the field's type, or InvalidFilterError."""
    wrong = InvalidFilterError(
        f"Filter {name} is {str(value)[:40]!r}, which is not {_describe(field.field)}.", field=name
    )
    if value is None or isinstance(value, dict | list | tuple | bytes):
        raise wrong
    if isinstance(value, str):
        if len(value) > MOST_CHARACTERS:
            raise InvalidFilterError(
                f"Filter {name} has {len(value)} characters: at most {MOST_CHARACTERS}.", field=name
            )
        try:
            check_characters(value, field=name)
        except InvalidTextError as error:
            raise InvalidFilterError(error.message, field=name) from None
    target = field.field
    if isinstance(target, models.BooleanField):
        if str(value).lower() not in _BOOLEANS:
            raise wrong
        return _BOOLEANS[str(value).lower()]
    if isinstance(value, bool):
        raise wrong
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong
    try:
        cleaned = target.to_python(str(value) if isinstance(target, models.DecimalField) else value)
    except (ValidationError, ValueError, TypeError, OverflowError, ArithmeticError):
        raise wrong from None
    if cleaned is None or not _is_storable(cleaned):
        raise wrong
    if isinstance(cleaned, datetime.datetime) and timezone.is_naive(cleaned):
        return timezone.make_aware(cleaned)
    return cleaned


def _is_storable(value: Any) -> bool:
    """Whether Postgres can compare the number at all."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Decimal):
        return value.is_finite() and abs(value.adjusted()) < 100
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _describe(field: models.Field[Any, Any]) -> str:
    if isinstance(field, models.BooleanField):
        return "true or false"
    if isinstance(field, models.IntegerField):
        return "a whole number"
    if isinstance(field, models.DecimalField | models.FloatField):
        return "a number"
    if isinstance(field, models.DateField):
        return "a date as YYYY-MM-DD"
    return f"a value of {field.name or 'the field'}"


def resolve(index: VisualIndex, name: str) -> FilterField:
    """The field at a path, or FieldDoesNotExist if SQL cannot read it."""
    try:
        steps = resolve_path(index.model, name)
    except FieldDoesNotExist:
        annotation = index.get_queryset().query.annotations.get(name)
        if annotation is None:
            raise
        return FilterField(name=name, path=name, field=annotation.output_field, to_many=False)
    field = steps[-1]
    to_many = any(step.many_to_many or step.one_to_many for step in steps if step.is_relation)
    if isinstance(field, models.ForeignObjectRel | models.ManyToManyField):
        field = field.related_model._meta.pk
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    # A reverse relation has one name for attribute access and another for queries.
    path = "__".join(step.name for step in steps)
    if isinstance(field, models.GeneratedField) and field.output_field is not None:
        field = field.output_field
    return FilterField(name=name, path=path, field=field, to_many=to_many)
