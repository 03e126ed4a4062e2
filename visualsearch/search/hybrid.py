"""Words and vectors in one answer: two lists fused by reciprocal rank, exact article numbers first.

What one product is worth is the sum of share / (constant + place) over both lists (Cormack, Clarke
and Büttcher 2009), which needs no common scale. Products with the same words share a place there, and
their cosines decide between them. Words are one statement (word_ranking.py), vectors another (nearest.py),
and the photos of what only words found a third, of those that are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any, NamedTuple, overload

from django.core.exceptions import EmptyResultSet

from visualsearch.search import word_ranking
from visualsearch.search.nearest import NearestProducts
from visualsearch.search.results import Block, Match, Total
from visualsearch.search.word_ranking import Placed, Ranking
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
LEXICAL_LIST = 100
"""Products that words may bring in."""
LAST = float("inf")
"""The place of what is not in a list."""


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
        """The `number`-th block; its matches are put in order when they are looked at."""
        if not self._is_started:
            self._start()
        return Block(
            matches=_Part(self, self.nearest.size * number),
            total=self._total,
            by_words=self._by_words,
        )

    def read(self, upto: int) -> list[Match]:
        """The first `upto` matches, or all there are; some more may be among them."""
        try:
            if not self._is_started:
                self._start()
            while len(self._read) < upto:
                match = next(self._rest, None)
                if match is None:
                    break
                self._read.append(match)
        except Exception:
            # What was read from cannot go on, and would seem to be at its end.
            self._is_started = False
            raise
        return self._read

    def _start(self) -> None:
        with together():
            first = self.nearest.block(0)
            total = first.total or Total(value=len(first.matches), exact=True)
            photos: dict[Any, Match | None] = {each.product_id: each for each in first.matches}
            words = self._words(list(photos))
            head = self._fused(list(photos), words.placed)
            if total.exact:
                # What has no embedding yet was not counted among the nearest.
                self._look_up(head, photos)
                missing = sum(match is None for match in photos.values())
                total = Total(value=total.value + missing, exact=True)
        self._total, self._by_words = total, words.total
        self._read = []
        self._rest = chain(
            self._head(head, photos), self._after({each.product_id for each in head}, first)
        )
        self._is_started = True

    def _fused(self, nearest: Sequence[Any], words: Sequence[Placed]) -> list[_Fused]:
        """Both lists as one."""
        by_words = {each.product_id: each for each in words}
        near_share, words_share = self._ratio, 1 - self._ratio
        found = []
        for place, product_id in enumerate(nearest, 1):
            said = by_words.pop(product_id, None)
            worth = near_share / (VECTORS_CONSTANT + place)
            worth += words_share / (WORDS_CONSTANT + said.place) if said else 0.0
            is_code = said is not None and said.is_code
            said_place = said.place if said else LAST
            found.append(_Fused(not is_code, -worth, said_place, place, product_id))
        for said in by_words.values():
            worth = words_share / (WORDS_CONSTANT + said.place)
            found.append(_Fused(not said.is_code, -worth, said.place, LAST, said.product_id))
        return sorted(found)

    def _words(self, near: Sequence[Any]) -> Ranking:
        try:
            subquery = self.nearest.subquery
        except EmptyResultSet:
            return Ranking([], None)
        return word_ranking.best(self._text, subquery, most=LEXICAL_LIST, near=near)

    def _head(self, fused: Sequence[_Fused], photos: dict[Any, Match | None]) -> Iterator[Match]:
        """Some at a time: most of it is behind the page that is shown, and no photo is looked up for it.

        What is worth the same is looked up together, as its cosines decide its order.
        """
        alike = [list(group) for _, group in groupby(fused, key=_Fused.rank)]
        while alike:
            part = [alike.pop(0)]
            while alike and sum(map(len, part)) < self.nearest.page:
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


class _Part(Sequence[Match]):
    """A block of the list, read no farther than it is looked at: most pages end within the first."""

    def __init__(self, whole: HybridMatches, start: int) -> None:
        self._whole = whole
        self._start = start

    def __len__(self) -> int:
        size = self._whole.nearest.size
        return min(size, max(0, len(self._whole.read(self._start + size)) - self._start))

    @overload
    def __getitem__(self, at: int) -> Match: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Match, ...]: ...
    def __getitem__(self, at: int | slice) -> Match | tuple[Match, ...]:
        size = self._whole.nearest.size
        if isinstance(at, int) and 0 <= at < size:
            return self._whole.read(self._start + at + 1)[self._start + at]
        return tuple(self._whole.read(self._start + size)[self._start : self._start + size])[at]


class _Fused(NamedTuple):
    """A product of the head, and its places in both lists; sorts before what comes after it."""

    is_no_code: bool
    minus_worth: float
    """What its places are worth, negative: the most comes first."""
    by_words: float
    by_vector: float
    """LAST where it is not in that list."""
    product_id: Any

    def rank(self) -> tuple[Any, ...]:
        return self[:2]

    def on(self, photo: Match | None) -> Match:
        """The hit, with the photo that is nearest."""
        return Match(
            product_id=self.product_id,
            score=photo.score if photo else None,
            position=photo.position if photo else None,
            image_name=photo.image_name if photo else "",
            by_vector=None if self.by_vector == LAST else int(self.by_vector),
            by_words=None if self.by_words == LAST else int(self.by_words),
            is_code=not self.is_no_code,
            worth=-self.minus_worth,
        )


def _nearness(match: Match) -> float:
    """Sorts by the cosine; what has no embedding yet comes last."""
    return 2.0 if match.score is None else -match.score
