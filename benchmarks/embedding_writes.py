"""Rows a second of writing embeddings, against plain binary COPY of the same rows in the same run.

Loading is how all embeddings of a new checkpoint are written, in the batches of a fast encoder, a
transaction each: into a table with its key, which then gets its reference to the products, loses
the rows of those that are gone, and becomes the checkpoint's partition. All of that is counted.
Storing is what a worker does in a checkpoint that is searched: lock the products, compare versions,
and write into the partition with its key and reference; and the same again over rows that are
there, as after an edit of every photo. Plain COPY goes into an empty table of the same columns
without key or check: in one statement and transaction, and for comparison in the same batches as
loading. What key and reference alone cost shows a COPY of the same rows, in one go, straight into a
partition. All take turns. The rows are encoded by the same code, whose speed is measured by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import record, small_catalogue, stack

PLAIN = "benchmark_plain_copy"


def run(*, name: str, rows: int, width: int, rounds: int, write: bool = True) -> dict[str, Any]:
    """Write results/embedding_writes.json."""
    with stack.start(name) as services:
        services.manage("migrate", "--verbosity", "0")
        os.environ.update(services.environment)
        import django

        django.setup()
        small_catalogue.fill(rows, with_photos=False)
        figures = measure(rows=rows, width=width, rounds=rounds)
    print(figures)
    if write:
        print(f"written to {record.write('embedding_writes', figures)}")
    return figures


def measure(*, rows: int, width: int, rounds: int) -> dict[str, Any]:
    """Rows a second of both in `rounds` turns, and the shares; products must be there."""
    import numpy as np
    from django.db import connection, transaction

    from shop.models import Product
    from visualsearch.models import Checkpoint, Embedding
    from visualsearch.tables import copying, keys, partitions
    from visualsearch.upkeep import loading, storing
    from visualsearch.upkeep.indexing import BACKFILL_MOST

    at_a_time = BACKFILL_MOST
    random = np.random.default_rng(0)
    vectors = random.normal(size=(rows, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = list(Product.objects.order_by("pk").values_list("pk", flat=True)[:rows])
    changes = [
        storing.Change(
            product_id=pk,
            version=1,
            positions=[0],
            rows=[
                storing.Row(
                    position=0, image=f"p/{pk}.jpg", content_hash=bytes(16), vector=vectors[number]
                )
            ],
        )
        for number, pk in enumerate(ids)
    ]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE visualsearch_indexentry SET version = 1")
        cursor.execute("VACUUM ANALYZE visualsearch_indexentry")
        cursor.execute("VACUUM ANALYZE shop_product")
    batches = [changes[start : start + at_a_time] for start in range(0, len(changes), at_a_time)]
    checkpoint = Checkpoint.objects.create(
        name="writes",
        folder="writes",
        recipe="none",
        width=width,
        image_size=1,
        preprocessing="none",
    )

    def plain() -> None:
        columns = ", ".join(f"{column} {kind}" for column, kind in storing.COLUMNS.items())
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {PLAIN}; CREATE TABLE {PLAIN} ({columns})")

    def copy() -> None:
        plain()
        with transaction.atomic(), connection.cursor() as cursor:
            copying.copy(cursor, PLAIN, list(storing.COLUMNS), storing.encoded(changes))

    def copy_into_partition() -> None:
        partitions.drop(checkpoint)
        partitions.create(checkpoint)
        key_field = keys.binary_field()
        assert key_field is not None
        rows = storing.encoded_fresh(checkpoint, changes, key_field)
        with transaction.atomic(), connection.cursor() as cursor:
            copying.copy(cursor, Embedding._meta.db_table, storing.FRESH_COLUMNS, rows)

    def copy_batches() -> None:
        plain()
        for batch in batches:
            with transaction.atomic(), connection.cursor() as cursor:
                copying.copy(cursor, PLAIN, list(storing.COLUMNS), storing.encoded(batch))

    def load() -> None:
        partitions.drop(checkpoint)
        loading.begin(checkpoint)
        for batch in batches:
            loading.append(checkpoint, batch)
        loading.attach(checkpoint)

    def store() -> None:
        partitions.drop(checkpoint)
        partitions.create(checkpoint)
        for batch in batches:
            storing.write(checkpoint, batch)

    def store_again() -> None:
        for batch in batches:
            storing.write(checkpoint, batch)

    def encode() -> None:
        for batch in batches:
            for _ in storing.encoded(batch):
                pass

    try:
        work = {"copy": copy, "copy in batches": copy_batches, "encoded": encode}
        work |= {"copy with key and reference": copy_into_partition}
        # In this order: the last writes over what the one before it stored.
        work |= {"loaded": load, "stored": store, "stored over what was there": store_again}
        speeds = _in_turns(work, rows, rounds)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {partitions.partition_name(checkpoint)}")
            if (stored := cursor.fetchone()[0]) != len(changes):
                raise SystemExit(f"{stored} of {len(changes)} rows were stored.")
    finally:
        partitions.drop(checkpoint)
        checkpoint.delete()
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {PLAIN}")

    def shares_of(what: str, of: str = "copy") -> list[float]:
        return [round(a / b, 3) for a, b in zip(speeds[what], speeds[of], strict=True)]

    return {
        "rows": len(changes),
        "width": width,
        "rows_a_transaction": at_a_time,
        "rows_per_second": {
            what: round(statistics.median(found)) for what, found in speeds.items()
        },
        "share_of_plain_copy": {
            what: statistics.median(shares_of(what))
            for what in ("loaded", "stored", "stored over what was there")
        },
        "shares": {"loaded": shares_of("loaded"), "stored": shares_of("stored")},
        "share_of_copy_with_key_and_reference": {
            what: statistics.median(shares_of(what, "copy with key and reference"))
            for what in ("loaded", "stored")
        },
    }


def _in_turns(
    work: dict[str, Callable[[], None]], rows: int, rounds: int
) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {what: [] for what in work}
    for turn in range(rounds + 1):
        for what, do in work.items():
            started = time.perf_counter()
            do()
            if turn:  # the first warms caches up
                speeds[what].append(rows / (time.perf_counter() - started))
    return speeds


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="writes", help="of the data's folders")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    run(**vars(parser.parse_args()))
