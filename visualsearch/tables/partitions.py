"""The partitions that belong to one checkpoint, and the HNSW index of its embeddings."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from visualsearch.conf import get_settings
from visualsearch.exceptions import TablesBusyError
from visualsearch.models import Checkpoint, Embedding, SimilarProduct
from visualsearch.tables import autovacuum

logger = logging.getLogger(__name__)

HNSW_MAX_WIDTH = 4000
"""Widest halfvec that an HNSW index of pgvector takes; of wider ones it takes the signs."""
CAREFUL_FROM = 200_000
"""From this many embeddings an HNSW index is built with more care."""
LEAST_MEMORY = 64 * 1024 * 1024
"""PostgreSQL's own default for a build."""
TABLE_MEMORY = 512 * 1024 * 1024
"""For the keys of a table that was filled without any."""
LOCK_ATTEMPTS = 30
"""Attempts at a lock on tables that others use; together some fifteen seconds."""
LOCK_WAIT_MS = 200
"""For how long one of them waits."""
LONG_ATTEMPTS = 2
"""So many may wait longer, if it is an autovacuum that has to give way."""


@dataclass(frozen=True)
class AnnIndex:
    """What the HNSW index of vectors of some width holds, in SQL, and how it is asked."""

    expression: str
    """Of the column `vector`."""
    operators: str
    nearness: str | None
    """Orders rows e by the index's own distance from one parameter; None: it is that of the vectors."""

    @classmethod
    def of(cls, width: int) -> AnnIndex:
        """The vectors themselves; past HNSW_MAX_WIDTH the signs of their numbers.

        Hamming distances of 4,096 signs only choose the candidates, which are ranked by the vectors.
        Measured on 8,000 vectors: of the true ten nearest, 64–84 % are among the ten with the nearest
        signs and over 99.7 % among the nearest forty; the index takes 7 MB and 4–10 s. One of the
        vectors' first 4,000 numbers takes 131 MB and 38–48 s for the same recall and is no faster.
        """
        halfvec = f"halfvec({int(width)})"
        if width <= HNSW_MAX_WIDTH:
            return cls(f"vector::{halfvec}", "halfvec_ip_ops", None)
        signs, bit = "binary_quantize", f"bit({int(width)})"
        nearness = f"{signs}(e.vector)::{bit} <~> {signs}(%s::{halfvec})::{bit}"
        return cls(f"{signs}(vector)::{bit}", "bit_hamming_ops", nearness)


@dataclass(frozen=True)
class Care:
    """With how much care an HNSW index is built: what finds more takes longer to build."""

    m: int
    ef_construction: int

    @classmethod
    def of(cls, rows: int) -> Care:
        """What the settings say, else what goes with so many embeddings.

        Measured for sentences, which lie outside the cloud of photos, at 100,000 embeddings of width
        256: m 16 with 128 finds .930 of the nearest ten at ef_search 200 and .994 at 1000, m 32 with
        256 .965 and .997, for 2.7 times the time to build and 1.24 times the size. At 500,000 the
        first was left at .960 with the widest search there is.
        """
        m, ef_construction = (16, 128) if rows <= CAREFUL_FROM else (32, 256)
        settings = get_settings()
        m = settings.HNSW_M or m
        # pgvector takes no less than twice m.
        return cls(m, max(2 * m, settings.HNSW_EF_CONSTRUCTION or ef_construction))

    def memory(self, rows: int, width: int) -> int:
        """Bytes of the graph of so many vectors while it is built."""
        # An element with its vector, and 2 m links of 16 bytes on the lowest level (pgvector's
        # hnsw.h); with less memory than that the rest of the build takes several times as long.
        return int(1.2 * rows * (2 * min(width, HNSW_MAX_WIDTH) + 32 * self.m + 200))


def database() -> BaseDatabaseWrapper:
    """The connection that holds the embeddings."""
    return connections[router.db_for_write(Embedding)]


def partition_name(checkpoint: Checkpoint) -> str:
    """Table of the checkpoint's embeddings; safe to put into SQL, as it ends in an integer."""
    return f"visualsearch_embedding_c{int(checkpoint.pk)}"


