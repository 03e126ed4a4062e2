"""Seconds to compute and write the neighbours of N products, against the bare matrix products.

The bare products are those that the same computation cannot do without: each block of products
against all, float32, with nothing chosen, fetched or written. Both take turns in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

from benchmarks import record, small_catalogue, stack

CLUSTERS = 500


def run(*, name: str, products: int, width: int, rounds: int, write: bool = True) -> dict[str, Any]:
    """Write results/neighbour_table.json."""
    with stack.start(name) as services:
        services.manage("migrate", "--verbosity", "0")
        os.environ.update(services.environment)
        import django

        django.setup()
        small_catalogue.fill(products, with_photos=False)
        figures = measure(products=products, width=width, rounds=rounds)
    print(figures)
    if write:
        print(f"written to {record.write('neighbour_table', figures)}")
    return figures


def measure(*, products: int, width: int, rounds: int) -> dict[str, Any]:
    """Seconds of both, and the ratio of each round; products must be there."""
    import numpy as np

    from visualsearch import gallery as galleries
    from visualsearch import neighbours, partitions
    from visualsearch.conf import get_settings
    from visualsearch.models import Checkpoint, SimilarProduct

    checkpoint = Checkpoint.objects.create(
        name="neighbours",
        folder="neighbours",
        recipe="none",
        width=width,
        image_size=1,
        preprocessing="none",
    )
    partitions.create(checkpoint)
    try:
        _embed(checkpoint, products=products, width=width)
        seconds: dict[str, list[float]] = {"neighbour table": [], "bare matrix products": []}
        for _ in range(rounds):
            started = time.perf_counter()
            neighbours.compute(checkpoint)
            seconds["neighbour table"].append(time.perf_counter() - started)
            gallery = galleries.load(checkpoint)
            vectors = gallery.vectors.astype(np.float32)
            started = time.perf_counter()
            for block in galleries.blocks(gallery, np.arange(len(gallery))):
                vectors[block] @ vectors.T
            seconds["bare matrix products"].append(time.perf_counter() - started)
        pairs = SimilarProduct.objects.filter(checkpoint=checkpoint).count()
        if pairs != products * min(get_settings().NEIGHBOURS, products - 1):
            raise SystemExit(f"{pairs} neighbours of {products} products were written.")
    finally:
        partitions.drop(checkpoint)
        checkpoint.delete()
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    return {
        "products": products,
        "width": width,
        "neighbours": pairs,
        "seconds": {what: round(statistics.median(found), 2) for what, found in seconds.items()},
        "times_the_bare_products": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def _embed(checkpoint: Any, *, products: int, width: int) -> None:
    """Clustered unit vectors, one for each product."""
    import numpy as np

    from shop.models import Product
    from visualsearch import storing
    from visualsearch.models import IndexEntry

    IndexEntry.objects.update(version=1)
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLUSTERS, width))
    ids = list(Product.objects.order_by("pk").values_list("pk", flat=True)[:products])
    for start in range(0, len(ids), 2048):
        part = ids[start : start + 2048]
        vectors = centres[random.integers(0, CLUSTERS, len(part))]
        vectors = vectors + 0.6 * random.normal(size=vectors.shape)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        changes = []
        for pk, vector in zip(part, vectors.astype(np.float32), strict=True):
            row = storing.Row(position=0, image="p.jpg", content_hash=bytes(16), vector=vector)
            changes.append(storing.Change(product_id=pk, version=1, rows=[row], positions=[0]))
        storing.write(checkpoint, changes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="neighbours", help="of the data's folders")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    run(**vars(parser.parse_args()))
