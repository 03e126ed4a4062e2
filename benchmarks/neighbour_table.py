"""Seconds to compute and write the neighbours of N products, against the bare matrix products.

The bare products are those that the same computation cannot do without: the same blocks of products
against the same parts of the gallery, float32, into the same memory each time, with nothing chosen,
fetched or written. Both take turns in one process. Beside the seconds on the clock there are those of
the processor, of this process and of Postgres's that writes for it, which hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import cpu, record, small_catalogue, stack

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
    from visualsearch.conf import get_settings
    from visualsearch.models import Checkpoint, SimilarProduct
    from visualsearch.tables import partitions
    from visualsearch.upkeep import gallery as galleries
    from visualsearch.upkeep import neighbours

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
        cpu_seconds: dict[str, list[float]] = {what: [] for what in seconds}
        clock = cpu.of_backend()

        def time_it(what: str, work: Callable[[], Any]) -> None:
            started, used = time.perf_counter(), clock()
            work()
            seconds[what].append(time.perf_counter() - started)
            cpu_seconds[what].append((clock() - used) / 1000)

        for _ in range(rounds):
            time_it("neighbour table", lambda: neighbours.compute(checkpoint))
            products_alone = _bare(galleries.load(checkpoint))
            time_it("bare matrix products", products_alone)
        pairs = SimilarProduct.objects.filter(checkpoint=checkpoint).count()
        if pairs != products * min(get_settings().NEIGHBOURS, products - 1):
            raise SystemExit(f"{pairs} neighbours of {products} products were written.")
    finally:
        partitions.drop(checkpoint)
        checkpoint.delete()
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    cpu_ratios = [a / b for a, b in zip(*cpu_seconds.values(), strict=True)]
    return {
        "products": products,
        "width": width,
        "neighbours": pairs,
        "seconds": {what: round(statistics.median(found), 2) for what, found in seconds.items()},
        "cpu_seconds": {
            what: round(statistics.median(found), 2) for what, found in cpu_seconds.items()
        },
        "times_the_bare_products": round(statistics.median(ratios), 2),
        "times_the_bare_products_in_cpu": round(statistics.median(cpu_ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def _bare(gallery: Any) -> Callable[[], None]:
    """The matrix products alone, of vectors that are there already."""
    import numpy as np

    from visualsearch.upkeep import ranking

    parts = [gallery.vectors[part].astype(np.float32) for part in ranking.parts(gallery)]
    blocks = [gallery.vectors[block].astype(np.float32) for block in ranking.blocks(gallery)]
    scores = np.empty(max(map(len, blocks)) * max(map(len, parts)), dtype=np.float32)

    def multiply() -> None:
        for block in blocks:
            for part in parts:
                shape = (len(block), len(part))
                np.matmul(block, part.T, out=scores[: shape[0] * shape[1]].reshape(shape))

    return multiply


def _embed(checkpoint: Any, *, products: int, width: int) -> None:
    """Clustered unit vectors, one for each product."""
    import numpy as np

    from shop.models import Product
    from visualsearch.models import IndexEntry
    from visualsearch.upkeep import storing

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
