"""Seconds until a change of the catalogue shows in search, with the shop and a worker running.

Each change puts a photo that is in the catalogue on another product, in one of the ways a shop
writes to its tables; the shop is then asked over HTTP for that photo until the product is among
the hits (or, for what takes products away, no longer is).
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import record, stack
from benchmarks.http_latency import Client, photo_request

GIVE_UP_SECONDS = 60.0


class Changes:
    """The ways to change the catalogue; each returns a product and whether it must show."""

    def __init__(self, photos: Iterator[Any], victims: Iterator[Any]) -> None:
        self.photos = photos
        self.victims = victims

    def kinds(self) -> dict[str, Callable[[Any, Any], bool]]:
        return {
            "save": self.save,
            "bulk_update": self.bulk_update,
            "update()": self.update,
            "raw SQL": self.raw_sql,
            "new photo": self.new_photo,
            "new product": self.new_product,
            "hide": self.hide,
            "delete": self.delete,
            "raw SQL delete": self.raw_delete,
        }

    def save(self, product: Any, photo: Any) -> bool:
        image = product.images.all()[0]
        image.original = photo.original.name
        image.save()
        return True

    def bulk_update(self, product: Any, photo: Any) -> bool:
        image = product.images.all()[0]
        image.original = photo.original.name
        type(image).objects.bulk_update([image], ["original"])
        return True

    def update(self, product: Any, photo: Any) -> bool:
        product.images.update(original=photo.original.name)
        return True

    def raw_sql(self, product: Any, photo: Any) -> bool:
        execute(
            "UPDATE shop_productimage SET original = %s WHERE product_id = %s",
            [photo.original.name, product.pk],
        )
        return True

    def new_photo(self, product: Any, photo: Any) -> bool:
        product.images.create(original=photo.original.name, position=9)
        return True

    def new_product(self, product: Any, photo: Any) -> bool:
        product.pk = None
        product.sku = f"new-{photo.pk}"
        product._state.adding = True
        product.save(force_insert=True)
        product.images.create(original=photo.original.name)
        return True

    def hide(self, product: Any, photo: Any) -> bool:
        type(product).objects.filter(pk=photo.product_id).update(published=False)
        product.pk = photo.product_id
        return False

    def delete(self, product: Any, photo: Any) -> bool:
        product.pk = photo.product_id
        photo.product.delete()
        return False

    def raw_delete(self, product: Any, photo: Any) -> bool:
        execute("DELETE FROM shop_productimage WHERE product_id = %s", [photo.product_id])
        execute("DELETE FROM shop_product WHERE id = %s", [photo.product_id])
        product.pk = photo.product_id
        return False


def execute(sql: str, parameters: list[Any]) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def seconds_until(shows: bool, client: Client, photo: bytes, key: int) -> float:
    """Seconds until the product with `key` is, or is not, among the hits for `photo`."""
    began = time.monotonic()
    while True:
        _, answer = client.time(photo_request(photo))
        if (key in [hit["id"] for hit in answer["hits"]]) is shows:
            return time.monotonic() - began
        if time.monotonic() - began > GIVE_UP_SECONDS:
            raise SystemExit(f"Product {key} did not change in search in {GIVE_UP_SECONDS:g} s.")
        time.sleep(0.1)


def price_edits(products: list[Any]) -> dict[str, int]:
    """How many embeddings a price edit of many products writes, once the worker has seen it."""
    from visualsearch.models import Embedding, IndexEntry

    def newest() -> Any:
        return Embedding.objects.order_by("-embedded_at").values_list("embedded_at").first()

    before = newest()
    changed = type(products[0]).objects.filter(pk__in=[p.pk for p in products])
    count = changed.update(price="9.99")
    while IndexEntry.objects.filter(status="pending").exists():
        time.sleep(0.2)
    after = newest()
    embedded = 0 if before == after else Embedding.objects.filter(embedded_at__gt=before[0]).count()
    return {"products": count, "embedded": embedded}


def run(*, name: str, times: int) -> None:
    """Measure on what `benchmarks.pipeline` indexed under `name`; results/live_changes_NAME.json.

    The catalogue is changed by it: measure what else you want to measure first.
    """
    worker = [sys.executable, "-m", "celery", "-A", "workers.celery", "worker", "-B", "-c", "1"]
    worker += ["-Q", "embed,interactive", "--loglevel", "WARNING", "--without-mingle"]
    with stack.start(name) as services:
        os.environ.update(services.environment)
        import django

        django.setup()
        from shop.models import Product, ProductImage
        from visualsearch.models import IndexEntry

        schedule = ["--schedule", str(services.data / "beat")]
        with (
            services.web(settings="benchmarks.floor_settings") as url,
            services.process([*worker, *schedule]),
        ):
            while IndexEntry.objects.filter(status="pending").exists():
                time.sleep(0.2)
            first = ProductImage.objects.filter(position=0).select_related("product")
            photos = iter(list(first.order_by("?")[: times * 20]))
            victims = Product.objects.order_by("?").prefetch_related("images")[: times * 20]
            changes = Changes(photos, itertools.cycle(victims))
            client, found = Client(url), {}
            for kind, change in changes.kinds().items():
                seconds = []
                for _ in range(times):
                    photo, product = next(changes.photos), next(changes.victims)
                    data = Path(photo.original.path).read_bytes()
                    shows = change(product, photo)
                    seconds.append(seconds_until(shows, client, data, product.pk))
                found[kind] = {
                    "median_s": round(statistics.median(seconds), 2),
                    "max_s": round(max(seconds), 2),
                }
                print(f"{kind:15s} median {found[kind]['median_s']:5.2f} s   "
                      f"max {found[kind]['max_s']:5.2f} s", flush=True)  # fmt: skip
            prices = price_edits(list(Product.objects.all()[:200]))
            print(f"price edit of {prices['products']} products: {prices['embedded']} embedded")
    figures = {"times_each": times, "seconds_until_visible": found, "price_edit": prices}
    print(f"written to {record.write(f'live_changes_{name}', figures)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="drawn")
    parser.add_argument("--times", type=int, default=5, help="changes of each kind")
    run(**vars(parser.parse_args()))
