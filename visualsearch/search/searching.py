"""Query -> ranked products: similar products, words, a photo, and "like this but…"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models
from django.http import HttpRequest

from visualsearch.queries import cleaning, query_ids
from visualsearch.queries.options import Options
from visualsearch.queries.query import Query
from visualsearch.search.asking import NOT_INDEXED, USUAL_PAGE, Asking
from visualsearch.search.lexical import Listed
from visualsearch.search.results import Results
from visualsearch.search.scope import Scope
from visualsearch.search.similar import FALLBACKS, similar_to, similar_to_key

__all__ = [
    "FALLBACKS",
    "NOT_INDEXED",
    "browse",
    "recommend",
    "search",
    "similar_to",
    "similar_to_key",
]


def search(
    text: str | Mapping[str, float] | None = None,
    *,
    image: Any = None,
    modify: str | None = None,
    strength: float | None = None,
    box: Any = None,
    positive: Any = None,
    negative: Any = None,
    hybrid: Any = None,
    diversity: Any = None,
    min_match: float | None = None,
    collapse: str | None = None,
    queryset: models.QuerySet[Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    limit: int | None = None,
    page: int = USUAL_PAGE,
    request: HttpRequest | None = None,
) -> Results:
    """Products that answer everything that was asked for together.

    `text`: words, or a mapping words -> weight. `image`: bytes, an open file, a product, or the
    token of an earlier photo; changed as `modify` says, with a
    `strength` from 0 to 2 (1 is usual). `positive`, `negative`: products, pairs with
    weights, or a mapping. Products that are named are not among the results. Of `queryset`, which
    may have any conditions and annotations, only what the index has and `request` may see is
    searched. `limit` caps the results; without it they can be paged through.

    `hybrid`: whether words are matched as words too, or {"semantic_ratio": 0…1}; usual for words
    alone. `diversity`: {"mmr": 0…1, "max_per": {filter: n}}, of which mmr chooses among five times
    `page` hits. `min_match`: hits below that calibrated match are not shown. `collapse`:
    "duplicates" or "group".

    Raises QueryError and ImageError for what cannot be asked, NoCheckpointError,
    EncoderUnavailableError or EncoderBusyError for a photo that nothing can look at. Words and
    products are answered without vectors then: `Results.degraded`.
    """
    query = Query.of(
        text,
        image=image,
        modify=modify,
        strength=strength,
        box=box,
        positive=positive,
        negative=negative,
    )
    options = Options.of(hybrid=hybrid, diversity=diversity, min_match=min_match, collapse=collapse)
    if limit is not None:
        limit = cleaning.clean_limit(limit)
    asking = Asking(query, options, queryset=queryset, filters=filters, request=request, page=page)
    return asking.answer(limit)


def recommend(
    *,
    positive: Any,
    negative: Any = None,
    diversity: Any = None,
    min_match: float | None = None,
    collapse: str | None = None,
    queryset: models.QuerySet[Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    limit: int | None = None,
    request: HttpRequest | None = None,
) -> Results:
    """Products that resemble the positive ones and not the negative ones; see `search`."""
    return search(
        positive=positive,
        negative=negative,
        diversity=diversity,
        min_match=min_match,
        collapse=collapse,
        queryset=queryset,
        filters=filters,
        limit=limit,
        request=request,
    )


def browse(
    *,
    queryset: models.QuerySet[Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    request: HttpRequest | None = None,
) -> Results:
    """All products that the filters leave, in the order of their keys: where nothing is asked for."""
    scope = Scope(queryset=queryset, filters=filters, request=request)
    return scope.results(Listed(scope.allowed), limit=None, query_id=query_ids.make())
