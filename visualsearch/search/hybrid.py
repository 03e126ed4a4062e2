"""Words and vectors in one answer: two lists fused by reciprocal rank, exact article numbers first.

What one product is worth is the sum of share / (constant + place) over both lists (Cormack, Clarke
and Büttcher 2009), which needs no common scale. Products with the same words share a place there, and
their cosines decide between them. Words are one statement (lexical.py), vectors another (nearest.py),
and the photos of what only words found a third, of those that are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet

from visualsearch.search import lexical
from visualsearch.search.lexical import Placed, Ranking
from visualsearch.search.nearest import NearestProducts
from visualsearch.search.results import Block, Match, Total
from visualsearch.tables.deadlines import together

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
"""Products that words may bring in."""


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
        self._by_words: Total | None = None
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
            matches=tuple(self._read[size * number : size * (number + 1)]),
            total=self._total,
            by_words=self._by_words,
        )

    def _start(self) -> None:
        with together():
            first = self.nearest.block(0)
            total = first.total or Total(value=len(first.matches), exact=True)
            photos: dict[Any, Match | None] = {each.product_id: each for each in first.matches}
            words = self._words()
            head = self._fused(list(photos), words.placed)
            if total.exact:
                # What has no embedding yet was not counted among the nearest.
                self._look_up(head, photos)
                missing = sum(match is None for match in photos.values())
                total = Total(value=total.value + missing, exact=True)
        self._total, self._by_words = total, words.total
        self._read = []
        self._rest = chain(self._head(head, photos), self._after({each[0] for each in head}, first))
        self._is_started = True

    def _fused(self, nearest: Sequence[Any], words: Sequence[Placed]) -> list[_Fused]:
        """Both lists as one."""
        by_words = {each.product_id: each for each in words}
        by_vector = {product_id: place for place, product_id in enumerate(nearest, 1)}
        found = []
        for product_id in by_vector | by_words:
            near, said = by_vector.get(product_id), by_words.get(product_id)
            worth = self._ratio / (VECTORS_CONSTANT + near) if near else 0.0
            worth += (1 - self._ratio) / (WORDS_CONSTANT + said.place) if said else 0.0
            is_code = said is not None and said.is_code
            found.append(_Fused(product_id, near, said and said.place, is_code, worth))
        return sorted(found, key=_order)

    def _words(self) -> Ranking:
        try:
            subquery = self.nearest.subquery
        except EmptyResultSet:
            return Ranking([], None)
        return lexical.best(self._text, subquery, most=LEXICAL_LIST)

    def _head(self, fused: Sequence[_Fused], photos: dict[Any, Match | None]) -> Iterator[Match]:
        """Some at a time: most of it is behind the page that is shown, and no photo is looked up for it.

        What is worth the same is looked up together, as its cosines decide its order.
        """
        alike = [list(group) for _, group in groupby(fused, key=_Fused.rank)]
        while alike:
            part = [alike.pop(0)]
            while alike and sum(map(len, part)) < self.nearest.size:
                part.append(alike.pop(0))
            self._look_up([each for group in part for each in group], photos)
            for group in part:
                hits = [each.on(photos[each.product_id]) for each in group]
                yield from sorted(hits, key=_nearness)

    def _look_up(self, fused: Sequence[_Fused], photos: dict[Any, Match | None]) -> None:
        """Add the nearest photo of those that only words found; None for what has no embedding yet."""
        lacking = [each.product_id for each in fused if each.product_id not in photos]
        if lacking:
            photos |= dict.fromkeys(lacking) | self.nearest.best_photos(lacking)

    def _after(self, shown: set[Any], block: Block) -> Iterator[Match]:
        number = 0
        while len(block.matches) == self.nearest.size:
            number += 1
            block = self.nearest.block(number)
            yield from (match for match in block.matches if match.product_id not in shown)


class _Fused(NamedTuple):
    """A product of the head, and its places in both lists."""

    product_id: Any
    by_vector: int | None
    by_words: int | None
    is_code: bool
    worth: float

    def rank(self) -> tuple[Any, ...]:
        return not self.is_code, -self.worth

    def on(self, photo: Match | None) -> Match:
        """The hit, with the photo that is nearest."""
        return Match(
            product_id=self.product_id,
            score=photo.score if photo else None,
            position=photo.position if photo else None,
            image_name=photo.image_name if photo else "",
            by_vector=self.by_vector,
            by_words=self.by_words,
            is_code=self.is_code,
            worth=self.worth,
        )


def _order(fused: _Fused) -> tuple[Any, ...]:
    last = float("inf")
    return *fused.rank(), fused.by_words or last, fused.by_vector or last, fused.product_id


def _nearness(match: Match) -> float:
    """Sorts by the cosine; what has no embedding yet comes last."""
    return 2.0 if match.score is None else -match.score
