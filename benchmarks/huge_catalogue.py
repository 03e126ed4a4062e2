"""A backlog of very many products: Redis' keys, a worker's memory, and what a killed worker leaves to the next.

The products are drawn by one statement in SQL, and the triggers note each of them. One in a hundred
has a photo; the others have nothing to embed and are claimed, read and settled all the same, so
that what is measured is how work is handed out and not how fast photos are decoded. An embed worker
is killed with SIGKILL half-way, child and all; another goes on when the lease has ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from typing import Any

from benchmarks import record, stack
from benchmarks.catalogue_100k import LEASE_SECONDS, Worker, embed_worker, start_worker

PHOTO_EVERY = 100


def run(*, name: str, products: int, write: bool = True) -> dict[str, Any]:
    """Write results/huge_catalogue.json."""
    stack.remove(name)
    with stack.start(name) as services:
        environment = services.environment | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.load_settings",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "ENCODER": "visualsearch.testing.FakeEncoder",
        }
        services = dataclasses.replace(services, environment=environment)
        services.manage("migrate", "--verbosity", "0")
        os.environ.update(environment)
        import django

        django.setup()
        figures = measure(services, products=products)
    print(figures)
    if write:
        print(f"written to {record.write('huge_catalogue', figures)}")
    return figures


def measure(services: stack.Stack, *, products: int) -> dict[str, Any]:
    """Draw them, and have them indexed by a worker that is killed and by another."""
    import redis

    from visualsearch.models import Embedding, IndexEntry
    from visualsearch.testing import fake_checkpoint

    broker = redis.Redis.from_url(services.environment["REDIS_URL"])
    keys: list[int] = []
    fake_checkpoint()
    started = time.monotonic()
    draw(products)
    drawn = time.monotonic() - started
    entries = IndexEntry.objects.all()

    def wait(until: int) -> None:
        """For no more than so many entries to be open."""
        while entries.filter(status="pending").count() > until:
            keys.append(int(broker.dbsize()))  # type: ignore[arg-type]
            time.sleep(1.0)

    started = time.monotonic()
    first: Worker = start_worker(services)
    try:
        wait(products // 2)
    finally:
        first.kill()
    settled = dict(entries.filter(status="indexed").values_list("product_id", "indexed_at"))
    with embed_worker(services) as second:
        wait(0)
        memory = second.memory()
    seconds = time.monotonic() - started
    now = dict(entries.filter(status="indexed").values_list("product_id", "indexed_at"))
    return {
        "products": products,
        "seconds_to_draw": round(drawn, 1),
        "seconds_to_index": round(seconds, 1),
        "products_per_second": round(products / seconds, 1),
        "settled_when_the_worker_died": len(settled),
        "settled_again": sum(now.get(pk) != at for pk, at in settled.items()),
        "lost": products - len(now),
        "embedded": Embedding.objects.count(),
        "most_redis_keys": max(keys, default=0),
        "memory_of_the_last_worker": memory,
    }


def draw(products: int) -> None:
    """Rows of products by SQL alone; one in PHOTO_EVERY has one of a few photos."""
    from django.core.files.base import ContentFile
    from django.core.files.storage import default_storage
    from django.db import connection

    from benchmarks.small_catalogue import photo

    files = [
        default_storage.save(f"huge/{n}.jpg", ContentFile(photo(n, seed=3))) for n in range(16)
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO shop_product (sku, name, description, category, style_code, colour, "
            "pattern, material, attributes, price, stock, published, place, created_at) "
            "SELECT 'huge-' || n, 'thing ' || n, '', 'things', 'huge-' || n / 3, '', '', '', '{}', "
            "1, 1, true, n, now() FROM generate_series(1, %s) AS n",
            [products],
        )
        cursor.execute(
            "INSERT INTO shop_productimage (product_id, original, position) "
            "SELECT id, (%s::text[])[1 + id %% %s], 0 FROM shop_product WHERE id %% %s = 0",
            [files, len(files), PHOTO_EVERY],
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="huge", help="of the data's folders")
    parser.add_argument("--products", type=int, default=1_000_000)
    run(**vars(parser.parse_args()))
