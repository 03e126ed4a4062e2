"""Others of a product's kind: what a widget shows where too few can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models

from visualsearch.indexes import VisualIndex, readable_paths
from visualsearch.search import visibility
from visualsearch.search.scope import Scope
from visualsearch.search.subquery import Subquery
from visualsearch.tables import deadlines, keys

# Written by hand, as that of the neighbours: a page asks it in their place.
_STATEMENT = """\
SELECT kind.pk FROM ({kind}) AS kind(pk)
WHERE NOT EXISTS (
    SELECT FROM visualsearch_judgement
    WHERE product_id = %s AND other_id = kind.pk AND verdict = 'ban'
)
{condition}ORDER BY kind.pk LIMIT %s
"""
_UNTRAINED = "AND NOT EXISTS (SELECT FROM visualsearch_checkpoint WHERE state = 'live')\n"


def same_kind(
    index: VisualIndex, allowed: models.QuerySet[Any], product: models.Model
) -> models.QuerySet[Any]:
    """Those of `allowed` with the product's label; none if the label is not a plain field."""
    label = index.get_label(product)
    if not label or not readable_paths(index, [index.label_field]):
        return index.model._base_manager.none()
    if "__" not in index.label_field and visibility.is_plain(allowed):
        return allowed.filter(**{index.label_field: label})
    products = index.model._base_manager.filter(pk__in=allowed.order_by().values("pk"))
    return products.filter(**{index.label_field: label})


def others(
    scope: Scope,
    product: models.Model,
    *,
    limit: int,
    without: Sequence[Any] = (),
    untrained: bool = False,
) -> list[Any]:
    """Keys of the first `limit` of its kind, less what is banned beside it.

    With `untrained`, none where a checkpoint is live: the same statement tells.
    """
    try:
        kind = Subquery(same_kind(scope.index, scope.allowed, product))
    except EmptyResultSet:
        return []
    statement = _STATEMENT.format(kind=kind.distinct, condition=_UNTRAINED if untrained else "")
    (key,) = keys.prepared([product.pk])
    rows = deadlines.read(statement, [*kind.parameters, key, limit + len(without)])
    return [pk for (pk,) in rows if pk not in without][:limit]
