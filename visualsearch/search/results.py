"""Ranked products as a lazy sequence of hits that can be sliced and paged through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, overload

from django.core.exceptions import FieldDoesNotExist
from django.core.files.storage import Storage, default_storage
from django.db import models

from visualsearch.conf import get_settings
from visualsearch.indexes import VisualIndex, resolve_path

BLOCK = 25
"""Matches are read from the database in blocks of this many: a page that is looked at fits in one."""
LOADED = 100
"""Products that are loaded at a time by who goes through all of them."""


class Match(NamedTuple):
    """A product that was found, before it is loaded."""

    product_id: Any
    score: float | None = None
    """Cosine of query and photo; None where no vectors were compared."""
    position: int | None = None
    image_name: str = ""
    """The file of the photo that matched, in the image field's storage."""
    by_vector: int | None = None
    """Its place among the nearest, where words were compared as well."""
    by_words: int | None = None
    """Its place among those that match the words; those that match alike share one."""
    is_code: bool = False
    """Whether the query is its article number."""
    worth: float | None = None
    """What the two places together make, which orders the hits then."""


@dataclass(frozen=True, kw_only=True)
class Total:
    """How many products match; a lower bound unless `exact`."""

    value: int
    exact: bool


@dataclass(frozen=True, kw_only=True)
class Block:
    """Up to BLOCK matches; `total` is None where the source could not tell from this block."""

    matches: Sequence[Match]
    total: Total | None
    by_words: Total | None = None
    """How many of them have all the words that were asked for, where that was looked for and any has."""


NOTHING = Block(matches=(), total=Total(value=0, exact=True))


class Source(Protocol):
    """Where results come from: block after block, always the same for the same number."""

    def block(self, number: int) -> Block: ...


