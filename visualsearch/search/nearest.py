"""Nearest-neighbour SQL: which products of a queryset lie closest to a vector."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, zip_longest
from typing import Any, cast

import numpy as np
from django.core.exceptions import EmptyResultSet
from django.db import models

from visualsearch.conf import get_settings
from visualsearch.models import Checkpoint
from visualsearch.search import scan_costs
from visualsearch.search.results import BLOCK, NOTHING, Block, Match, Total
from visualsearch.search.subquery import Subquery
from visualsearch.tables import keys, partitions
from visualsearch.tables.deadlines import read, together
from visualsearch.tables.stored_vectors import Vector

SCAN_TUPLES = 2**31 - 1
SCAN_MEMORY_FACTOR = 64
"""hnsw.max_scan_tuples and hnsw.scan_mem_multiplier, too large to matter: the statement ends the scan.

Stopped by either, pgvector goes on with what it happens to have seen, near or not.
"""
ROWS_PER_PRODUCT = (2, 8, 32)
"""Rows asked of the HNSW index for each product wanted, where products have several photos."""
COUNTED_MOST = 30_000
"""Matches are counted up to here: how far the index is read depends on their number."""
EF_SEARCH_LEAST = BLOCK * ROWS_PER_PRODUCT[0]
"""One pass of the index that yields the rows of a block costs less than two narrower ones."""
EF_SEARCH_MOST = 1000
"""What pgvector takes."""

MOST_KEYS = 2**31 - 1
"""More than an array can have."""
MANY_KEPT = 256
MANY_SECONDS = 30
"""How long it is remembered that more products match than the bound up to which their number is told."""

MANY_SPARE = 100
"""Matches beyond the bound that are wanted for that: searches alike leave out some products each."""

_many: dict[tuple[Any, ...], tuple[float, int]] = {}
"""Searches known to match more than the bound: until when that is believed, and how many then."""


class Kind(enum.Enum):
    """Where a query vector comes from, which decides how hard it is for the HNSW index."""

    IMAGE = "image"
    TEXT = "text"
    """Outside the cloud of images."""
    COMPOSED = "composed"
    """An image changed by words."""


_UNMEASURED = {Kind.IMAGE: 100, Kind.TEXT: 400, Kind.COMPOSED: 400}
"""ef_search of a checkpoint whose index no probe has measured yet."""


def ef_search(checkpoint: Checkpoint, kind: Kind) -> int:
    """hnsw.ef_search for queries of this kind: the setting, else what the probe chose (recall.py).

    It is the same for every page of a search, as it decides the order of the rows.
    """
    settings = get_settings()
    given = settings.EF_SEARCH_IMAGE if kind is Kind.IMAGE else settings.EF_SEARCH_TEXT
    if given is None:
        measured = checkpoint.recall.get("kinds", {}).get(kind.value, {})
        given = measured.get("ef_search", _UNMEASURED[kind])
    return min(EF_SEARCH_MOST, max(given, EF_SEARCH_LEAST))


class NearestProducts:
    """The products of `allowed` by their distance to `vector`, one hit each, the best photo wins.

    `vector` is [width], or [n, width] for a product with n photos: the best pair counts. Few
    matching products are compared exactly. Many are streamed from the HNSW index, in blocks that
    are the same whatever page is asked for; if it runs dry, the exact scan goes on. `ef` is an
    hnsw.ef_search to use instead of the one that goes with the checkpoint and the kind of query.
    `page` is how many products are wanted at once: blocks are read together up to there. `alike` is
    `allowed` with the few products that this search alone leaves out, as the one that it
    is about: what is known of the number that match, searches with the same `alike` share.
    """

    def __init__(
        self,
        *,
        checkpoint: Checkpoint,
        vector: Vector,
        kind: Kind,
        allowed: models.QuerySet[Any],
        alike: models.QuerySet[Any] | None = None,
        ef: int | None = None,
        size: int = BLOCK,
        page: int = BLOCK,
    ) -> None:
        self.checkpoint = checkpoint
        self.size = size
        """Products in one block."""
        # One pass that yields the rows of a block costs less than two narrower ones. It must be the
        # same for every page, as it decides the order of the rows.
        wanted = ef_search(checkpoint, kind) if ef is None else ef
        self.ef_search = (
            wanted
            if size == BLOCK
            else min(EF_SEARCH_MOST, max(wanted, size * ROWS_PER_PRODUCT[0]))
        )
        self.table = partitions.partition_name(checkpoint)
        self.type = f"halfvec({int(checkpoint.width)})"
        self.nearness = partitions.AnnIndex.of(checkpoint.width).nearness
        self.vectors = [
            "[" + ",".join(f"{number:.6g}" for number in row) + "]"
            for row in np.atleast_2d(vector).tolist()
        ]
        self.allowed = allowed
        self.alike = alike
        self.page = page
        self._ahead = max(1, -(-page // size))
        self._found: dict[int, Block] = {}

    @cached_property
    def subquery(self) -> Subquery:
        """The products of `allowed`; EmptyResultSet if there can be none."""
        return Subquery(self.allowed)

    def block(self, number: int) -> Block:
        """The `number`-th block, and how many products match."""
        if number not in self._found:
            self._found |= self._read(number)
        return self._found[number]

    def _read(self, number: int) -> dict[int, Block]:
        """That block and those that are read together with it."""
        try:
            subquery = self.subquery
        except EmptyResultSet:
            return {number: NOTHING}
        with together():
            if scan_costs.is_always_exact(self.checkpoint):
                return self._exact(subquery, number)
            matching = self._known_to_be_many()
            if matching is None:
                found = self._few(subquery, number, most=self._most_compared)
                if found is not None:
                    return found
                matching = self._count(subquery)
                if matching <= self._most_compared:
                    return self._exact(subquery, number)
            return self._streamed(subquery, number, matching)

    def best_photos(self, product_ids: Iterable[Any]) -> dict[Any, Match]:
        """The nearest photo of each of these products, as far as they are embedded."""
        distances = ", ".join([f"vector <#> %s::{self.type}"] * len(self.vectors))
        rows = read(
            "SELECT DISTINCT ON (product_id) product_id, position, image, "
            f"least({distances}) AS distance FROM {self.table} WHERE product_id = ANY(%s) "
            "ORDER BY product_id, distance, position",
            [*self.vectors, keys.prepared(product_ids)],
        )
        return {row[0]: as_match(*row) for row in rows}

    def uses_index(self) -> bool:
        """Whether Postgres would read the HNSW index in its order for this search (EXPLAIN)."""
        subquery = self.subquery
        order = self.vectors[:1] if self.nearness else []
        lines = read(
            f"EXPLAIN {self._stream_statement(subquery)}",
            [self.vectors[0], *order, self.ef_search, *subquery.parameters, self.size],
            settings=self._scan_settings(),
        )
        plan = "\n".join(line for (line,) in lines)
        before, index, _ = plan.partition(partitions.index_name(self.checkpoint))
        return bool(index) and "Sort" not in before

    @cached_property
    def _most_compared(self) -> int:
        """Products up to which all that match are compared."""
        return scan_costs.most_compared(self.checkpoint, ef_search=self.ef_search, size=self.size)

    @property
    def _bound(self) -> int:
        """Matches up to which their exact number is told: all that one may page through."""
        settings = get_settings()
        return max(self._most_compared, settings.OFFSET_MAX + settings.LIMIT_MAX)

    def _known_to_be_many(self) -> int | None:
        """How many products matched a moment ago, if that was more than the bound."""
        until, count = _many.get(self._many_key, (0.0, 0))
        is_many = count > self._bound + MANY_SPARE
        return count if is_many and until > time.monotonic() else None

    @cached_property
    def _many_key(self) -> tuple[Any, ...]:
        is_same = self.alike is None or self.alike is self.allowed
        alike = self.subquery if is_same else Subquery(cast(models.QuerySet[Any], self.alike))
        return self.table, alike.sql, repr(alike.parameters)

    def _count(self, subquery: Subquery) -> int:
        """How many products match and have an embedding, counted up to COUNTED_MOST or the bound."""
        most = max(COUNTED_MOST, self._bound) + MANY_SPARE
        ((count,),) = read(
            f"SELECT count(*) FROM (SELECT pk FROM ({subquery.distinct}) AS allowed(pk) WHERE EXISTS "
            f"(SELECT FROM {self.table} AS e WHERE e.product_id = allowed.pk) LIMIT %s) AS counted",
            [*subquery.parameters, most + 1],
        )
        if count > self._bound + MANY_SPARE:
            if len(_many) >= MANY_KEPT:
                _many.clear()
            _many[self._many_key] = time.monotonic() + MANY_SECONDS, count
        return count

    def _total(self, matching: int) -> Total:
        """What is told of that number, the same on each page: it may be of a moment ago and of a search
        alike, so of many it is said that there are at least so many, in two digits.
        """
        if matching <= self._bound + MANY_SPARE:
            return Total(value=matching, exact=True)
        least = min(matching, COUNTED_MOST) - MANY_SPARE
        digit = 10 ** (len(str(least)) - 2)
        return Total(value=max(self._bound, least // digit * digit), exact=False)

    def _few(self, subquery: Subquery, number: int, *, most: int) -> dict[int, Block] | None:
        """Compare every matching product, or None if more than `most` match."""
        rows = self._compared(subquery, number, most=most)
        return None if rows[0][0] > most else self._as_blocks(rows, number)

    def _exact(
        self, subquery: Subquery, number: int, *, taken: Sequence[tuple[Match, ...]] = ()
    ) -> dict[int, Block]:
        """Compare every matching product but those of the blocks already `taken`."""
        known = [match.product_id for block in taken for match in block]
        rows = self._compared(subquery, number - len(taken), taken=known)
        return self._as_blocks(rows, number, taken=len(known))

    def _as_blocks(
        self, rows: Sequence[tuple[Any, ...]], number: int, *, taken: int = 0
    ) -> dict[int, Block]:
        """What `_compared` gave for the `number`-th block, behind products that were found before."""
        total = Total(value=rows[0][1] + taken, exact=True)
        matches = [as_match(*row[2:]) for row in rows if row[2] is not None]
        return {
            number + block: Block(
                matches=tuple(matches[self.size * block : self.size * (block + 1)]), total=total
            )
            for block in range(self._ahead)
        }

    def _compared(
        self,
        subquery: Subquery,
        number: int,
        *,
        most: int = MOST_KEYS,
        taken: Sequence[Any] = (),
    ) -> list[tuple[Any, ...]]:
        """What matches, by distance, from the `number`-th block on; nothing is compared if more than `most`.

        Each row is: how many match, up to `most` + 1; how many of them have embeddings; product,
        position, image, distance. From the product on it is None if there are none in the block.

        Given the keys as an array, Postgres fetches the embeddings in the order of their primary key.
        Joined to the products it read all of 100,000 for 2,000 of them: searches under such a filter
        took 43 ms of CPU, and take 16 (benchmarks.selectivity).
        The vectors are compared without the cast of the HNSW index's expression, so that index
        cannot be chosen, whatever the planner thinks of it.
        """
        names = [f"vector_{number}" for number in range(len(self.vectors))]
        asked = ", ".join(f"%s::{self.type} AS {name}" for name in names)
        distances = ", ".join(f"e.vector <#> (SELECT {name} FROM asked)" for name in names)
        return read(
            f"WITH asked AS MATERIALIZED (SELECT {asked}), "
            f"allowed(keys) AS MATERIALIZED (SELECT ARRAY(SELECT pk FROM ({subquery.sql}) AS given(pk) "
            "WHERE pk <> ALL (%s) LIMIT %s)), "
            f"nearest AS MATERIALIZED (SELECT e.product_id, min(least({distances})) AS distance "
            f"FROM {self.table} AS e WHERE e.product_id = ANY(coalesce("
            "(SELECT keys FROM allowed WHERE cardinality(keys) <= %s), '{}')) "
            "GROUP BY e.product_id), "
            "page AS (SELECT product_id, distance FROM nearest "
            "ORDER BY distance, product_id LIMIT %s OFFSET %s) "
            "SELECT counted.*, best.* FROM (SELECT (SELECT cardinality(keys) FROM allowed), "
            "(SELECT count(*) FROM nearest)) AS counted LEFT JOIN ("
            "SELECT page.product_id, photo.position, photo.image, page.distance "
            "FROM page CROSS JOIN LATERAL ("
            f"SELECT e.position, e.image FROM {self.table} AS e "
            "WHERE e.product_id = page.product_id "
            f"ORDER BY least({distances}), e.position LIMIT 1) AS photo) AS best ON true "
            "ORDER BY best.distance, best.product_id",
            [
                *(*self.vectors, *subquery.parameters, list(taken), most + 1, most),
                *(self.size * self._ahead, self.size * number),
            ],
        )

    def _streamed(self, subquery: Subquery, number: int, matching: int) -> dict[int, Block]:
        """Read the HNSW index in its own order until the block, and those read with it, are full.

        The order of the index does not depend on how much of it is read, so block 3 starts where
        block 2 ended: no hit comes twice and none is missed on another page.
        """
        last = number + self._ahead
        wanted = self.size * last
        statement, settings = self._stream_statement(subquery), self._scan_settings()
        # The same for every page: it decides where the exact search takes over.
        reach = scan_costs.reach(
            matching, ef_search=self.ef_search, least=ROWS_PER_PRODUCT[1] * self.size
        )
        first = ROWS_PER_PRODUCT[0]
        if scan_costs.statistics(self.checkpoint).has_one_photo_each:
            first = 1
        blocks: list[tuple[Match, ...]] = []
        for factor in (first, *ROWS_PER_PRODUCT[1:]):
            streams = []
            for vector in self.vectors:
                # A wide vector's index has an order of its own; a block is sorted by distance anyway.
                order = [vector] if self.nearness else []
                parameters = [vector, *order, reach, *subquery.parameters, wanted * factor]
                streams.append(read(statement, parameters, settings=settings))
            # Taken in turns: how the rows begin does not depend on how many were read either.
            rows = [row for turn in zip_longest(*streams) for row in turn if row is not None]
            blocks = list(islice(_full_blocks(rows, self.size), last))
            if len(blocks) == last or all(len(stream) < wanted * factor for stream in streams):
                break
        total = self._total(matching)
        if len(blocks) > number:
            return {at: Block(matches=found, total=total) for at, found in enumerate(blocks)}
        compared = self._exact(subquery, number, taken=blocks)
        return {at: _with_total(block, total) for at, block in compared.items()}

    def _stream_statement(self, subquery: Subquery) -> str:
        # IS TRUE keeps Postgres from turning a complicated subquery into a join, whose order would
        # not be that of the index; a simple one is best joined row by row.
        order = "nearness" if self.nearness else "distance"
        nearness = f", {self.nearness} AS nearness" if self.nearness else ""
        test = (
            "(e.product_id IN ({0})) IS TRUE"
            if subquery.is_complicated
            else "e.product_id IN ({0})"
        )
        # The inner LIMIT ends a scan that finds nothing that is allowed: see SCAN_TUPLES.
        return (
            "SELECT e.product_id, e.position, e.image, e.distance FROM ("
            "SELECT e.product_id, e.position, e.image, "
            f"e.vector::{self.type} <#> %s::{self.type} AS distance{nearness} "
            f"FROM {self.table} AS e ORDER BY {order} LIMIT %s) AS e "
            f"WHERE {test.format(subquery.sql)} ORDER BY e.{order} LIMIT %s"
        )

    def _scan_settings(self) -> dict[str, str]:
        return {
            "hnsw.iterative_scan": "relaxed_order",
            "hnsw.ef_search": str(self.ef_search),
            "hnsw.max_scan_tuples": str(SCAN_TUPLES),
            "hnsw.scan_mem_multiplier": str(SCAN_MEMORY_FACTOR),
            # Any plan that keeps the order of the index is better than one that sorts.
            "enable_sort": "off",
        }


def _with_total(block: Block, total: Total) -> Block:
    """The block with what other pages say of the number, unless so many are not there any more."""
    is_true = block.total is None or block.total.value >= total.value
    return replace(block, total=total) if is_true else block


def _full_blocks(
    rows: Sequence[tuple[Any, int, str, float]], size: int
) -> Iterator[tuple[Match, ...]]:
    """Full blocks of products in the order in which they first appear, each sorted by distance.

    A block ends with the row that brings its last product: reading on would change nothing in it.
    """
    seen: set[Any] = set()
    block: dict[Any, tuple[float, int, str]] = {}
    for product_id, position, image, distance in rows:
        photo = distance, position, image
        if product_id in block:
            block[product_id] = min(block[product_id], photo)
        elif product_id not in seen:
            seen.add(product_id)
            block[product_id] = photo
            if len(block) == size:
                found = sorted((photo[0], pk, *photo[1:]) for pk, photo in block.items())
                yield tuple(as_match(pk, at, name, far) for far, pk, at, name in found)
                block = {}


def as_match(product_id: Any, position: int, image: str, distance: float) -> Match:
    # <#> is the negative inner product; vectors have length 1, so that is the cosine.
    score = min(1.0, max(-1.0, -distance))
    return Match(product_id=product_id, score=score, position=position, image_name=image)
