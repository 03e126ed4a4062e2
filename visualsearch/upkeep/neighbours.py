"""Similar products, precomputed: each product's nearest others, all of them anew or where something changed.

The widget reads this table: no encoder and no vector search while a shopper waits.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from django.db import DatabaseError, IntegrityError, OperationalError, ProgrammingError, transaction

from visualsearch.conf import get_settings
from visualsearch.exceptions import TablesBusyError
from visualsearch.models import Checkpoint, Embedding
from visualsearch.tables import judgements, keys
from visualsearch.tables.partitions import database, neighbours_name
from visualsearch.upkeep import gallery as galleries
from visualsearch.upkeep import neighbour_table, ranking
from visualsearch.upkeep.gallery import Gallery, take
from visualsearch.upkeep.neighbour_table import FreshTable, Lists
from visualsearch.upkeep.pacing import Pace
from visualsearch.upkeep.ranking import Part

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of products done and of all."""

PRODUCTS_AT_A_TIME = 8192
PAIRS_AT_A_TIME = 1_000_000_000
"""Pairs of photos between two calls of `progress`; some ten seconds of one core."""
CANDIDATES = 4
"""After an edit, the lists looked at again are those of this many times NEIGHBOURS products."""
REPAIR_PAIRS = 1_000_000_000
"""Lists times photos that one repair compares at most; some ten seconds. The sweep does the rest."""
REPAIR_OTHERS = 5_000
"""Lists of other products that one repair renews at least, if so many need it; else as many as have
changed. Without a bound, a worker amid a backlog would write lists most of its time, each of them
many times over."""
LISTS_AT_A_TIME = 256
"""Lists replaced in one transaction at most."""
ATTEMPTS = 4
_PASSING = ("55P03", "40P01", "23503", "23505")
"""SQLSTATE of faults that pass: lock not available, deadlock, a product was deleted, and another
process wrote the same list while we did."""
_UNDEFINED = "42P01"
_written = Pace(most=LISTS_AT_A_TIME, gently=16)
_asked_for = Pace(most=4096, gently=256)
"""Products whose lists are looked up."""


def compute(checkpoint: Checkpoint, progress: Progress | None = None) -> int:
    """Compute every product's neighbours by `checkpoint` anew; the number of products.

    They are written beside the lists that are read, and take their place at once: a reader finds
    all old or all new ones. What was edited meanwhile is repaired in them before that, and once
    more for what came in between.
    """
    gallery = galleries.load(checkpoint)
    table = FreshTable(checkpoint, gallery.product_ids)
    table.create()
    try:
        _fill(table, gallery, progress)
        try:
            known = _finish(table, gallery)
        except TablesBusyError as error:
            logger.warning("The new neighbours replace the old ones list by list: %s", error)
            known = gallery
            _replace_by_lists(table, gallery)
    except ProgrammingError as error:
        if getattr(error.__cause__, "sqlstate", None) != _UNDEFINED or table.exists():
            raise
        logger.info(
            "The neighbours by %s are computed by another process, which began later, or it is gone.",
            checkpoint,
        )
        return len(gallery)
    except BaseException:
        with contextlib.suppress(DatabaseError, TablesBusyError):
            table.drop()
        raise
    now = galleries.load(checkpoint, with_vectors=False)
    _repair(checkpoint, galleries.differing(known, now), neighbours_name(checkpoint), all_own=True)
    _heed(checkpoint, neighbours_name(checkpoint))
    return len(gallery)


def _fill(table: FreshTable, gallery: Gallery, progress: Progress | None) -> None:
    numbers = np.arange(len(gallery))
    k = min(get_settings().NEIGHBOURS, len(gallery) - 1)
    at_a_time = PAIRS_AT_A_TIME // max(1, len(gallery.positions))
    at_a_time = max(ranking.BLOCK_PHOTOS, min(PRODUCTS_AT_A_TIME, at_a_time))
    for start in range(0, len(gallery), at_a_time):
        some = numbers[start : start + at_a_time]
        parts = (Part.of(take(gallery, part), part) for part in ranking.parts(gallery))
        for near in ranking.rank(take(gallery, some), some, parts, k=k):
            table.append(near)
        if progress is not None:
            progress(start + len(some), len(gallery))


