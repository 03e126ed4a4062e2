"""How an answer is put together beyond the order of nearness: hybrid, diversity, min_match, collapse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from visualsearch.exceptions import QueryError
from visualsearch.queries.cleaning import clean_fraction

SEMANTIC_RATIO = 0.5
"""What the vectors count for beside the words, where nothing is said."""
MMR = 0.3
MOST_CAPPED = 3
"""Fields that `max_per` may name."""
COLLAPSE = ("none", "duplicates", "group")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one search; made by `Options.of`, which raises a QueryError otherwise."""

    semantic_ratio: float | None = None
    """1 compares vectors only, 0 words only; None leaves it to what is asked for."""
    mmr: float = 0.0
    """How much variety counts against nearness, 0 to 1 (maximal marginal relevance)."""
    max_per: Mapping[str, int] = field(default_factory=dict)
    """Filter name -> hits at most for each of its values."""
    min_match: float = 0.0
    """Hits below this calibrated match are not shown."""
    collapse: str = "none"
    """One hit of several products with the same picture ("duplicates"), or of one design ("group")."""

    @classmethod
    def of(
        cls,
        *,
        hybrid: Any = None,
        diversity: Any = None,
        min_match: Any = None,
        collapse: Any = None,
    ) -> Self:
        mmr, max_per = _diversity(diversity)
        return cls(
            semantic_ratio=_hybrid(hybrid),
            mmr=mmr,
            max_per=max_per,
            min_match=0.0 if min_match is None else clean_fraction(min_match, field="min_match"),
            collapse=_collapse(collapse),
        )

    @property
    def rearranges(self) -> bool:
        """Whether the order or number of hits differs from the source's."""
        return bool(self.mmr or self.max_per or self.min_match or self.collapse != "none")


def _hybrid(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return SEMANTIC_RATIO if value else 1.0
    if isinstance(value, Mapping):
        _only(value, ("semantic_ratio",), where="hybrid")
        value = value.get("semantic_ratio", SEMANTIC_RATIO)
    return clean_fraction(value, field="hybrid")


def _diversity(value: Any) -> tuple[float, dict[str, int]]:
    if value is None or value is False:
        return 0.0, {}
    if value is True:
        return MMR, {}
    if not isinstance(value, Mapping):
        return clean_fraction(value, field="diversity"), {}
    _only(value, ("mmr", "max_per"), where="diversity")
    mmr = clean_fraction(value["mmr"], field="mmr") if value.get("mmr") is not None else 0.0
    given = value.get("max_per") or {}
    if not isinstance(given, Mapping) or len(given) > MOST_CAPPED:
        raise QueryError(
            f'max_per is not an object of at most {MOST_CAPPED} fields: send {{"brand": 2}}.',
            field="max_per",
        )
    max_per: dict[str, int] = {}
    for name, most in given.items():
        if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= 100:
            raise QueryError(
                f"max_per has {str(most)[:40]!r} for {str(name)[:40]!r}: give a whole number from "
                "1 to 100.",
                field="max_per",
            )
        max_per[str(name)] = most
    return mmr, max_per


def _collapse(value: Any) -> str:
    if value is None or value is False:
        return "none"
    if value not in COLLAPSE:
        raise QueryError(
            f"collapse is {str(value)[:40]!r}: give one of {', '.join(COLLAPSE)}.",
            field="collapse",
        )
    return str(value)


def _only(value: Mapping[Any, Any], names: tuple[str, ...], *, where: str) -> None:
    for name in value:
        if name not in names:
            raise QueryError(
                f"There is no {str(name)[:40]!r} in {where}. Allowed: {', '.join(names)}.",
                field=where,
            )
