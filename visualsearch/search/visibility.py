"""Which products a search may return: the index's, the visitor's and the caller's, as one queryset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest

from visualsearch.exceptions import InvalidTextError, UnknownProductError
from visualsearch.indexes import VisualIndex, relation_of
from visualsearch.queries.cleaning import check_characters

Products = models.QuerySet[Any]


def allowed(
    index: VisualIndex, *, request: HttpRequest | None, queryset: Products | None
) -> Products:
    """What is in the index, visible to the visitor and in `queryset`; it can be filtered further."""
    indexed = index.get_queryset()
    if queryset is None:
        return index.visible_to(request, indexed)
    check_queryset(index, queryset)
    if is_plain(queryset):
        # One WHERE instead of a query nested in another: Postgres plans it better.
        visible = index.visible_to(request, queryset)
        if _is_everything(indexed):
            return visible
        return visible.filter(pk__in=indexed.order_by().values("pk"))
    return index.visible_to(request, indexed).filter(pk__in=queryset.values("pk"))


def check_queryset(index: VisualIndex, queryset: Products) -> None:
    """TypeError unless `queryset` gives the products of the index."""
    if not issubclass(queryset.model, index.model) or queryset._fields is not None:  # type: ignore[attr-defined]
        raise TypeError(
            f"queryset gives {queryset.model._meta.label} rows or values(): give a queryset of "
            f"{index.model._meta.label} objects."
        )


def fetch(
    index: VisualIndex,
    products: Products,
    queryset: Products | None,
    ids: Sequence[Any],
    *,
    with_images: bool,
) -> dict[Any, models.Model]:
    """pk -> product, of those `ids` that are still in `products`, made by the caller's `queryset`.

    The caller's queryset brings its annotations, select_related and prefetch_related.
    """
    if not ids:
        return {}
    source = products
    if queryset is not None and not is_plain(queryset):
        source = _without_slice(queryset).filter(pk__in=products.values("pk"))
    source = _with_related(index, source, with_images=with_images)
    return {product.pk: product for product in source.filter(pk__in=ids)}


def find(
    index: VisualIndex, pk: Any, *, request: HttpRequest | None, field: str = "product"
) -> models.Model:
    """The product that this visitor may see, or UnknownProductError, the same for hidden ones."""
    return find_all(index, [pk], request=request, field=field)[0]


def find_all(
    index: VisualIndex, keys: Sequence[Any], *, request: HttpRequest | None, field: str
) -> list[models.Model]:
    """The products of these keys, in their order, by one query; as `find` if one is not there."""
    cleaned = [clean_key(index, key, field=field) for key in keys]
    products = index.visible_to(request, index.get_queryset())
    found = {product.pk: product for product in products.filter(pk__in=set(cleaned))}
    for key, given in zip(cleaned, keys, strict=True):
        if key not in found:
            raise _unknown(given, field)
    return [found[key] for key in cleaned]


def clean_key(index: VisualIndex, key: Any, *, field: str = "product") -> Any:
    """The key as the column has it, or UnknownProductError."""
    column = index.model._meta.pk
    if isinstance(key, bool | float | list | dict) or key is None or len(str(key)) > 255:
        raise _unknown(key, field)
    try:
        check_characters(str(key), field=field)
        cleaned = column.to_python(key)
    except (ValidationError, InvalidTextError, ValueError, TypeError, OverflowError):
        raise _unknown(key, field) from None
    if isinstance(column, models.IntegerField) and not -(2**63) <= cleaned < 2**63:
        raise _unknown(key, field)
    return cleaned


def _unknown(key: Any, field: str) -> UnknownProductError:
    return UnknownProductError(
        f"There is no product {str(key)[:40]!r}: give the id of one that is on sale.", field=field
    )


def is_plain(queryset: Products) -> bool:
    """Whether conditions can be added to the queryset without changing what it means."""
    query = queryset.query
    return not (query.is_sliced or query.combinator or query.distinct_fields)


def _is_everything(queryset: Products) -> bool:
    query = queryset.query
    return is_plain(queryset) and not query.where and not query.distinct and not query.annotations


def _without_slice(queryset: Products) -> Products:
    """The queryset's objects, unrestricted by LIMIT, DISTINCT ON and UNION; annotations are kept."""
    if queryset.query.combinator:
        return queryset.model._default_manager.all()
    clone = queryset.all()
    clone.query.clear_limits()
    clone.query.distinct_fields = ()
    clone.query.distinct = False
    clone.query.clear_ordering(force=True)
    return clone


def _with_related(index: VisualIndex, queryset: Products, *, with_images: bool) -> Products:
    """With what a card shows already fetched, unless the caller fetches it in a way of their own."""
    paths = [*index.text_fields[:1], index.label_field, index.price_field]
    paths += [index.image_field] if with_images else []
    seen = {
        getattr(lookup, "prefetch_to", lookup)
        for lookup in queryset._prefetch_related_lookups  # type: ignore[attr-defined]
    }
    lookups = dict.fromkeys(relation_of(index.model, path) for path in paths if path)
    return queryset.prefetch_related(
        *(lookup for lookup in lookups if lookup and lookup not in seen)
    )