def loading_name(checkpoint: Checkpoint) -> str:
    """Table that the checkpoint's first embeddings are written into (loading.py)."""
    return f"{partition_name(checkpoint)}_loading"


def neighbours_name(checkpoint: Checkpoint) -> str:
    """Table of the checkpoint's precomputed neighbours."""
    return f"visualsearch_similarproduct_c{int(checkpoint.pk)}"


def index_name(checkpoint: Checkpoint) -> str:
    """The HNSW index of the checkpoint's embeddings."""
    return f"{partition_name(checkpoint)}_hnsw"


def create(checkpoint: Checkpoint) -> None:
    """Create the checkpoint's partitions unless they are there."""
    owners = {
        partition_name(checkpoint): Embedding._meta.db_table,
        neighbours_name(checkpoint): SimilarProduct._meta.db_table,
    }
    for partition, table in owners.items():
        if not is_there(partition):
            # CREATE TABLE … PARTITION OF would lock searches out; to attach one does not.
            patiently(
                f"CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS "
                "INCLUDING STORAGE)",
                f"ALTER TABLE {table} ATTACH PARTITION {partition} "
                f"FOR VALUES IN ({int(checkpoint.pk)})",
            )


def drop(checkpoint: Checkpoint) -> None:
    """Drop the checkpoint's rows in one go: no bloat, no vacuum of a dead graph.

    Raises TablesBusyError, as `create` does, if others hold the tables for long.
    """
    patiently(
        f"DROP TABLE IF EXISTS {partition_name(checkpoint)}",
        f"DROP TABLE IF EXISTS {loading_name(checkpoint)}",
        f"DROP TABLE IF EXISTS {neighbours_name(checkpoint)}",
    )
    drop_unattached(checkpoint)
    Checkpoint.objects.filter(pk=checkpoint.pk).update(has_ann_index=False)


def drop_unattached(checkpoint: Checkpoint) -> None:
    """Drop what was to become the checkpoint's neighbours and did not (neighbour_table.py)."""
    with database().cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relname ~ %s AND relkind = 'r' "
            "AND pg_table_is_visible(oid)",
            [f"^{neighbours_name(checkpoint)}_[0-9a-f]{{8}}$"],
        )
        left = [name for (name,) in cursor.fetchall()]
    if left:
        patiently(*(f"DROP TABLE IF EXISTS {name}" for name in left))


def exists(checkpoint: Checkpoint) -> bool:
    return is_there(partition_name(checkpoint))


def is_there(table: str) -> bool:
    with database().cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [table])
        row = cursor.fetchone()
    return bool(row and row[0])


def patiently(*statements: str) -> None:
    """Execute statements that lock tables of the shop or of its searches, all or none.

    Whoever comes after a statement that waits for such a lock waits behind it: one long import or
    dump, and every page would hang. So it waits for a moment only, gives way, and tries again. An
    autovacuum gives way itself, to who waits longer than that.
    """
    connection = database()
    wait_ms, may_be_long = LOCK_WAIT_MS, LONG_ATTEMPTS
    for attempt in range(LOCK_ATTEMPTS):
        try:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('lock_timeout')")
                (before,) = cursor.fetchone()
                cursor.execute(f"SET LOCAL lock_timeout = '{wait_ms}ms'")
                for statement in statements:
                    cursor.execute(statement)
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])
            return
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) not in ("55P03", "40P01"):
                raise
            if attempt == LOCK_ATTEMPTS - 1:
                raise TablesBusyError(
                    f"Other transactions hold tables for long, so this was not done: "
                    f"{'; '.join(statements)}. Look into pg_stat_activity for old transactions (imports, "
                    "dumps), and try again when they have ended."
                ) from error
        time.sleep(random.uniform(0.1, 0.5))
        wait_ms = LOCK_WAIT_MS
        if may_be_long and (longer := autovacuum.patience_ms(connection, statements)):
            wait_ms = max(wait_ms, longer)
            may_be_long -= 1