def _finish(table: FreshTable, gallery: Gallery) -> Gallery:
    """Complete the table and put it in its place; what its lists are of, without vectors."""
    table.complete()
    now = galleries.load(table.checkpoint, with_vectors=False)
    _repair(table.checkpoint, galleries.differing(gallery, now), table.name, all_own=True)
    _heed(table.checkpoint, table.name)
    table.put_in_place()
    return now


def _heed(checkpoint: Checkpoint, table: str) -> None:
    """Have every word of staff on pairs hold in the lists of `table`."""
    _give_way_to_editors(
        lambda cursor: judgements.heed(cursor, checkpoint, sources=None, table=table)
    )


def _replace_by_lists(table: FreshTable, gallery: Gallery) -> None:
    """As a table that others hold for long cannot be exchanged, its rows are, some at a time."""
    place = neighbours_name(table.checkpoint)
    for sources in _written.parts(gallery.product_ids):

        def replace(cursor: Any, sources: Sequence[Any] = sources) -> None:
            _delete(cursor, place, sources)
            neighbour_table.insert(
                cursor, place, table.checkpoint, staged=table.name, sources=sources
            )
            judgements.heed(cursor, table.checkpoint, sources)

        _give_way_to_editors(replace)
    table.drop()


def renew(checkpoint: Checkpoint, changed: Collection[Any]) -> int:
    """Bring these products' own lists up to date, and no others; how many there were."""
    sources = galleries.load(checkpoint, product_ids=changed)
    table = neighbours_name(checkpoint)
    if gone := set(changed) - set(sources.product_ids):
        _give_way_to_editors(lambda cursor: _delete(cursor, table, list(gone)))
    for lists in _search_in_parts(checkpoint, sources, k=get_settings().NEIGHBOURS):
        _replace(checkpoint, table, lists)
    return len(sources)


def repair(
    checkpoint: Checkpoint, changed: Collection[Any], *, renewed: Collection[Any] = ()
) -> int:
    """Bring the lists that can have changed with these products up to date; how many there were.

    They are the lists of the changed products themselves, the lists that held one of them, and
    the lists that one of them now belongs to. The last are looked for among each one's nearest
    CANDIDATES x NEIGHBOURS products, which finds all of them but for rare outliers. After edits to
    much of a large catalogue, only the first lists in this order are done that REPAIR_PAIRS and
    REPAIR_OTHERS allow. The nightly `compute` sees to what is left. Own lists of those that were
    `renewed` since they changed are looked at like those of others.

    Goes through the gallery twice, a part at a time: memory grows with the catalogue's keys alone.
    """
    table = neighbours_name(checkpoint)
    return _repair(checkpoint, changed, table, all_own=False, renewed=renewed)


def _repair(
    checkpoint: Checkpoint,
    changed: Collection[Any],
    table: str,
    *,
    all_own: bool,
    renewed: Collection[Any] = (),
) -> int:
    """As `repair`, in `table`; with `all_own`, every changed product's list, whatever the bounds."""
    if not changed:
        return 0
    k, limit = get_settings().NEIGHBOURS, REPAIR_PAIRS // max(1, _count_photos(checkpoint))
    own = galleries.load(checkpoint, product_ids=changed)
    wrong = [pk for pk in own.product_ids if pk not in renewed]
    limit = min(limit, len(wrong) + max(REPAIR_OTHERS, len(wrong)))
    if all_own:
        limit = max(limit, len(wrong))
    gone = set(changed) - set(own.product_ids)
    # A dictionary for the order: first come the lists that are wrong for sure.
    stale = dict.fromkeys(wrong[:limit])
    stale |= dict.fromkeys(_holders(table, changed))
    if len(stale) < limit:
        for near in _search_in_parts(checkpoint, own, k=CANDIDATES * k):
            stale |= dict.fromkeys(_entered(table, near, k=k))
    if gone:
        _give_way_to_editors(lambda cursor: _delete(cursor, table, list(gone)))
    if len(stale) > limit:
        logger.info("%d of %d lists are repaired, the sweep does the rest.", limit, len(stale))
    sources = galleries.load(checkpoint, product_ids=list(stale)[:limit])
    for lists in _search_in_parts(checkpoint, sources, k=k):
        _replace(checkpoint, table, lists)
    return len(sources)


