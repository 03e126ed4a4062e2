""" "Like this but…" suggestions: changes that the checkpoint has learned and the catalogue can answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from django.db import models
from django.http import HttpRequest

from visualsearch.indexes import VisualIndex
from visualsearch.models import Checkpoint
from visualsearch.search import visibility
from visualsearch.search.kinds import same_kind
from visualsearch.tables.deadlines import bounded

LOOKED_AT = 200
"""Products of the same kind whose attributes are read."""
PER_ATTRIBUTE = 3


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """One change that can be asked for."""

    attribute: str
    value: str
    modify: str
    """The words to search with."""
    count: int
    """Products of the same kind, of those looked at, that are so."""


def suggestions(
    index: VisualIndex, product: models.Model, *, request: HttpRequest | None, limit: int = 8
) -> list[Suggestion]:
    """What `product` could be asked for in another way, attribute by attribute, the most frequent first.

    Only attributes and values that the live checkpoint was trained on, and that some product of the
    same kind has which this visitor may see. None without a checkpoint that reads words.
    """
    live = Checkpoint.objects.live()
    learned = live.metrics.get("attributes") if live is not None else None
    own = index.get_attributes(product)
    if not isinstance(learned, dict) or not own:
        return []
    known = {name: {_key(each) for each in learned[name]} for name in own if name in learned}
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    allowed = visibility.allowed(index, request=request, queryset=None).exclude(pk=product.pk)
    kind = index.with_related(same_kind(index, allowed, product)).order_by("pk")
    with bounded():
        others = [index.get_attributes(other) for other in kind[:LOOKED_AT]]
    for other in others:
        for name, values in known.items():
            value = other.get(name, "")
            if value and _key(value) != _key(own[name]) and _key(value) in values:
                counts[name][value] += 1
    found = [
        [
            Suggestion(attribute=name, value=value, modify=sentence(name, value), count=count)
            for value, count in sorted(counter.items(), key=lambda each: (-each[1], each[0]))
        ][:PER_ATTRIBUTE]
        for name, counter in counts.items()
    ]
    # In turns: one colour, one pattern, …, the second colour.
    turns = [each[turn] for turn in range(PER_ATTRIBUTE) for each in found if turn < len(each)]
    return turns[:limit]


def sentence(name: str, value: str) -> str:
    """In a form that training uses (ml/phrases.py)."""
    if any(word in name for word in ("colour", "color", "material")):
        return f"in {value.lower()}"
    if "pattern" in name:
        return value.lower()  # "striped" says it all
    if any(word in value.lower() for word in name.lower().split("_")):
        return value.lower()  # not "with sleeveless sleeve"
    return f"with {value.lower()} {name.replace('_', ' ')}"


def _key(value: str) -> str:
    return value.casefold().strip()