def build_ann_index(checkpoint: Checkpoint) -> None:
    """Build the HNSW index of the checkpoint's partition, unless it is there.

    The memory for the build is raised for this statement alone: with the default 64 MB it takes
    three times as long. Built concurrently, unless inside a transaction: otherwise
    the delete of a product, which cascades into the partition, would wait for the whole build.
    """
    index = AnnIndex.of(checkpoint.width)
    name = index_name(checkpoint)
    how = "" if database().in_atomic_block else "CONCURRENTLY"
    care, memory = _plan(checkpoint)
    with build_settings(memory) as cursor:
        # A concurrent build that broke off leaves an index that is not used.
        cursor.execute(
            "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid", [name]
        )
        if cursor.fetchone():
            cursor.execute(f"DROP INDEX {how} {name}")
        cursor.execute(
            f"CREATE INDEX {how} IF NOT EXISTS {name} ON {partition_name(checkpoint)} "
            f"USING hnsw (({index.expression}) {index.operators}) "
            f"WITH (m = {care.m}, ef_construction = {care.ef_construction})"
        )
        cursor.execute(f"ANALYZE {partition_name(checkpoint)}")
    Checkpoint.objects.filter(pk=checkpoint.pk).update(has_ann_index=True)
    checkpoint.has_ann_index = True


def rebuild_ann_index(checkpoint: Checkpoint) -> None:
    """Build the HNSW index anew beside the old one, which answers meanwhile.

    For a graph that lost recall over many edits, one that was built for a smaller catalogue, or an
    index that is not valid.
    """
    if not has_valid_index(checkpoint):
        build_ann_index(checkpoint)
        return
    care, memory = _plan(checkpoint)
    patiently(
        f"ALTER INDEX {index_name(checkpoint)} "
        f"SET (m = {care.m}, ef_construction = {care.ef_construction})"
    )
    with build_settings(memory) as cursor:
        how = "" if database().in_atomic_block else "CONCURRENTLY"
        cursor.execute(f"REINDEX INDEX {how} {index_name(checkpoint)}")
        cursor.execute(f"ANALYZE {partition_name(checkpoint)}")


def _plan(checkpoint: Checkpoint) -> tuple[Care, int]:
    """The care to build the index with, and the bytes of memory for it."""
    rows = Embedding.objects.filter(checkpoint=checkpoint).count()
    care, most = Care.of(rows), get_settings().HNSW_BUILD_MEMORY_BYTES
    needed = max(LEAST_MEMORY, care.memory(rows, checkpoint.width))
    if needed > most:
        logger.warning(
            "The HNSW index of %d embeddings wants %d MB to be built fast and gets %d: "
            "HNSW_BUILD_MEMORY_BYTES.",
            *(rows, needed // 1024**2, most // 1024**2),
        )
    return care, min(needed, most)


def is_built_for_fewer(checkpoint: Checkpoint) -> bool:
    """Whether an index built today would have more links: the catalogue has grown."""
    with database().cursor() as cursor:
        cursor.execute(
            "SELECT option_value::int FROM pg_class, pg_options_to_table(reloptions) "
            "WHERE oid = to_regclass(%s) AND option_name = 'm'",
            [index_name(checkpoint)],
        )
        row = cursor.fetchone()
    return bool(row) and row[0] < _plan(checkpoint)[0].m


def has_valid_index(checkpoint: Checkpoint) -> bool:
    with database().cursor() as cursor:
        cursor.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
            [index_name(checkpoint)],
        )
        row = cursor.fetchone()
    return bool(row and row[0])


@contextmanager
def build_settings(memory: int = TABLE_MEMORY) -> Iterator[Any]:
    """A cursor whose statements may take long, and `memory` bytes."""
    connection = database()
    with connection.cursor() as cursor:
        cursor.execute(f"SET maintenance_work_mem = '{memory // 1024}kB'")
        cursor.execute("SET statement_timeout = 0")
        try:
            yield cursor
        finally:
            if not connection.needs_rollback:
                cursor.execute("RESET maintenance_work_mem")
                cursor.execute("RESET statement_timeout")
