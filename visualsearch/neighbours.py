"""Similar products, precomputed: each product's nearest others, as one matrix product in blocks.

The widget reads this table: no encoder and no vector search while a shopper waits.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import IntegrityError, OperationalError, transaction

from visualsearch import copying, keys
from visualsearch import gallery as galleries
from visualsearch.conf import get_settings
from visualsearch.gallery import Gallery, Nearest, blocks, nearest
from visualsearch.models import Checkpoint, SimilarProduct
from visualsearch.partitions import database, neighbours_name, partition_name

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of products done and of all."""

CANDIDATES = 4
"""After an edit, the lists looked at again are those of this many times NEIGHBOURS products."""
REPAIR_PAIRS = 1_000_000_000
"""Lists times photos that one repair compares at most; some ten seconds. The sweep does the rest."""
ATTEMPTS = 4
_PASSING = ("55P03", "40P01", "23503")  # lock not available, deadlock, a product was deleted
_STAGING = "visualsearch_staged_neighbour"
_COLUMNS = {
    "source_id": "text",
    "rank": "smallint",
    "target_id": "text",
    "score": "double precision",
    "position": "smallint",
}


def compute(checkpoint: Checkpoint, progress: Progress | None = None) -> int:
    """Compute every product's neighbours by `checkpoint` anew; the number of products.

    Lists are replaced some at a time, each as a whole: a reader never finds one half written.
    """
    gallery = galleries.load(checkpoint)
    _write(checkpoint, gallery, np.arange(len(gallery)), progress)
    _forget(checkpoint)
    return len(gallery)


def repair(checkpoint: Checkpoint, changed: Collection[Any]) -> int:
    """Bring the lists that can have changed with these products up to date; how many there were.

    They are the lists of the changed products themselves, the lists that held one of them, and
    the lists that one of them now belongs to. The last are looked for among each one's nearest
    CANDIDATES x NEIGHBOURS products, which finds all of them but for rare outliers. After edits to
    much of a large catalogue, only the first lists in this order that REPAIR_PAIRS allows are done.
    The nightly `compute` sees to what is left.
    """
    if not changed:
        return 0
    gallery = galleries.load(checkpoint)
    k, limit = get_settings().NEIGHBOURS, REPAIR_PAIRS // max(1, len(gallery.positions))
    index_of = {pk: number for number, pk in enumerate(gallery.product_ids)}
    gone = [pk for pk in changed if pk not in index_of]
    own = [index_of[pk] for pk in changed if pk in index_of][:limit]
    holders = SimilarProduct.objects.filter(checkpoint=checkpoint, target_id__in=changed)
    # A dictionary for the order: first come the lists that are wrong for sure.
    stale = dict.fromkeys(own)
    for pk in holders.values_list("source_id", flat=True).distinct():
        if pk in index_of:
            stale[index_of[pk]] = None
    for block in blocks(gallery, np.array(own, dtype=np.int64)):
        if len(stale) >= limit:
            break
        near = nearest(gallery, block, k=CANDIDATES * k)
        stale |= dict.fromkeys(_entered(checkpoint, gallery, near, k=k))
    if gone:
        _give_way_to_editors(lambda cursor: _delete(cursor, checkpoint, gone))
    if len(stale) > limit:
        logger.info("%d of %d lists are repaired, the sweep does the rest.", limit, len(stale))
    sources = np.array(sorted(list(stale)[:limit]), dtype=np.int64)
    _write(checkpoint, gallery, sources, None)
    return len(sources)


def _entered(checkpoint: Checkpoint, gallery: Gallery, near: Nearest, *, k: int) -> set[int]:
    """Those of the nearest products whose own list has room for the product they are near to."""
    candidates = np.unique(near.targets)
    with database().cursor() as cursor:
        cursor.execute(
            f"SELECT source_id, count(*), min(score) FROM {neighbours_name(checkpoint)} "
            f"WHERE source_id = ANY(%s::{keys.sql_type()}[]) GROUP BY source_id",
            [keys.prepared([gallery.product_ids[number] for number in candidates])],
        )
        ends = {pk: float(last) for pk, count, last in cursor.fetchall() if count >= k}
    # A product without a full list takes anything. Rounding differs a little from block to block.
    worst = np.array([ends.get(gallery.product_ids[number], -np.inf) for number in candidates])
    bar = worst[np.searchsorted(candidates, near.targets)]
    return set(np.unique(near.targets[near.scores >= bar - 1e-5]).tolist())


def _write(
    checkpoint: Checkpoint,
    gallery: Gallery,
    sources: npt.NDArray[np.int64],
    progress: Progress | None,
) -> None:
    k = get_settings().NEIGHBOURS
    done = 0
    for block in blocks(gallery, sources):
        _replace(checkpoint, gallery, block, nearest(gallery, block, k=k))
        done += len(block)
        if progress is not None:
            progress(done, len(sources))


def _replace(
    checkpoint: Checkpoint, gallery: Gallery, sources: npt.NDArray[np.int64], near: Nearest
) -> None:
    """Replace the lists of `sources`; products that are deleted meanwhile are left out."""

    def replace(cursor: Any) -> None:
        _delete(cursor, checkpoint, [gallery.product_ids[number] for number in sources])
        copying.stage(cursor, _STAGING, _COLUMNS, _encoded(gallery, sources, near))
        _insert_staged(cursor, checkpoint)

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


def _encoded(
    gallery: Gallery, sources: npt.NDArray[np.int64], near: Nearest
) -> Iterator[tuple[bytes, ...]]:
    keys = {
        number: copying.text(str(gallery.product_ids[number]))
        for number in np.unique(np.concatenate([sources, near.targets.ravel()])).tolist()
    }
    rows = zip(
        sources.tolist(),
        near.targets.tolist(),
        near.scores.tolist(),
        near.positions.tolist(),
        strict=True,
    )
    for source, targets, scores, positions in rows:
        pairs = zip(targets, scores, positions, strict=True)
        for rank, (target, score, position) in enumerate(pairs, start=1):
            yield (
                keys[source],
                copying.smallint(rank),
                keys[target],
                copying.double(score),
                copying.smallint(position),
            )
