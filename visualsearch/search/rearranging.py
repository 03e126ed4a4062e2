"""The best hits in another order, or fewer of them: variety, a cap per brand, one of look-alikes, min_match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from visualsearch.indexes import VisualIndex
from visualsearch.models import Checkpoint
from visualsearch.queries.options import Options
from visualsearch.search.filters import FilterField, values_by_product
from visualsearch.search.results import BLOCK, Block, Match, Source, Total
from visualsearch.tables import stored_vectors
from visualsearch.tables.deadlines import bounded
from visualsearch.tables.stored_vectors import Vector

POOL_FACTOR = 5
"""Candidates for each hit of a page, of which variety chooses."""
SAME_PICTURE = 0.985
"""Cosine from which two products' photos count as the same picture."""


class Rearranged:
    """The hits that can be reached, read in one go and put together anew.

    All of them are read whatever page is asked for, and every step goes through them from the best
    on: a page is a part of one list, so nothing is shown twice and nothing is missed.
    """

    def __init__(
        self,
        source: Source,
        *,
        index: VisualIndex,
        checkpoint: Checkpoint | None,
        options: Options,
        fields: Mapping[str, FilterField],
        page: int,
        least_score: float | None,
    ) -> None:
        self._source = source
        self._index = index
        self._checkpoint = checkpoint
        self._options = options
        self._fields = fields
        self._page = page
        self._least_score = least_score

    def block(self, number: int) -> Block:
        matches, total = self._found
        return Block(matches=tuple(matches[BLOCK * number : BLOCK * (number + 1)]), total=total)

    @cached_property
    def _found(self) -> tuple[list[Match], Total]:
        first = self._source.block(0)
        matches = list(first.matches)
        before = len(matches)
        if self._least_score is not None:
            matches = [each for each in matches if _is_enough(each, self._least_score)]
        if self._options.collapse == "group":
            matches = self._one_of_a_group(matches)
        elif self._options.collapse == "duplicates":
            matches = _one_of_look_alikes(matches, self._vectors(matches))
        if self._options.mmr:
            matches = self._varied(matches)
        for name, most in self._options.max_per.items():
            matches = self._capped(matches, name, most)
        total = first.total or Total(value=before, exact=True)
        was_all = total.exact and total.value <= before
        # Where the last that was read fell below the bar, those after it are below it too.
        is_cut = (
            self._least_score is not None
            and bool(first.matches)
            and (not _is_enough(first.matches[-1], self._least_score))
        )
        if self._options.mmr and not self._drops:
            return matches, total
        return matches, Total(value=len(matches), exact=was_all or is_cut)

    @property
    def _drops(self) -> bool:
        options = self._options
        return bool(options.max_per or options.collapse != "none" or self._least_score is not None)

    def _varied(self, matches: list[Match]) -> list[Match]:
        """Pool by pool: the first pages have what is nearest and yet differs."""
        size = POOL_FACTOR * self._page
        vectors = self._vectors(matches)
        pools = [matches[start : start + size] for start in range(0, len(matches), size)]
        return [each for pool in pools for each in _by_variety(pool, vectors, self._options.mmr)]

    def _vectors(self, matches: Sequence[Match]) -> Mapping[tuple[Any, int], Vector]:
        if self._checkpoint is None:
            return {}
        with bounded():
            return stored_vectors.of_photos(
                self._checkpoint,
                [(m.product_id, m.position) for m in matches if m.position is not None],
            )

    def _one_of_a_group(self, matches: list[Match]) -> list[Match]:
        """The best of each design; by the declared path, so that none has to be loaded for it."""
        field = self._fields.get("")
        if field is None:
            return matches
        return _at_most(matches, self._values(matches, field), 1)

    def _capped(self, matches: list[Match], name: str, most: int) -> list[Match]:
        return _at_most(matches, self._values(matches, self._fields[name]), most)

    def _values(
        self, matches: Sequence[Match], field: FilterField
    ) -> Mapping[Any, tuple[Any, ...]]:
        with bounded():
            return values_by_product(self._index, field, [each.product_id for each in matches])


def _is_enough(match: Match, least: float) -> bool:
    """Article numbers are right whatever they look like."""
    return match.is_code or (match.score is not None and match.score >= least)


def _at_most(
    matches: Iterable[Match], values: Mapping[Any, tuple[Any, ...]], most: int
) -> list[Match]:
    """Without the hits that have a value which `most` before them have; no value is no limit."""
    counts: Counter[Any] = Counter()
    kept = []
    for match in matches:
        own = values.get(match.product_id, ())
        if all(counts[value] < most for value in own):
            counts.update(own)
            kept.append(match)
    return kept


def _one_of_look_alikes(
    matches: Sequence[Match], vectors: Mapping[tuple[Any, int], Vector]
) -> list[Match]:
    """The best of those whose photos are the same picture."""
    if not vectors:
        return list(matches)
    kept: list[Match] = []
    width = len(next(iter(vectors.values())))
    shown, count = np.zeros((len(matches), width), dtype=np.float32), 0
    for match in matches:
        vector = vectors.get((match.product_id, match.position or 0))
        if vector is not None:
            if count and float((shown[:count] @ vector).max()) >= SAME_PICTURE:
                continue
            shown[count] = vector
            count += 1
        kept.append(match)
    return kept


def _by_variety(
    pool: Sequence[Match], vectors: Mapping[tuple[Any, int], Vector], mmr: float
) -> list[Match]:
    """The pool by maximal marginal relevance (Carbonell and Goldstein 1998).

    Next is whichever has the greatest (1 - mmr) * relevance - mmr * likeness to the nearest of those
    before it. Relevance is the score; where two lists were fused, the place in the fused one.
    """
    known = [each for each in pool if (each.product_id, each.position) in vectors]
    others = [each for each in pool if (each.product_id, each.position) not in vectors]
    if len(known) < 3:
        return list(pool)
    photos = np.stack([vectors[each.product_id, each.position or 0] for each in known])
    if any(each.worth is not None for each in known):
        relevance = 1 - np.arange(len(known)) / len(known)
    else:
        relevance = np.array([each.score or 0.0 for each in known])
    likeness = np.full(len(known), 0.0)
    left = np.ones(len(known), dtype=bool)
    order = []
    for _ in known:
        worth = np.where(left, (1 - mmr) * relevance - mmr * likeness, -np.inf)
        best = int(worth.argmax())
        order.append(best)
        left[best] = False
        likeness = np.maximum(likeness, photos @ photos[best])
    codes = [known[at] for at in order if known[at].is_code]
    return [*codes, *(known[at] for at in order if not known[at].is_code), *others]
