"""One search from its query to where its matches come from, and what it falls back on without vectors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
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
from visualsearch.queries import photo_tokens, query_ids
from visualsearch.queries.options import SEMANTIC_RATIO, Options
from visualsearch.queries.query import Query
from visualsearch.search import filters as filtering
from visualsearch.search import kinds, query_vector
from visualsearch.search.calibration import NOT_CALIBRATED, Curve
from visualsearch.search.hybrid import HybridMatches
from visualsearch.search.lexical import LexicalMatches, Listed
from visualsearch.search.live import live_checkpoint
from visualsearch.search.nearest import NearestProducts
from visualsearch.search.query_vector import NotIndexedError, QueryVector
from visualsearch.search.rearranging import Rearranged
from visualsearch.search.results import BLOCK, Results, Source
from visualsearch.search.scope import Scope
from visualsearch.search.understanding import Understood, understand

logger = logging.getLogger(__name__)

NOT_INDEXED = "not_indexed"
"""Reason of a degraded answer: the product has no embedding by the live checkpoint yet."""
USUAL_PAGE = 20


class Asking:
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
