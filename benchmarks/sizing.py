"""Bytes that embeddings, their HNSW index and the neighbours take in PostgreSQL, by the photo and by the product.

python -m benchmarks.sizing --photos 100000 --width 256
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from benchmarks import record, stack

NAME = "sizing"


def run(*, photos: int, width: int, neighbours: int) -> None:
    """Fill `.run/sizing` with random unit vectors, and write results/sizing.json."""
    stack.remove(NAME)
    with stack.start(NAME) as services:
        services.manage("migrate", "--verbosity", "0")
        os.environ.update(services.environment)
        import django

        django.setup()
        figures = _measure(photos=photos, width=width, neighbours=neighbours)
    stack.remove(NAME)
    print(f"written to {record.write(NAME, figures)}")


def _measure(*, photos: int, width: int, neighbours: int) -> dict[str, Any]:
    from django.db import connection

    from visualsearch.tables import partitions
    from visualsearch.testing import fake_checkpoint

    checkpoint = fake_checkpoint(width=width)
    embeddings = partitions.partition_name(checkpoint)
    similar = partitions.neighbours_name(checkpoint)
    seconds = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO shop_product (sku, name, description, category, style_code, colour, "
            "pattern, material, attributes, price, stock, published, place, created_at) "
            "SELECT n::text, 'Product ' || n, '', '', '', '', '', '', '{}', 10, 1, true, n, now() "
            "FROM generate_series(1, %s) AS n",
            [photos],
        )
        started = time.monotonic()
        cursor.execute(
            f"INSERT INTO {embeddings} (checkpoint_id, product_id, position, image, content_hash, "
            "version, vector, embedded_at) SELECT %s, id, 0, "
            "'products/2026/01/some-usual-file-name-' || id || '.jpg', decode(md5(id::text), 'hex'), "
            "1, l2_normalize((SELECT array_agg(random() - 0.5 + id * 0) "
            f"FROM generate_series(1, %s))::real[]::vector({int(width)})::halfvec({int(width)})), "
            "now() FROM shop_product",
            [checkpoint.pk, width],
        )
        seconds["fill"] = round(time.monotonic() - started, 1)
        cursor.execute(
            f"INSERT INTO {similar} (checkpoint_id, source_id, rank, target_id, score, position) "
            "SELECT %s, id, rank, 1 + (id + rank * 7919) %% %s, 0.9, 0 "
            "FROM shop_product, generate_series(1, %s) AS rank",
            [checkpoint.pk, photos, neighbours],
        )
    started = time.monotonic()
    partitions.build_ann_index(checkpoint)
    seconds["HNSW index"] = round(time.monotonic() - started, 1)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_table_size(%s), pg_relation_size(%s), pg_indexes_size(%s), "
            "pg_total_relation_size(%s)",
            [embeddings, f"{embeddings}_hnsw", embeddings, similar],
        )
        table, hnsw, indexes, pairs = cursor.fetchone()
    return {
        "photos": photos,
        "width": width,
        "neighbours": neighbours,
        "bytes_a_photo": {
            "row with its vector": round(table / photos),
            "HNSW index": round(hnsw / photos),
            "other indexes": round((indexes - hnsw) / photos),
        },
        "bytes_a_product": {"neighbours": round(pairs / photos)},
        "seconds": seconds,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--neighbours", type=int, default=50)
    run(**vars(parser.parse_args()))
