"""Similar products, precomputed: each product's nearest others, as one matrix product in blocks.

The widget reads this table: no encoder and no vector search while a shopper waits.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import IntegrityError, OperationalError, transaction

from visualsearch import copying, judgements, keys
from visualsearch import gallery as galleries
from visualsearch.conf import get_settings
from visualsearch.gallery import Gallery, Nearest, blocks, nearest, nearest_to, take
from visualsearch.models import Checkpoint, Embedding, SimilarProduct
from visualsearch.partitions import database, neighbours_name, partition_name

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of products done and of all."""

CANDIDATES = 4
"""After an edit, the lists looked at again are those of this many times NEIGHBOURS products."""
REPAIR_PAIRS = 1_000_000_000
"""Lists times photos that one repair compares at most; some ten seconds. The sweep does the rest."""
REPAIR_OTHERS = 5_000
"""Lists of other products that one repair renews at least, if so many need it; else as many as have
changed. Without a bound, a worker amid a backlog would write lists most of its time, each of them
many times over."""
SOURCES_AT_A_TIME = 256
"""Products that are compared with a part of the gallery at a time: some 16 MB of scores."""
ATTEMPTS = 4
_PASSING = ("55P03", "40P01", "23503", "23505")
"""SQLSTATE of faults that pass: lock not available, deadlock, a product was deleted, and another
process wrote the same list while we did."""
_STAGING = "visualsearch_staged_neighbour"
_COLUMNS = {
    "source_id": "text",
    "rank": "smallint",
    "target_id": "text",
    "score": "double precision",
    "position": "smallint",
}


@dataclass(frozen=True)
class Lists:
    """The nearest products of some products, by their keys, best first."""

    sources: list[Any]
    targets: npt.NDArray[np.object_]
    """Keys, [sources, k]."""
    scores: npt.NDArray[np.float32]
    """-inf where there is no product."""
    positions: npt.NDArray[np.int16]

    @classmethod
    def of(cls, sources: list[Any], ids: npt.NDArray[np.object_], near: Nearest) -> Lists:
        """With the keys that `near`'s indices stand for."""
        return cls(sources, ids[near.targets], near.scores, near.positions)

    @classmethod
    def empty(cls, sources: list[Any]) -> Lists:
        shape = (len(sources), 0)
        return cls(
            sources, np.empty(shape, object), np.empty(shape, "f4"), np.empty(shape, np.int16)
        )

    def merged(self, later: Lists, *, k: int) -> Lists:
        """The best `k` of both; of equal scores, those of this one first."""
        scores = np.concatenate([self.scores, later.scores], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]

        def best(mine: Any, theirs: Any) -> Any:
            return np.take_along_axis(np.concatenate([mine, theirs], axis=1), order, axis=1)

        return Lists(
            self.sources,
            best(self.targets, later.targets),
            best(self.scores, later.scores),
            best(self.positions, later.positions),
        )


def compute(checkpoint: Checkpoint, progress: Progress | None = None) -> int:
    """Compute every product's neighbours by `checkpoint` anew; the number of products.

    Lists are replaced some at a time, each as a whole: a reader never finds one half written.
    """
    gallery = galleries.load(checkpoint)
    ids = np.array([*gallery.product_ids, None], dtype=object)[:-1]
    done, k = 0, get_settings().NEIGHBOURS
    for block in blocks(gallery, np.arange(len(gallery))):
        sources = [gallery.product_ids[number] for number in block]
        _replace(checkpoint, Lists.of(sources, ids, nearest(gallery, block, k=k)))
        done += len(block)
        if progress is not None:
            progress(done, len(gallery))
    _forget(checkpoint)
    return len(gallery)


def repair(checkpoint: Checkpoint, changed: Collection[Any]) -> int:
    """Bring the lists that can have changed with these products up to date; how many there were.

    They are the lists of the changed products themselves, the lists that held one of them, and
    the lists that one of them now belongs to. The last are looked for among each one's nearest
    CANDIDATES x NEIGHBOURS products, which finds all of them but for rare outliers. After edits to
    much of a large catalogue, only the first lists in this order are done that REPAIR_PAIRS and
    REPAIR_OTHERS allow. The nightly `compute` sees to what is left.

    Goes through the gallery twice, a part at a time: memory does not grow with the catalogue.
    """
    if not changed:
        return 0
    k, limit = get_settings().NEIGHBOURS, REPAIR_PAIRS // max(1, _count_photos(checkpoint))
    own = galleries.load(checkpoint, product_ids=changed)
    limit = min(limit, len(own.product_ids) + max(REPAIR_OTHERS, len(own.product_ids)))
    gone = set(changed) - set(own.product_ids)
    # A dictionary for the order: first come the lists that are wrong for sure.
    stale = dict.fromkeys(own.product_ids[:limit])
    holders = SimilarProduct.objects.filter(checkpoint=checkpoint, target_id__in=changed)
    stale |= dict.fromkeys(holders.values_list("source_id", flat=True).distinct())
    if len(stale) < limit:
        for near in _search_in_parts(checkpoint, own, k=CANDIDATES * k):
            stale |= dict.fromkeys(_entered(checkpoint, near, k=k))
    if gone:
        _give_way_to_editors(lambda cursor: _delete(cursor, checkpoint, list(gone)))
    if len(stale) > limit:
        logger.info("%d of %d lists are repaired, the sweep does the rest.", limit, len(stale))
    sources = galleries.load(checkpoint, product_ids=list(stale)[:limit])
    for lists in _search_in_parts(checkpoint, sources, k=k):
        _replace(checkpoint, lists)
    return len(sources)