def _count_photos(checkpoint: Checkpoint) -> int:
    return Embedding.objects.filter(checkpoint=checkpoint).count()


def _search_in_parts(checkpoint: Checkpoint, sources: Gallery, *, k: int) -> Iterator[Lists]:
    """The `k` products nearest to each of `sources`, of the whole gallery read part by part."""
    product_ids = list(sources.product_ids)
    number_of = {pk: number for number, pk in enumerate(product_ids)}

    def parts() -> Iterator[Part]:
        for read in galleries.parts(checkpoint):
            first = len(product_ids)
            product_ids.extend(read.product_ids)
            numbers = np.array(
                [number_of.get(pk, first + n) for n, pk in enumerate(read.product_ids)]
            )
            for part in ranking.parts(read):
                yield Part.of(take(read, part), numbers[part])

    for near in ranking.rank(sources, np.arange(len(sources)), parts(), k=k):
        yield Lists(product_ids, near)


def _holders(table: str, changed: Collection[Any]) -> list[Any]:
    """Products whose list has one of `changed`."""
    found: dict[Any, None] = {}
    for some in _asked_for.parts(list(changed)):
        with database().cursor() as cursor:
            cursor.execute(
                f"SELECT DISTINCT source_id FROM {table} "
                f"WHERE target_id = ANY(%s::{keys.sql_type()}[])",
                [keys.prepared(some)],
            )
            found |= dict.fromkeys(pk for (pk,) in cursor.fetchall())
    return list(found)


def _entered(table: str, lists: Lists, *, k: int) -> list[Any]:
    """Those of the nearest products whose own list has room for the product they are near to."""
    near = lists.near
    there = np.isfinite(near.scores)
    targets, scores = near.targets[there], near.scores[there]
    candidates, places = np.unique(targets, return_inverse=True)
    product_ids = [lists.product_ids[number] for number in candidates.tolist()]
    ends: dict[Any, float] = {}
    for some in _asked_for.parts(product_ids):
        with database().cursor() as cursor:
            cursor.execute(
                f"SELECT source_id, count(*), min(score) FROM {table} "
                f"WHERE source_id = ANY(%s::{keys.sql_type()}[]) GROUP BY source_id",
                [keys.prepared(some)],
            )
            ends |= {pk: float(last) for pk, count, last in cursor.fetchall() if count >= k}
    # A product without a full list takes anything. Rounding differs a little from block to block.
    bars = np.array([ends.get(pk, -np.inf) - 1e-5 for pk in product_ids], dtype=np.float64)
    return [product_ids[place] for place in np.unique(places[scores >= bars[places]]).tolist()]


def _replace(checkpoint: Checkpoint, table: str, lists: Lists) -> None:
    """Replace the lists of these sources; products that are deleted meanwhile are left out."""
    for rows in _written.parts(range(len(lists.near.sources))):
        some = lists.take(slice(rows[0], rows[-1] + 1))

        def replace(cursor: Any, lists: Lists = some) -> None:
            _delete(cursor, table, lists.sources)
            staged = neighbour_table.stage(cursor, lists)
            neighbour_table.insert(cursor, table, checkpoint, staged=staged)
            judgements.heed(cursor, checkpoint, lists.sources, table=table)

        _give_way_to_editors(replace)


def _give_way_to_editors(work: Callable[[Any], None]) -> None:
    """Do `work` in a transaction, some times if need be; the next sweep does what still failed.

    A short lock timeout sees to it that it is never an editor who loses a deadlock against us.
    """
    for attempt in range(ATTEMPTS):
        try:
            with transaction.atomic(using=database().alias), database().cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '200ms'")
                work(cursor)
            return
        except (IntegrityError, OperationalError) as error:
            if getattr(error.__cause__, "sqlstate", None) not in _PASSING:
                raise
            if attempt == ATTEMPTS - 1:
                logger.warning("Some neighbours stay until the next sweep renews them: %s", error)
            else:
                time.sleep(random.uniform(0.1, 0.5))


def _delete(cursor: Any, table: str, product_ids: Sequence[Any]) -> None:
    cursor.execute(
        f"DELETE FROM {table} WHERE source_id = ANY(%s::{keys.sql_type()}[])",
        [keys.prepared(product_ids)],
    )
