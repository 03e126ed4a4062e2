"""Others of a product's kind: what a widget shows where too few can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models

from visualsearch.indexes import VisualIndex, readable_paths
from visualsearch.models import Checkpoint, Judgement
from visualsearch.search import visibility
from visualsearch.search.scope import Scope
from visualsearch.tables.deadlines import bounded


def same_kind(
    index: VisualIndex, allowed: models.QuerySet[Any], product: models.Model
) -> models.QuerySet[Any]:
    """Those of `allowed` with the product's label; none if the label is not a plain field."""
    products = index.model._base_manager.filter(pk__in=allowed.order_by().values("pk"))
    label = index.get_label(product)
    if not label or not readable_paths(index, [index.label_field]):
        return products.none()
    return products.filter(**{index.label_field: label})


def others(
    scope: Scope,
    product: models.Model,
    *,
    limit: int,
    without: Sequence[Any] = (),
    untrained: bool = False,
) -> dict[Any, models.Model]:
    """The first `limit` of its kind by key, less what is banned: key -> product, as a card needs them.

    With `untrained`, none where a checkpoint is live: the same statement tells.
    """
    banned = Judgement.objects.filter(product_id=product.pk, verdict=Judgement.Verdict.BAN)
    kind = same_kind(scope.index, scope.allowed, product).exclude(pk__in=without)
    kind = kind.filter(~models.Exists(banned.filter(other_id=models.OuterRef("pk"))))
    if untrained:
        live = Checkpoint.objects.filter(state=Checkpoint.State.LIVE)
        kind = kind.filter(~models.Exists(live))
    keys = kind.order_by("pk").values("pk").distinct()[:limit]
    with bounded():
        found = visibility.fetch(scope.index, scope.allowed, scope.queryset, keys, with_images=True)
    return {key: found[key] for key in sorted(found)}
