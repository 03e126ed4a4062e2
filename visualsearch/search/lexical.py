"""Where matches come from without vectors: products that match the words, or all, by their keys."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models

from visualsearch.search.query_words import Words
from visualsearch.search.results import BLOCK, LOADED, NOTHING, Block, Match, Total
from visualsearch.search.subquery import Subquery
from visualsearch.search.word_ranking import CODE, ORDER, matching
from visualsearch.tables.deadlines import bounded, read, together


class LexicalMatches:
    """Products that match the words, the best first: the answer where there are no vectors."""

    def __init__(self, *, allowed: models.QuerySet[Any], text: str) -> None:
        self._allowed = allowed
        self._text = text
        self._read = functools.cache(self._matches)

    def block(self, number: int) -> Block:
        return _block(*self._read(BLOCK * number // LOADED), number)

    def _matches(self, part: int) -> tuple[list[Match], int | None]:
        """LOADED of those that match, and how many there are; None if there are none so far down."""
        try:
            subquery = Subquery(self._allowed)
        except EmptyResultSet:
            return [], None
        start = LOADED * part
        with together():
            ctes, parameters = matching(Words.of(self._text), subquery)
            rows = read(
                f"WITH {ctes} SELECT product_id, score, count(*) OVER () FROM words "
                f"ORDER BY {ORDER} LIMIT %s OFFSET %s",
                [*parameters, LOADED, start],
            )
        matches = [
            Match(product_id=pk, by_words=start + place, is_code=score == CODE)
            for place, (pk, score, _) in enumerate(rows, 1)
        ]
        return matches, rows[0][2] if rows else None


class Listed:
    """Products in the order of their keys: for a query that holds conditions alone."""

    def __init__(self, allowed: models.QuerySet[Any]) -> None:
        self._allowed = allowed.order_by("pk")
        self._read = functools.cache(self._matches)

    def block(self, number: int) -> Block:
        return _block(*self._read(BLOCK * number // LOADED), number)

    def _matches(self, part: int) -> tuple[list[Match], int | None]:
        with bounded():
            rows = self._allowed.values_list("pk", flat=True).distinct()
            found = list(rows[LOADED * part : LOADED * (part + 1)])
            count = self._allowed.order_by().values("pk").distinct().count() if found else None
        return [Match(product_id=pk) for pk in found], count


def _block(matches: Sequence[Match], count: int | None, number: int) -> Block:
    """The `number`-th block, of the LOADED matches that it is among."""
    if count is None:
        return Block(matches=(), total=NOTHING.total if number == 0 else None)
    start = BLOCK * number % LOADED
    return Block(
        matches=tuple(matches[start : start + BLOCK]), total=Total(value=count, exact=True)
    )
