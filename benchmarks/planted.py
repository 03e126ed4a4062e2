"""A shop of N products with planted vectors, its index built as a training run builds it."""

from __future__ import annotations

import time
from typing import Any

from benchmarks import small_catalogue, untrained
from benchmarks.planted_encoder import VECTORS_NAME, photos

ENCODER = "benchmarks.planted_encoder.PlantedEncoder"
"""For the setting ENCODER."""
NAME = "planted"
SELECTIVITIES = (100.0, 50.0, 10.0, 2.0, 0.2, 0.01)
"""Per cent of the products that a filter leaves."""


def make(products: int, *, width: int = 256, neighbours: bool = False) -> tuple[Any, Any, Any]:
    """Live checkpoint, product keys [N] in the vectors' order, vectors float32 [N, width].

    The vectors are as Postgres holds them. `ENCODER` must be set. With the seconds of each step in
    `checkpoint.metrics["seconds"]`.
    """
    import numpy as np
    from django.db import connection

    from shop.models import Product
    from visualsearch.conf import get_settings
    from visualsearch.lifecycle import recall
    from visualsearch.models import Checkpoint
    from visualsearch.tables import partitions
    from visualsearch.testing import fake_checkpoint
    from visualsearch.upkeep import neighbours as similar

    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal clock
        seconds[step] = round(time.perf_counter() - clock, 2)
        clock = time.perf_counter()
        print(f"{step}: {seconds[step]} s", flush=True)

    small_catalogue.fill(products, with_photos=False)
    keys = np.array(Product.objects.order_by("pk").values_list("pk", flat=True)[:products])
    lap("products")
    vectors = photos(products, width=width)
    untrained.remove(NAME)
    folder = get_settings().CHECKPOINT_ROOT / NAME
    folder.mkdir(parents=True)
    np.save(folder / VECTORS_NAME, vectors)
    checkpoint = fake_checkpoint(name=NAME, folder=NAME, width=width)
    _store(checkpoint, keys, vectors)
    with connection.cursor() as cursor:
        for table in ("shop_product", "visualsearch_indexentry"):
            cursor.execute(f"VACUUM ANALYZE {table}")
    lap("embeddings stored")
    partitions.build_ann_index(checkpoint)
    lap("HNSW index")
    recall.probe(checkpoint)
    lap("recall probe")
    if neighbours:
        similar.compute(checkpoint)
        lap("neighbours")
    checkpoint.metrics = checkpoint.metrics | {"seconds": seconds}
    Checkpoint.objects.filter(pk=checkpoint.pk).update(metrics=checkpoint.metrics)
    return checkpoint, keys, vectors.astype(np.float16).astype(np.float32)


def _store(checkpoint: Any, keys: Any, vectors: Any) -> None:
    from visualsearch.models import IndexEntry
    from visualsearch.upkeep import storing

    IndexEntry.objects.update(version=1)
    for start in range(0, len(keys), 2048):
        changes = []
        for pk, vector in zip(
            keys[start : start + 2048].tolist(), vectors[start : start + 2048], strict=True
        ):
            row = storing.Row(
                position=0, image=f"p/{pk}.jpg", content_hash=bytes(16), vector=vector
            )
            changes.append(storing.Change(product_id=pk, version=1, rows=[row], positions=[0]))
        storing.write(checkpoint, changes)


def matches(percent: float, products: int) -> int:
    """How many of `products` a filter of that selectivity leaves; one at least."""
    return max(1, round(products * percent / 100))


def set_prices(keys: Any, ranks: Any) -> None:
    """Give every product its rank as the price: what is nearest to something becomes what is cheap."""
    _set("price", "numeric", keys, ranks.tolist())


def set_stocks(keys: Any, numbers: Any) -> None:
    """Give every product a number as its stock."""
    _set("stock", "integer", keys, numbers.tolist())


def set_colours(keys: Any, *, seed: int = 1) -> dict[float, list[str]]:
    """Give every product a colour by chance; the colours that leave each of SELECTIVITIES."""
    import numpy as np

    bounds = sorted({matches(percent, len(keys)) for percent in SELECTIVITIES})
    order = np.random.default_rng(seed).permutation(len(keys))
    names = np.empty(len(keys), dtype=object)
    colours: dict[float, list[str]] = {}
    start = 0
    for number, end in enumerate(bounds):
        names[order[start:end]] = f"colour {number}"
        start = end
    for percent in SELECTIVITIES:
        last = bounds.index(matches(percent, len(keys)))
        colours[percent] = [f"colour {number}" for number in range(last + 1)]
    _set("colour", "text", keys, names.tolist())
    return colours


def _set(column: str, kind: str, keys: Any, values: list[Any]) -> None:
    """Write a column of all products.

    The triggers that note changes for the index are left out: nothing that is embedded changes.
    """
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            f"UPDATE shop_product SET {column} = given.value FROM "
            f"unnest(%s::bigint[], %s::{kind}[]) AS given (id, value) "
            "WHERE shop_product.id = given.id",
            [keys.tolist(), values],
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE shop_product")
