"""Words and vectors in one answer: two lists fused by reciprocal rank, exact article numbers first.

What one product is worth is the sum of share / (constant + place) over both lists (Cormack, Clarke
and Büttcher 2009), which needs no common scale. Products with the same words share a place there, so
that vectors decide between them. The words, their rank, the fusion, and the photos of what only
words found are one statement; the vectors' list comes from its own plan choice (nearest.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, cast

from django.core.exceptions import EmptyResultSet

from visualsearch import keys, lexical
from visualsearch.deadlines import bounded
from visualsearch.nearest import NearestProducts, as_match
from visualsearch.results import Block, Match, Total
from visualsearch.subquery import Subquery

VECTORS_CONSTANT = 60
WORDS_CONSTANT = 10
"""Of reciprocal rank fusion: the smaller, the more the first places count beside those after them.

Vectors put everything into some order, words only what has them. With 60 for both, as published, a
product that vectors put fifth and words second was before the one that words put first: on 1,200
products of H&M, the MRR of titles fell from .87 (words alone) to .80. With 10, chosen on these, it
stays there, and misspelt titles and colours with kinds gain from the vectors; so it does on all
10,613, where 5 would lose that gain: see docs/figures.md.
"""
LEXICAL_LIST = 200
"""Products that words may bring in: the list is cut by rank before anything is joined to it."""


class HybridMatches:
    """The nearest products and those that match the words, as one ranked list.

    The head of the list is fused once; behind it come the vectors' further blocks in their order,
    less what was in the head: no hit comes twice, and none is missed on another page.
    """

    def __init__(self, nearest: NearestProducts, *, text: str, semantic_ratio: float) -> None:
        self.nearest = nearest
        self._text = text
        self._ratio = semantic_ratio
        self._is_started = False
        self._total = Total(value=0, exact=True)
        self._rest: Iterator[Match] = iter(())
        self._read: list[Match] = []

    def block(self, number: int) -> Block:
        size = self.nearest.size
        try:
            if not self._is_started:
                self._start()
            while len(self._read) < size * (number + 1):
                match = next(self._rest, None)
                if match is None:
                    break
                self._read.append(match)
        except Exception:
            # What was read from cannot go on, and would seem to be at its end.
            self._is_started = False
            raise
        return Block(
            matches=tuple(self._read[size * number : size * (number + 1)]), total=self._total
        )

    def _start(self) -> None:
        first = self.nearest.block(0)
        known = {match.product_id: match for match in first.matches}
        rows = self._fuse(first.matches)
        total = first.total or Total(value=len(first.matches), exact=True)
        # What has no embedding yet was not counted among the nearest.
        missing = sum(row[-1] is None and row[0] not in known for row in rows)
        self._total = Total(value=total.value + missing, exact=total.exact)
        head = (_fused(known, *row) for row in rows)
        self._read = []
        self._rest = chain(head, self._after({row[0] for row in rows}, first))
        self._is_started = True

    def _after(self, shown: set[Any], block: Block) -> Iterator[Match]:
        number = 0
        while len(block.matches) == self.nearest.size:
            number += 1
            block = self.nearest.block(number)
            yield from (match for match in block.matches if match.product_id not in shown)

    def _fuse(self, nearest: tuple[Match, ...]) -> list[tuple[Any, ...]]:
        """The fused head, as `_fused` takes it; most of it is behind the page that is shown."""
        try:
            subquery = Subquery(self.nearest.allowed)
        except EmptyResultSet:
            return []
        source = self.nearest
        distances = ", ".join([f"photo.vector <#> %s::{source.type}"] * len(source.vectors))
        with bounded() as cursor:
            ctes, parameters = lexical.matching(lexical.read(cursor, self._text), subquery)
            cursor.execute(
                f"WITH {ctes}, placed AS (SELECT product_id, is_code, "
                "rank() OVER (ORDER BY is_code DESC, has_every DESC, score DESC) AS place "
                f"FROM words ORDER BY place, product_id LIMIT {LEXICAL_LIST}), "
                "given AS (SELECT * FROM "
                f"unnest(%s::{keys.sql_type()}[]) WITH ORDINALITY AS given (product_id, place)), "
                "fused AS (SELECT product_id, given.place AS by_vector, placed.place AS by_words, "
                "coalesce(is_code, false) AS is_code, "
                f"coalesce(%s / ({VECTORS_CONSTANT} + given.place), 0) "
                f"+ coalesce(%s / ({WORDS_CONSTANT} + placed.place), 0) AS worth "
                "FROM given FULL JOIN placed USING (product_id)) "
                "SELECT fused.*, best.position, best.image, best.distance FROM fused "
                "LEFT JOIN LATERAL (SELECT photo.position, photo.image, "
                f"least({distances}) AS distance FROM {source.table} AS photo "
                "WHERE fused.by_vector IS NULL AND photo.product_id = fused.product_id "
                "ORDER BY distance, photo.position LIMIT 1) AS best ON true "
                "ORDER BY is_code DESC, worth DESC, by_words NULLS LAST, by_vector NULLS LAST, "
                "fused.product_id",
                [
                    *parameters,
                    keys.prepared(match.product_id for match in nearest),
                    self._ratio,
                    1 - self._ratio,
                    *source.vectors,
                ],
            )
            return cast(list[tuple[Any, ...]], cursor.fetchall())


def _fused(
    known: dict[Any, Match],
    product_id: Any,
    by_vector: int | None,
    by_words: int | None,
    is_code: bool,
    worth: Any,
    position: int | None,
    image: str | None,
    distance: float | None,
) -> Match:
    match = known.get(product_id)
    if match is None:
        match = Match(product_id=product_id)
        if distance is not None and position is not None:
            match = as_match(product_id, position, image or "", distance)
    return match.placed(by_vector=by_vector, by_words=by_words, is_code=is_code, worth=float(worth))