def _count_photos(checkpoint: Checkpoint) -> int:
    return Embedding.objects.filter(checkpoint=checkpoint).count()


def _search_in_parts(checkpoint: Checkpoint, sources: Gallery, *, k: int) -> list[Lists]:
    """The `k` products nearest to each of `sources`, of the whole gallery read part by part.

    SOURCES_AT_A_TIME of them in one of the results.
    """
    found: list[Lists] = [
        Lists.empty([sources.product_ids[number] for number in block])
        for block in _blocks_of(sources)
    ]
    for part in galleries.parts(checkpoint):
        number_of = {pk: number for number, pk in enumerate(part.product_ids)}
        ids = np.array([*part.product_ids, None], dtype=object)[:-1]
        for number, block in enumerate(_blocks_of(sources)):
            some = take(sources, block)
            own = np.array([number_of.get(pk, -1) for pk in some.product_ids], dtype=np.int64)
            near = nearest_to(some, part, own=own, k=k)
            found[number] = found[number].merged(Lists.of(some.product_ids, ids, near), k=k)
    return found


def _blocks_of(sources: Gallery) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(sources), SOURCES_AT_A_TIME):
        yield np.arange(start, min(start + SOURCES_AT_A_TIME, len(sources)), dtype=np.int64)


def _entered(checkpoint: Checkpoint, near: Lists, *, k: int) -> set[Any]:
    """Those of the nearest products whose own list has room for the product they are near to."""
    candidates = list(dict.fromkeys(near.targets[np.isfinite(near.scores)].tolist()))
    with database().cursor() as cursor:
        cursor.execute(
            f"SELECT source_id, count(*), min(score) FROM {neighbours_name(checkpoint)} "
            f"WHERE source_id = ANY(%s::{keys.sql_type()}[]) GROUP BY source_id",
            [keys.prepared(candidates)],
        )
        ends = {pk: float(last) for pk, count, last in cursor.fetchall() if count >= k}
    # A product without a full list takes anything. Rounding differs a little from block to block.
    return {
        target
        for target, score in zip(near.targets.flat, near.scores.flat, strict=True)
        if np.isfinite(score) and score >= ends.get(target, -np.inf) - 1e-5
    }


def _replace(checkpoint: Checkpoint, lists: Lists) -> None:
    """Replace the lists of these sources; products that are deleted meanwhile are left out."""

    def replace(cursor: Any) -> None:
        _delete(cursor, checkpoint, lists.sources)
        copying.stage(cursor, _STAGING, _COLUMNS, _encoded(lists))
        _insert_staged(cursor, checkpoint)
        judgements.heed(cursor, checkpoint, lists.sources)

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


def _insert_staged(cursor: Any, checkpoint: Checkpoint) -> None:
    (table, key), key_type = keys.table_and_column(), keys.sql_type()
    cursor.execute(
        f"INSERT INTO {neighbours_name(checkpoint)} "
        "(checkpoint_id, source_id, rank, target_id, score, position) "
        f"SELECT %s, source.{key}, rank, target.{key}, score, position FROM {_STAGING} AS staged "
        f"JOIN {table} AS source ON source.{key} = staged.source_id::{key_type} "
        f"JOIN {table} AS target ON target.{key} = staged.target_id::{key_type}",
        [checkpoint.pk],
    )


def _delete(cursor: Any, checkpoint: Checkpoint, product_ids: Sequence[Any]) -> None:
    cursor.execute(
        f"DELETE FROM {neighbours_name(checkpoint)} WHERE source_id = ANY(%s::{keys.sql_type()}[])",
        [keys.prepared(product_ids)],
    )


def _forget(checkpoint: Checkpoint) -> None:
    """Delete the lists of products that have no embedding any more."""
    _give_way_to_editors(
        lambda cursor: cursor.execute(
            f"DELETE FROM {neighbours_name(checkpoint)} AS list WHERE NOT EXISTS (SELECT 1 FROM "
            f"{partition_name(checkpoint)} AS e WHERE e.product_id = list.source_id)"
        )
    )


def _encoded(lists: Lists) -> Iterator[tuple[bytes, ...]]:
    encoded: dict[Any, bytes] = {}

    def key(pk: Any) -> bytes:
        if pk not in encoded:
            encoded[pk] = copying.text(str(pk))
        return encoded[pk]

    rows = zip(
        lists.sources,
        lists.targets.tolist(),
        lists.scores.tolist(),
        lists.positions.tolist(),
        strict=True,
    )
    for source, targets, scores, positions in rows:
        pairs = zip(targets, scores, positions, strict=True)
        for rank, (target, score, position) in enumerate(pairs, start=1):
            if score == -np.inf:
                break  # the catalogue has no more products than these
            yield (
                key(source),
                copying.smallint(rank),
                key(target),
                copying.double(score),
                copying.smallint(position),
            )
