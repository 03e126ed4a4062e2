"""Products that look like one product, for its page: precomputed where that suffices, else searched."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from itertools import chain
from typing import Any

from django.db import models
from django.http import HttpRequest

from visualsearch import indexes
from visualsearch.exceptions import NoCheckpointError, QueryError
from visualsearch.queries import cleaning, query_ids
from visualsearch.queries.options import Options
from visualsearch.queries.query import Query
from visualsearch.search import kinds, precomputed, visibility
from visualsearch.search.asking import Asking
from visualsearch.search.calibration import NOT_CALIBRATED, Curve
from visualsearch.search.results import BLOCK, Found, Match, Results, Source
from visualsearch.search.scope import Scope
from visualsearch.tables import judgements

FALLBACKS = ("none", "category")
"""What fills a widget that has too few similar products."""
_untrained = threading.Event()
"""Set while this process finds nothing trained: the statement that tells so is then asked first."""


def similar_to(
    product: models.Model,
    *,
    queryset: models.QuerySet[Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    limit: int = 8,
    min_match: float | None = None,
    fallback: str = "none",
    request: HttpRequest | None = None,
) -> Results:
    """Products that look like this one: precomputed where enough of them match, else searched.

    `fallback="category"` fills up with others of its kind where fewer than `limit` are found. A
    product that has no embedding yet gets others of its kind: `Results.degraded`.
    """
    limit, least = _checked(limit, min_match, fallback)
    scope = Scope(queryset=queryset, filters=filters, request=request, without=[product])
    stored, others = _stored_or_kind(scope, product, limit=limit)
    name, curve = stored.checkpoint, stored.curve
    if others:
        return scope.results(
            Found(matches=_unscored(others), exact=len(others) < limit),
            limit=limit,
            reason=NoCheckpointError.code,
            reference=product,
            query_id=query_ids.make(),
        )
    if len(stored.matches) == limit:
        kept, reason = _cut(stored.matches, least, curve)
        source: Source = Found(matches=kept, exact=len(kept) < limit)
    else:
        if unwanted := judgements.banned(product):
            products = indexes.product_model()._default_manager.all()
            queryset = (products if queryset is None else queryset).exclude(pk__in=unwanted)
        asking = Asking(
            Query.of(image=product),
            Options(min_match=least),
            queryset=queryset,
            filters=filters,
            request=request,
            page=limit,
        )
        results = asking.answer(limit)
        if fallback == "none" or results.degraded or len(results) >= limit:
            return results
        kept, reason = _first(asking.source, limit), results.reason
        source, name = Found(matches=kept), results.checkpoint
        curve = asking.curve
    if fallback == "category" and len(kept) < limit:
        shown = [match.product_id for match in kept]
        others = kinds.others(scope, product, limit=limit - len(kept), without=shown)
        source = Found(matches=(*kept, *_unscored(others)))
    return scope.results(
        source,
        limit=limit,
        name=name,
        reason=reason,
        reference=product,
        curve=curve,
        query_id=query_ids.make(),
    )


def similar_to_key(
    key: Any,
    *,
    filters: Mapping[str, Any] | None = None,
    limit: int = 8,
    min_match: float | None = None,
    fallback: str = "none",
    request: HttpRequest | None = None,
) -> Results:
    """As `similar_to`, of the product with this key; UnknownProductError unless `request` may see it.

    Where enough neighbours are stored, the statement that reads them also asks whether the product
    may be seen, and the product itself is not loaded.
    """
    index = indexes.get_index()
    key = visibility.clean_key(index, key)
    number, least = _checked(limit, min_match, fallback)
    if not least:
        scope = Scope(queryset=None, filters=filters, request=request)
        visible = scope.matching if not filters else scope.visible
        stored = precomputed.neighbours(key, scope.matching, limit=number, visible=visible)
        if len(stored.matches) == number:
            return scope.results(
                Found(matches=stored.matches, exact=False),
                limit=number,
                name=stored.checkpoint,
                curve=stored.curve,
                query_id=query_ids.make(),
            )
    return similar_to(
        visibility.find(index, key, request=request),
        filters=filters,
        limit=limit,
        min_match=min_match,
        fallback=fallback,
        request=request,
    )


def _stored_or_kind(
    scope: Scope, product: models.Model, *, limit: int
) -> tuple[precomputed.Neighbours, list[Any]]:
    """Its stored neighbours; or keys of others of its kind where nothing is trained, or no longer there.

    Each is one statement, and the one that most likely has the answer goes first.
    """
    was_untrained = _untrained.is_set()
    if was_untrained and (others := kinds.others(scope, product, limit=limit, untrained=True)):
        return precomputed.Neighbours(), others
    stored = precomputed.neighbours(product.pk, scope.allowed, limit=limit)
    if not stored.matches and not was_untrained:
        others = kinds.others(scope, product, limit=limit, untrained=True)
        if others:
            _untrained.set()
            return stored, others
    _untrained.clear()
    return stored, []


def _checked(limit: int, min_match: float | None, fallback: str) -> tuple[int, float]:
    """The limit and the least match; QueryError for what cannot be asked."""
    limit = cleaning.clean_limit(limit)
    least = 0.0 if min_match is None else cleaning.clean_fraction(min_match, field="min_match")
    if fallback not in FALLBACKS:
        raise QueryError(
            f"fallback is {str(fallback)[:40]!r}: give one of {', '.join(FALLBACKS)}.",
            field="fallback",
        )
    return limit, least


def _first(source: Source, count: int) -> tuple[Match, ...]:
    blocks = [source.block(number).matches for number in range(-(-count // BLOCK))]
    return tuple(chain(*blocks))[:count]


def _cut(
    matches: tuple[Match, ...], least: float, curve: Curve | None
) -> tuple[tuple[Match, ...], str]:
    """The matches that reach min_match, and why if that could not be told."""
    if not least:
        return matches, ""
    if curve is None:
        return matches, NOT_CALIBRATED
    bar = curve.score_at(least)
    return tuple(m for m in matches if m.score is not None and m.score >= bar), ""


def _unscored(keys: list[Any]) -> tuple[Match, ...]:
    return tuple(Match(product_id=key) for key in keys)
