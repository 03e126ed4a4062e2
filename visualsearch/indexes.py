"""VisualIndex and its registry: how a shop's product maps to search."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.db.models.fields.reverse_related import ForeignObjectRel

from visualsearch import conf

if TYPE_CHECKING:
    from django.db.models.fields.files import FieldFile
    from django.http import HttpRequest

_VisualIndexType = TypeVar("_VisualIndexType", bound="type[VisualIndex]")

_registry: dict[type[models.Model], VisualIndex] = {}


class VisualIndex:
    """Says what of a product is searched; subclass it in the shop's `visual_indexes.py`.

    Each attribute is for the easy case and has a `get_<attribute>` hook for the hard one. Field
    names are Django paths from the product (`"images__original"`, `"brand__name"`).
    """

    image_field: str = ""
    """Path to the ImageField; may cross to-many relations. Hook: get_images."""
    text_fields: Sequence[str] = ()
    """Paths to what describes the product, the title first. Hook: get_text."""
    code_fields: Sequence[str] | None = None
    """Paths to what names one product exactly (SKU, EAN); None: the model's unique texts."""
    label_field: str = ""
    """Path to what counts as "the same kind". Hook: get_label."""
    group_field: str = ""
    """Path to what variants of one design share. Hook: get_group."""
    attribute_fields: Sequence[str] = ()
    """Paths to what "like this but…" may change. Hook: get_attributes."""
    filter_fields: Sequence[str] = ()
    """Paths that a search may filter by: the allow-list of the API."""
    price_field: str = ""
    """Path to a price to show on cards, if any."""
    related: Mapping[str, str] = {}
    """Accessor on the product -> foreign key on the other side; saves of those rows re-index."""

    def __init__(self, model: type[models.Model]) -> None:
        self.model = model

    def get_queryset(self) -> models.QuerySet[Any]:
        """What is in the index at all."""
        return self.model._default_manager.all()

    def visible_to(
        self, request: HttpRequest | None, queryset: models.QuerySet[Any]
    ) -> models.QuerySet[Any]:
        """What this visitor may see of `queryset`; joined inside the search SQL.

        `request` is None for searches from Python code that name no visitor.
        """
        return queryset

    def get_images(self, product: models.Model) -> list[FieldFile]:
        """The product's image files, the main one first; empty ones are left out."""
        return [file for file in values_at(product, self.image_field) if file]

    def get_text(self, product: models.Model) -> list[str]:
        """Texts that describe the product, the title first."""
        texts = (join_values(product, path) for path in self.text_fields)
        return [text for text in texts if text]

    def get_label(self, product: models.Model) -> str:
        """The kind of product, or "" when unknown."""
        return join_values(product, self.label_field) if self.label_field else ""

    def get_group(self, product: models.Model) -> str:
        """What variants of one design share; a product without a group is its own."""
        group = join_values(product, self.group_field) if self.group_field else ""
        return group or f"pk:{product.pk}"

    def get_attributes(self, product: models.Model) -> dict[str, str]:
        """Attribute name -> value, of what "like this but…" may change."""
        pairs = (
            (path.split("__")[-1], join_values(product, path)) for path in self.attribute_fields
        )
        return {name: value for name, value in pairs if value}

    def get_title(self, product: models.Model) -> str:
        """What a card calls the product."""
        texts = self.get_text(product)
        return texts[0] if texts else str(product)

    def get_price(self, product: models.Model) -> Any:
        """What a card shows as the price, or None."""
        return next(iter(values_at(product, self.price_field)), None) if self.price_field else None

    def get_url(self, product: models.Model) -> str:
        """Where a card links to."""
        absolute: Callable[[], str] | None = getattr(product, "get_absolute_url", None)
        return absolute() if absolute else ""

    def with_related(self, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """`queryset` with the relations that the declared paths cross already fetched.

        From the database that `queryset.using()` names, if it names one: a router would otherwise
        choose one for each relation.
        """
        paths = [self.image_field, self.label_field, self.group_field, self.price_field]
        paths += [*self.text_fields, *self.attribute_fields]
        lookups = dict.fromkeys(relation_of(self.model, path) for path in paths if path)
        using: str | None = getattr(queryset, "_db", None)
        if using is None:
            return queryset.prefetch_related(*(lookup for lookup in lookups if lookup))
        # Several lookups may begin with the same relation, which Django takes once.
        prefetches = {
            path: prefetch
            for lookup in lookups
            if lookup
            for path, prefetch in _prefetches(self.model, lookup, using=using)
        }
        return queryset.prefetch_related(*prefetches.values())


def register(model: type[models.Model]) -> Callable[[_VisualIndexType], _VisualIndexType]:
    """Class decorator: this VisualIndex describes `model`."""

    def decorate(index_class: _VisualIndexType) -> _VisualIndexType:
        if not (isinstance(index_class, type) and issubclass(index_class, VisualIndex)):
            raise ImproperlyConfigured(
                f"visualsearch.register({model.__name__}) decorates {index_class!r}, "
                "which is not a subclass of visualsearch.VisualIndex."
            )
        _registry[model] = index_class(model)
        return index_class

    return decorate


def registered() -> dict[type[models.Model], VisualIndex]:
    """Every registered index by its model."""
    return dict(_registry)


def product_model() -> type[models.Model]:
    """The model that PRODUCT_MODEL names."""
    name = conf.product_model_name()
    try:
        return apps.get_model(name)
    except (LookupError, ValueError) as error:
        raise ImproperlyConfigured(
            f"VISUALSEARCH['PRODUCT_MODEL'] is {name!r}, and no such model is installed: {error}"
        ) from error


def get_index() -> VisualIndex:
    """The index of PRODUCT_MODEL; ImproperlyConfigured when the shop registered none."""
    model = product_model()
    try:
        return _registry[model]
    except KeyError:
        raise ImproperlyConfigured(
            f"No VisualIndex is registered for {model._meta.label}: add a visual_indexes.py to "
            f"one of the installed apps with @visualsearch.register({model.__name__})."
        ) from None


def values_at(product: models.Model, path: str) -> list[Any]:
    """Every value that `path` reaches from `product`, None left out, in the relations' order."""
    found: list[Any] = [product] if path else []
    for part in path.split("__") if path else ():
        found = [value for item in found for value in _step(item, part)]
    return found


def _step(item: Any, name: str) -> Iterator[Any]:
    value = getattr(item, name, None)
    if isinstance(value, models.Manager):
        yield from value.all()
    elif value is not None:
        yield value


def join_values(product: models.Model, path: str) -> str:
    """The values at `path` as one text."""
    return " ".join(str(value).strip() for value in values_at(product, path)).strip()


def readable_paths(index: VisualIndex, paths: Sequence[str]) -> list[str]:
    """Those of `paths` that can be read in SQL without repeating a product, each once."""
    return [path for path in dict.fromkeys(paths) if path and _is_readable(index, path)]


def _is_readable(index: VisualIndex, path: str) -> bool:
    try:
        steps = resolve_path(index.model, path)
    except FieldDoesNotExist:
        return False
    if steps[-1].is_relation:
        return False  # its text is the other object's str(), which SQL does not know
    return not any(step.many_to_many or step.one_to_many for step in steps if step.is_relation)


def fields_by_attribute(model: type[models.Model]) -> Mapping[str, Any]:
    """The model's fields and relations by the attribute that reads them from an instance.

    For a reverse relation that is its accessor ("photo_set"), not the name that lookups use.
    """
    # Asked for with every hit that is shown. Until all apps are ready one may still add a field.
    return _kept_fields(model) if apps.ready else _fields(model)


def _fields(model: type[models.Model]) -> Mapping[str, Any]:
    fields = model._meta.get_fields(include_hidden=False)
    names = {
        f: f.get_accessor_name() if isinstance(f, ForeignObjectRel) else f.name for f in fields
    }
    return MappingProxyType({name: f for f, name in names.items() if name})


_kept_fields = functools.cache(_fields)


def resolve_path(model: type[models.Model], path: str) -> list[models.Field[Any, Any]]:
    """The fields that `path` goes through, the last one the value; FieldDoesNotExist if none.

    Names are those that attribute access takes.
    """
    steps: list[Any] = []
    current: type[models.Model] | None = model
    for part in path.split("__"):
        if current is None:
            raise FieldDoesNotExist(f"{path!r} goes on after {steps[-1].name!r}, a plain field")
        step = fields_by_attribute(current).get(part)
        if step is None:
            raise FieldDoesNotExist(f"{current._meta.label} has no field {part!r}")
        steps.append(step)
        current = step.related_model if step.is_relation else None
    return steps


def _prefetches(
    model: type[models.Model], lookup: str, *, using: str
) -> Iterator[tuple[str, str | models.Prefetch[Any]]]:
    """The path of each relation of `lookup`, and what fetches it from the database `using`."""
    parts = lookup.split("__")
    for number, step in enumerate(resolve_path(model, lookup), start=1):
        path, related = "__".join(parts[:number]), step.related_model
        if isinstance(related, type):
            to_one = step.many_to_one or step.one_to_one
            manager = related._base_manager if to_one else related._default_manager
            yield path, models.Prefetch(path, queryset=manager.using(using))
        else:  # to rows of any model: Django asks for each by itself
            yield path, path


def relation_of(model: type[models.Model], path: str) -> str:
    """The part of `path` that prefetch_related takes: all but a final plain field."""
    parts = path.split("__")
    try:
        steps = resolve_path(model, path)
    except FieldDoesNotExist:
        return ""  # a check reports it; a property at the end of a path is the shop's own affair
    return "__".join(parts if steps[-1].is_relation else parts[:-1])