@dataclass(frozen=True, kw_only=True)
class Found:
    """Matches that are known already."""

    matches: tuple[Match, ...]
    exact: bool = True

    def block(self, number: int) -> Block:
        total = Total(value=len(self.matches), exact=self.exact)
        return Block(matches=self.matches if number == 0 else (), total=total)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A product in the results, and what a card shows of it."""

    product: Any
    score: float | None
    """Cosine of the query and the photo that matched; None in a degraded answer."""
    position: int | None
    """Which photo matched."""
    image_name: str
    index: VisualIndex
    match: float | None = None
    """The share of right hits among those with such a score, 0 to 1; None if not calibrated."""
    found: Match | None = None
    results: Results | None = field(default=None, repr=False, compare=False)

    @cached_property
    def explanation(self) -> Any:
        """Why it is a hit: an `explaining.Explanation`; None for a hit made by hand."""
        if self.results is None:
            return None
        return self.results.explain([self])[0]

    @cached_property
    def image_url(self) -> str:
        """Address of the photo that matched, else of the main one; "" if there is none."""
        if self.image_name:
            return _storage(self.index).url(self.image_name)
        return next((file.url for file in self.index.get_images(self.product)), "")

    @cached_property
    def title(self) -> str:
        return self.index.get_title(self.product)

    @cached_property
    def url(self) -> str:
        return self.index.get_url(self.product)

    @cached_property
    def price(self) -> Any:
        return self.index.get_price(self.product)

    @cached_property
    def label(self) -> str:
        return self.index.get_label(self.product)


Loader = Callable[[Sequence[Any]], Mapping[Any, models.Model]]


@dataclass(frozen=True, kw_only=True)
class Details:
    """What else is known of an answer; each part is asked for only where it is shown."""

    match: Callable[[Match], float | None] = lambda match: None
    explain: Callable[[Sequence[Match], Sequence[models.Model]], Sequence[Any]] | None = None
    facets: Callable[[Any], Sequence[Any]] = lambda names: ()
    understood: Mapping[str, str] = field(default_factory=dict)
    """Conditions that were taken out of the words, as filters."""
    photo_token: str = ""
    query_id: str = ""


class Results(Sequence[Hit]):
    """Hits, the best first. Nothing is asked of the database before it is needed.

    `len()` is what can be reached: at most `limit`, or OFFSET_MAX + LIMIT_MAX. A product that was
    hidden or deleted between the search and the loading of it is left out of its slice.
    """

    def __init__(
        self,
        source: Source,
        *,
        load: Loader,
        index: VisualIndex,
        limit: int | None = None,
        checkpoint: str | None = None,
        reason: str = "",
        details: Details | None = None,
    ) -> None:
        self._source = source
        self._load = load
        self._index = index
        self._limit = limit
        self._blocks: dict[int, Block] = {}
        self._hits: dict[int, Hit | None] = {}
        self.checkpoint = checkpoint
        """Name of the checkpoint whose vectors were compared; None in a lexical answer."""
        self.reason = reason
        """Why the answer is degraded: the `code` of what was missing."""
        self._details = details or Details()
        self.understood = dict(self._details.understood)
        """Conditions that were taken out of the words: {"price__lt": "50"} for "under 50"."""
        self.photo_token = self._details.photo_token
        """Stands for the photo in further searches; "" where none was sent."""
        self.query_id = self._details.query_id
        """Names this search in events."""

    def facets(self, names: Any) -> Sequence[Any]:
        """`facets.Facet` of each of the filter fields, over everything that matches the filters."""
        return self._details.facets(names)

    def explain(self, hits: Sequence[Hit]) -> Sequence[Any]:
        """An `explaining.Explanation` of each hit, all by one query."""
        if self._details.explain is None:
            return [None for _ in hits]
        found = [hit.found or Match(product_id=hit.product.pk) for hit in hits]
        return self._details.explain(found, [hit.product for hit in hits])

    @property
    def degraded(self) -> bool:
        """Whether this is a lesser answer than was asked for."""
        return bool(self.reason)

    @cached_property
    def matching(self) -> Total:
        """How many products match, and whether that is the exact number."""
        for block in self._blocks.values():
            if block.total is not None:
                return block.total
        return self._block(0).total or Total(value=0, exact=True)

    @property
    def total(self) -> int:
        """How many products match; a lower bound if `matching.exact` is False."""
        return self.matching.value

    @property
    def answering(self) -> Total | None:
        """How many products answer the query, as a shopper means it; None where nobody can say.

        Vectors put all products that the filters leave into an order, so that how many match says
        nothing of the query. Where products have all of its words, it is their number; where no
        vectors were compared, it is how many match.
        """
        if self.checkpoint is None or not self.total:
            return self.matching
        return self._block(0).by_words

    def __len__(self) -> int:
        settings = get_settings()
        reach = settings.OFFSET_MAX + settings.LIMIT_MAX
        return min(self.total, reach if self._limit is None else self._limit)

    @overload
    def __getitem__(self, key: int) -> Hit: ...
    @overload
    def __getitem__(self, key: slice) -> list[Hit]: ...
    def __getitem__(self, key: int | slice) -> Hit | list[Hit]:
        wanted = range(len(self))[key]
        if isinstance(wanted, int):
            hit = self._at([wanted])[0]
            if hit is None:
                raise IndexError(f"The product at {key} was removed meanwhile.")
            return hit
        return [hit for hit in self._at(wanted) if hit is not None]

    def __iter__(self) -> Iterator[Hit]:
        for start in range(0, len(self), LOADED):
            yield from self[start : start + LOADED]

    def __repr__(self) -> str:
        return f"<Results of {self.checkpoint or 'no checkpoint'}{self.reason and ', degraded'}>"

    def _at(self, wanted: Sequence[int]) -> list[Hit | None]:
        missing = {at: self._match(at) for at in wanted if at not in self._hits}
        matches = {at: match for at, match in missing.items() if match is not None}
        products = self._load([match.product_id for match in matches.values()]) if matches else {}
        for at in missing:
            found = matches.get(at)
            product = products.get(found.product_id) if found else None
            self._hits[at] = self._hit(found, product) if found and product else None
        return [self._hits[at] for at in wanted]

    def _hit(self, match: Match, product: models.Model) -> Hit:
        return Hit(
            product=product,
            score=match.score,
            position=match.position,
            image_name=match.image_name,
            index=self._index,
            match=self._details.match(match),
            found=match,
            results=self,
        )

    def _match(self, at: int) -> Match | None:
        matches = self._block(at // BLOCK).matches
        try:
            return matches[at % BLOCK]
        except IndexError:
            return None

    def _block(self, number: int) -> Block:
        if number not in self._blocks:
            self._blocks[number] = self._source.block(number)
        return self._blocks[number]


def _storage(index: VisualIndex) -> Storage:
    """Where the files of the index's image field are."""
    try:
        field = resolve_path(index.model, index.image_field)[-1]
    except FieldDoesNotExist:
        return default_storage
    return getattr(field, "storage", default_storage)
