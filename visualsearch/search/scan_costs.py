"""Whether a search compares all that matches or reads the HNSW index, and how far: by what each costs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from visualsearch.conf import get_settings
from visualsearch.models import Checkpoint
from visualsearch.tables import partitions
from visualsearch.tables.deadlines import read

EXACT_LEAST = 2_000
"""Up to so many products are always compared: that takes some 3 ms, and a small shop needs no probe."""
EXACT_LEAST_OF_SIGNS = 20_000
"""The same where the index holds the signs of wide vectors: their order is not that of the vectors."""
SCAN_SHARE = 24
"""The HNSW scan is left for the exact one after reading a 24th as many rows as are known to match.

A row costs 7 to 9 microseconds to read there and 1 to 2.4 to compare exactly (width 256; less in a
small catalogue), so that a scan that was of no use adds a quarter: with a twelfth, half at 20,000
products. And a block that is not full by then lies far behind what is near, where the index's order
says little: with a third, one was filled from there with a recall of .89 (benchmarks.selectivity,
sentences that ask for the half that is farthest from them).
"""
SCAN_SPARE = 1.3
"""Rows by which a block is full in nine cases of ten, as a share of those that it takes on average."""
PASS_SHARE = 6
"""Products to compare for each row of hnsw.ef_search, from which one pass of the index is the cheaper.

A pass reads as many whatever is asked of it. With 1,000 it takes 5 ms, as comparing 4,500 does; the
rest is for passes that were of no use.
"""
BELIEVED_SECONDS = 30
"""How long what the statistics say of a table is believed: a search is too short to ask each time."""
TABLES_KEPT = 16


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What Postgres's last ANALYZE found out about a table of embeddings."""

    rows: int
    """-1 before the first one."""
    has_one_photo_each: bool
    """Whether no product was met twice."""


_believed: dict[str, tuple[float, Statistics]] = {}
"""By table: until when, and what."""


def statistics(checkpoint: Checkpoint) -> Statistics:
    """Of the checkpoint's embeddings, at most BELIEVED_SECONDS old."""
    table = partitions.partition_name(checkpoint)
    until, found = _believed.get(table, (0.0, None))
    if found is None or until < time.monotonic():
        rows = read(
            "SELECT c.reltuples::bigint, s.n_distinct FROM pg_class AS c "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_stats AS s ON "
            "s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'product_id' "
            "WHERE c.oid = to_regclass(%s)",
            [table],
        )
        count, distinct = rows[0] if rows else (-1, None)
        found = Statistics(rows=count, has_one_photo_each=distinct == -1)
        if len(_believed) >= TABLES_KEPT:
            _believed.clear()
        _believed[table] = time.monotonic() + BELIEVED_SECONDS, found
    return found


def always_compared(checkpoint: Checkpoint) -> int:
    """Products up to which all that match are compared, in a catalogue of whatever size."""
    given = get_settings().EXACT_THRESHOLD
    if given is not None:
        return given
    has_signs = partitions.AnnIndex.of(checkpoint.width).nearness is not None
    return EXACT_LEAST_OF_SIGNS if has_signs else EXACT_LEAST


def is_always_exact(checkpoint: Checkpoint) -> bool:
    """Whether every search compares all vectors, because there are few of them or no index."""
    return not checkpoint.has_ann_index or (
        0 <= statistics(checkpoint).rows <= always_compared(checkpoint)
    )


def most_compared(checkpoint: Checkpoint, *, ef_search: int, size: int) -> int:
    """Products up to which all that match are compared, in this catalogue.

    More are looked for in the index, where the scan would fill a block of `size` before it is left
    (`reach`) if what matches lay anywhere: n of N products fill it in size N / n rows. The setting
    EXACT_THRESHOLD takes the place of all that. It is the same for every page of a search.
    """
    least = always_compared(checkpoint)
    if get_settings().EXACT_THRESHOLD is not None:
        return least
    # In two digits: processes may have asked for the statistics before and after an ANALYZE.
    rows = float(f"{max(0, statistics(checkpoint).rows):.1e}")
    by_chance = math.sqrt(SCAN_SHARE * SCAN_SPARE * size * rows)
    return max(least, math.ceil(by_chance), PASS_SHARE * ef_search)


def reach(matching: int, *, ef_search: int, least: int) -> int:
    """Rows of the index that are read for a block before all that match are compared instead.

    The same for every page, as it decides where the exact search takes over. The first pass
    reads `ef_search` in any case.
    """
    return max(least, ef_search, matching // SCAN_SHARE)
