"""The degraded answer: words by Postgres full text, products by their kind, without any vector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import Count, F, Q, Value, Window
from django.db.models.functions import Cast, Coalesce, Left

from visualsearch.deadlines import bounded
from visualsearch.indexes import VisualIndex, resolve_path
from visualsearch.results import BLOCK, NOTHING, Block, Match, Total

DOCUMENT_CHARACTERS = 10_000
"""What is read of one field: a tsvector has a size limit, and one huge text must not end all."""
MOST_WORDS = 12
_BEGINNINGS_KEPT = ("english", "simple")
"""Text search configurations whose lexemes are how the words begin, but for a final y."""
_OPERATOR = re.compile(r'"|(^|\s)-|\bor\b', re.IGNORECASE)


class LexicalMatches:
    """Products whose texts, label or attributes hold the words; those with all of them come first.

    Tries all words, then any word, then parts of words, and stays with the first that matches.
    """

    def __init__(self, *, index: VisualIndex, allowed: models.QuerySet[Any], text: str) -> None:
        self._paths = _readable_paths(index)
        self._products = index.model._base_manager.filter(pk__in=allowed.order_by().values("pk"))
        self._text = text
        self._words = re.findall(r"\w+", text)[:MOST_WORDS]

    def block(self, number: int) -> Block:
        for attempt in self._attempts():
            found = _block(attempt, number)
            # What is beyond the end of an attempt is not to be had from the next.
            if found.matches or (number > 0 and _block(attempt, 0).matches):
                return found
        return NOTHING

    def _attempts(self) -> Iterator[models.QuerySet[Any]]:
        if self._paths and self._words:
            # Looking for letters costs a tenth of reading words: it goes first, and few are left.
            near = [self._anywhere(beginning) for beginning in self._beginnings]
            every = near if not _OPERATOR.search(self._text) else []
            yield self._by_rank(SearchQuery(self._text, search_type="websearch"), *every)
            if len(self._words) > 1:
                yield self._by_rank(_any_of(self._words), reduce(or_, near, Q()))
            yield self._by_parts()

    @cached_property
    def _beginnings(self) -> list[str]:
        """How each word begins in all its forms, less the stop words; [] if that cannot be said."""
        with bounded() as cursor:
            cursor.execute(
                "SELECT tsvector_to_array(to_tsvector(%s)), cfgname FROM pg_ts_config "
                "WHERE oid = get_current_ts_config()",
                [self._text],
            )
            lexemes, configuration = cursor.fetchone()
        if configuration not in _BEGINNINGS_KEPT:
            return []
        return [each.removesuffix("i") if len(each) > 2 else each for each in lexemes]

    def _anywhere(self, letters: str) -> Q:
        return reduce(or_, (Q(**{f"{path}__icontains": letters}) for path in self._paths))

    def _by_rank(self, query: SearchQuery, *conditions: Q) -> models.QuerySet[Any]:
        documents = [
            Left(Coalesce(Cast(F(path), models.TextField()), Value("")), DOCUMENT_CHARACTERS)
            for path in self._paths
        ]
        vector = SearchVector(*documents)
        return (
            self._products.annotate(visualsearch_document=vector)
            .filter(*conditions, visualsearch_document=query)
            .annotate(visualsearch_rank=SearchRank(vector, query))
            .order_by("-visualsearch_rank", "pk")
        )

    def _by_parts(self) -> models.QuerySet[Any]:
        found = self._products
        for word in self._words:
            found = found.filter(self._anywhere(word))
        return found.order_by("pk")


class SameKind:
    """Products with the same label, for a product that has no embedding yet."""

    def __init__(
        self, *, index: VisualIndex, allowed: models.QuerySet[Any], product: models.Model
    ) -> None:
        self._matching = same_kind(index, allowed, product).order_by("pk")

    def block(self, number: int) -> Block:
        return _block(self._matching, number)


def same_kind(
    index: VisualIndex, allowed: models.QuerySet[Any], product: models.Model
) -> models.QuerySet[Any]:
    """Those of `allowed` with the product's label; none if the label is not a plain field."""
    products = index.model._base_manager.filter(pk__in=allowed.order_by().values("pk"))
    label = index.get_label(product)
    if not label or index.label_field not in _readable_paths(index):
        return products.none()
    return products.filter(**{index.label_field: label})


def _block(matching: models.QuerySet[Any], number: int) -> Block:
    """One block and the total by one scan: working the texts out is what takes the time."""
    counted = matching.annotate(visualsearch_total=Window(Count("*")))
    rows = counted.values_list("pk", "visualsearch_total")
    with bounded():
        found = list(rows[BLOCK * number : BLOCK * (number + 1)])
    if not found:
        return Block(matches=(), total=NOTHING.total if number == 0 else None)
    return Block(
        matches=tuple(Match(product_id=pk) for pk, _ in found),
        total=Total(value=found[0][1], exact=True),
    )


def _any_of(words: list[str]) -> SearchQuery:
    query = SearchQuery(words[0], search_type="plain")
    for word in words[1:]:
        query |= SearchQuery(word, search_type="plain")
    return query


def _readable_paths(index: VisualIndex) -> list[str]:
    """The declared fields that can be read in SQL without repeating a product."""
    declared = [*index.text_fields, index.label_field, *index.attribute_fields]
    return [path for path in dict.fromkeys(declared) if path and _is_readable(index, path)]


def _is_readable(index: VisualIndex, path: str) -> bool:
    try:
        steps = resolve_path(index.model, path)
    except FieldDoesNotExist:
        return False
    if steps[-1].is_relation:
        return False  # its text is the other object's str(), which SQL does not know
    return not any(step.many_to_many or step.one_to_many for step in steps if step.is_relation)
