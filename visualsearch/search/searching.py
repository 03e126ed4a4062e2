"""Query -> ranked products: similar products, words, a photo, and "like this but…"."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from django.db import models
from django.http import HttpRequest

from visualsearch import indexes
from visualsearch.conf import get_settings
from visualsearch.exceptions import (
    EncoderBusyError,
    EncoderUnavailableError,
    NoCheckpointError,
    QueryError,
)
from visualsearch.models import Checkpoint
from visualsearch.queries import cleaning, photo_tokens, query_ids
from visualsearch.queries.options import SEMANTIC_RATIO, Options
from visualsearch.queries.query import Query
from visualsearch.search import filters as filtering
from visualsearch.search import kinds, precomputed, query_vector, visibility
from visualsearch.search.calibration import NOT_CALIBRATED, Curve
from visualsearch.search.hybrid import HybridMatches
from visualsearch.search.lexical import LexicalMatches, Listed
from visualsearch.search.live import live_checkpoint
from visualsearch.search.nearest import NearestProducts
from visualsearch.search.query_vector import NotIndexedError, QueryVector
from visualsearch.search.rearranging import Rearranged
from visualsearch.search.results import BLOCK, Found, Match, Results, Source
from visualsearch.search.scope import Scope
from visualsearch.search.understanding import Understood, understand
from visualsearch.tables import judgements

logger = logging.getLogger(__name__)

NOT_INDEXED = "not_indexed"
"""Reason of a degraded answer: the product has no embedding by the live checkpoint yet."""
USUAL_PAGE = 20
FALLBACKS = ("none", "category")
"""What fills a widget that has too few similar products."""


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
    asking = _Asking(query, options, queryset=queryset, filters=filters, request=request, page=page)
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
    stored = precomputed.neighbours(product.pk, scope.allowed, limit=limit)
    name, curve = stored.checkpoint, stored.curve
    if not stored.matches and (others := kinds.others(scope, product, limit=limit, untrained=True)):
        # Nothing has been trained, or what was is gone: known without a search that finds it out.
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
        asking = _Asking(
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


class _Asking:
    """One search: its query, what it may find, and where its matches come from."""

    def __init__(
        self,
        query: Query,
        options: Options,
        *,
        queryset: models.QuerySet[Any] | None,
        filters: Mapping[str, Any] | None,
        request: HttpRequest | None,
        page: int = USUAL_PAGE,
    ) -> None:
        self.options = options
        self.page = page
        self.query, understood = _understood(query)
        self.filters = {name: value for each in understood for name, value in each.filters.items()}
        self.scope = Scope(
            queryset=queryset,
            filters=filters,
            request=request,
            without=query.own_products,
            conditions=[condition for each in understood for condition in each.conditions],
        )
        self.fields = self._fields()
        self.curve: Curve | None = None
        self.source: Source = Listed(self.scope.allowed)

    def answer(self, limit: int | None) -> Results:
        checkpoint = live_checkpoint()
        asked: QueryVector | None = None
        ratio, reason = self._ratio(), ""
        try:
            if self._is_listing():
                checkpoint = None
            elif ratio == 0:
                checkpoint = None
                self.source = LexicalMatches(allowed=self.scope.allowed, text=self.query.text)
            else:
                if checkpoint is None:
                    raise NoCheckpointError(
                        "Nothing has been trained yet, so photos cannot be searched for: search by "
                        "words, or come back when training has finished."
                    )
                asked = query_vector.encode(self.query, checkpoint)
                reason = asked.reason
                self.curve = Curve.of(checkpoint, asked.match_kind)
                self.source = self._matches(checkpoint, asked, ratio)
        except (NoCheckpointError, EncoderUnavailableError, EncoderBusyError) as error:
            if self.query.needs_photo:
                raise
            logger.warning("Answering without vectors: %s", error)
            checkpoint, reason = None, error.code
            self.source = self._without_vectors()
        except NotIndexedError:
            checkpoint, reason = None, NOT_INDEXED
            self.source = self._without_vectors()
        if self.options.min_match and self.curve is None and checkpoint is not None:
            reason = reason or NOT_CALIBRATED
        if self.options.rearranges:
            self.source = self._rearranged(checkpoint)
        return self.scope.results(
            self.source,
            limit=limit,
            checkpoint=checkpoint,
            reason=reason,
            asked=asked,
            reference=self.query.reference,
            curve=self.curve,
            understood=self.filters,
            photo_token=_token(checkpoint, asked),
            query_id=query_ids.make(),
        )

    def _is_listing(self) -> bool:
        """Whether nothing is left of the words but conditions."""
        return not self.query.terms and not self.query.has_products_or_image

    def _ratio(self) -> float:
        """What vectors count for beside the words."""
        ratio = self.options.semantic_ratio
        if not self.query.text:
            return 1.0
        if ratio is None:
            return SEMANTIC_RATIO if self.query.is_plain_text else 1.0
        return 1.0 if ratio == 0 and self.query.has_products_or_image else ratio

    def _size(self) -> int:
        """Matches that are read at a time: all that can be reached where they are put in order."""
        settings = get_settings()
        return settings.OFFSET_MAX + settings.LIMIT_MAX if self.options.rearranges else BLOCK

    def _matches(self, checkpoint: Checkpoint, asked: QueryVector, ratio: float) -> Source:
        nearest = NearestProducts(
            checkpoint=checkpoint,
            vector=asked.vector,
            kind=asked.kind,
            allowed=self.scope.allowed,
            alike=self.scope.matching,
            size=self._size(),
            page=self.page,
        )
        if ratio == 1:
            return nearest
        return HybridMatches(nearest, text=self.query.text, semantic_ratio=ratio)

    def _rearranged(self, checkpoint: Checkpoint | None) -> Rearranged:
        least = self.options.min_match
        return Rearranged(
            self.source,
            index=self.scope.index,
            checkpoint=checkpoint,
            options=self.options,
            fields=self.fields,
            page=self.page,
            least_score=self.curve.score_at(least) if least and self.curve else None,
        )

    def _fields(self) -> dict[str, filtering.FilterField]:
        """The fields that `max_per` names, and "" for what variants share."""
        index = self.scope.index
        found = {
            name: filtering.find_field(index, name, field="max_per")
            for name in self.options.max_per
        }
        if self.options.collapse == "group":
            group = filtering.group_field(index)
            if group is None:
                raise QueryError(
                    "The index declares no group_field that is a plain field, so nothing can be "
                    'collapsed by "group".',
                    field="collapse",
                )
            found[""] = group
        return found

    def _without_vectors(self) -> Source:
        """The lexical answer: by words, of the product's kind if one is named."""
        words = f"{self.query.text} {self.query.modify}".strip()
        product, scope = self.query.reference, self.scope
        if product is None:
            return LexicalMatches(allowed=scope.allowed, text=words)
        kind = kinds.same_kind(scope.index, scope.allowed, product)
        if words:
            source = LexicalMatches(allowed=kind, text=words)
            if source.block(0).matches:
                return source
        return Listed(kind)


def _understood(query: Query) -> tuple[Query, list[Understood]]:
    """The query less what is a condition, and the conditions."""
    index = indexes.get_index()
    found = []
    terms, modify = query.terms, query.modify
    if len(terms) == 1 and terms[0].weight == 1:
        words = understand(index, terms[0].text, reference=query.reference)
        if words.conditions:
            found.append(words)
            terms = (replace(terms[0], text=words.text),) if words.text else ()
    if modify:
        change = understand(index, modify, reference=query.reference)
        if change.conditions:
            found.append(change)
            modify = change.text
    return (replace(query, terms=terms, modify=modify) if found else query), found


def _token(checkpoint: Checkpoint | None, asked: QueryVector | None) -> str:
    if checkpoint is None or asked is None or asked.photo is None:
        return ""
    return photo_tokens.make(checkpoint.pk, asked.photo)


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
