"""Changes that die half way, roll back, come by the thousand, or take away what is being embedded."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction

from shop.models import Product, ProductImage
from tests.chaos.catalogue import add_products, edit, photo_files
from visualsearch.models import Embedding, IndexEntry, SimilarProduct
from visualsearch.search import searching
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import doorbell

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

Amount = Callable[[int, int], int]
Figures = dict[str, Any]


def execute(sql: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def in_a_process_that_dies(write: Callable[[], object], *, after: float) -> None:
    """kill -9 of a process `after` seconds; it writes to the catalogue and never rings."""
    connections.close_all()  # a connection must not be in two processes
    pid = os.fork()
    if pid == 0:
        try:
            doorbell._send = lambda bell: time.sleep(60)
            write()
            time.sleep(60)
        finally:
            os._exit(0)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def writes(files: list[str], seed: str) -> Callable[[], None]:
    """Every way to write, one after the other, as long as it is let."""

    def write() -> None:
        chance, numbers = random.Random(seed), itertools.count()
        while True:
            products = list(Product.objects.values_list("pk", flat=True))
            name, some = chance.choice(files), chance.sample(products, min(3, len(products)))
            match chance.randrange(7):
                case 0:
                    Product.objects.create(sku=f"{seed}-{next(numbers)}", name="New", price=1)
                case 1:
                    with transaction.atomic():
                        made = Product.objects.bulk_create(
                            Product(sku=f"{seed}-{next(numbers)}", name="Bulk", price=1)
                            for _ in range(3)
                        )
                        ProductImage.objects.bulk_create(
                            ProductImage(product=each, original=name) for each in made
                        )
                case 2:
                    execute(
                        "UPDATE shop_productimage SET original = %s WHERE product_id = ANY(%s)",
                        name,
                        some,
                    )
                case 3:
                    images = list(ProductImage.objects.filter(product_id__in=some))
                    for image in images:
                        image.original = name
                    ProductImage.objects.bulk_update(images, ["original"])
                case 4:
                    with transaction.atomic():
                        ProductImage.objects.filter(product_id__in=some).delete()
                        ProductImage.objects.bulk_create(
                            ProductImage(product_id=pk, original=name) for pk in some
                        )
                case 5:
                    execute(
                        "INSERT INTO shop_productimage (product_id, original, position) "
                        "SELECT id, %s, 1 FROM shop_product WHERE id = ANY(%s)",
                        name,
                        some,
                    )
                case _ if len(products) > 20:
                    execute(
                        "WITH gone AS (DELETE FROM shop_productimage WHERE product_id = %s) "
                        "SELECT 1",
                        some[0],
                    )
                    execute("DELETE FROM shop_product WHERE id = %s", some[0])

    return write


def test_r01_writer_killed__what_was_committed_is_indexed(
    start_worker: Any, converge: Any, chance: random.Random, amount: Amount, figures: Figures
) -> None:
    """Processes that write in every way die at random points; no doorbell ever rings."""
    fake_checkpoint()
    files = photo_files()
    add_products(30, files)
    start_worker()
    kills = amount(15, 100)
    for number in range(kills):
        write = writes(files, f"{chance.random()}-{number}")
        in_a_process_that_dies(write, after=chance.uniform(0.005, 0.3))
    versions = sum(IndexEntry.objects.values_list("version", flat=True))
    state = converge(within=60)

    figures |= {
        "fault": "R1",
        "kills": kills,
        "products": Product.objects.count(),
        "edits": versions,
        "falsely_quarantined": len(state.quarantined),
    }
    assert versions > 30, "no process lived long enough to write"
    assert state.is_whole, state
    assert not state.quarantined


def test_r02_transaction_rolled_back__leaves_no_entry_and_no_embedding(
    start_worker: Any, converge: Any, chance: random.Random, amount: Amount, figures: Figures
) -> None:
    """Errors, savepoints and deaths with the transaction open, while a worker polls."""
    fake_checkpoint()
    files = photo_files()
    products = add_products(20, files)
    start_worker()
    converge(within=60)
    before = dict(IndexEntry.objects.values_list("pk", "version"))
    embedded = dict(Embedding.objects.values_list("product_id", "embedded_at"))
    rounds = amount(10, 100)

    def write() -> None:
        add_products(3, files)
        edit(chance.choice(products).pk, files, chance)
        Product.objects.filter(pk=products[0].pk).update(name="Never")
        execute("UPDATE shop_product SET price = price + 1")

    def die_in_it() -> None:
        with transaction.atomic():
            write()
            time.sleep(60)

    for _ in range(rounds):
        match chance.randrange(3):
            case 0:
                with pytest.raises(ZeroDivisionError), transaction.atomic():
                    write()
                    raise ZeroDivisionError
            case 1:
                with transaction.atomic(), pytest.raises(ZeroDivisionError), transaction.atomic():
                    write()
                    raise ZeroDivisionError
            case _:
                in_a_process_that_dies(die_in_it, after=chance.uniform(0.05, 0.3))
    time.sleep(2.5)  # a poll at least
    state = converge(within=60)

    figures |= {
        "fault": "R2",
        "rollbacks": rounds,
        "entries": len(set(IndexEntry.objects.values_list("pk", flat=True)) - set(before)),
        "falsely_quarantined": len(state.quarantined),
    }
    assert dict(IndexEntry.objects.values_list("pk", "version")) == before
    assert dict(Embedding.objects.values_list("product_id", "embedded_at")) == embedded
    assert state.is_whole, state


def test_r06_storm_of_edits__is_about_one_embedding_a_poll(
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
    tmp_path: Path,
) -> None:
    """One product's photo changes hundreds of times, then only its price does."""
    counted = tmp_path / "encoded"
    counted.touch()
    fake_checkpoint()
    files = photo_files()
    (product,) = add_products(1, files)
    start_worker("CountingEncoder", env={"CHAOS_COUNT": str(counted)})
    converge(within=60)

    def encoded() -> int:
        return len(counted.read_text().splitlines())

    before, began = encoded(), time.monotonic()
    edits = amount(250, 1000)
    for number in range(edits):
        ProductImage.objects.filter(product=product).update(original=files[number % len(files)])
        time.sleep(0.01)
    lasted = time.monotonic() - began
    state = converge(within=60)
    storm = encoded() - before
    for price in range(amount(50, 1000)):
        Product.objects.filter(pk=product.pk).update(price=price)
    state = converge(within=60)

    figures |= {
        "fault": "R6",
        "edits": edits,
        "storm_seconds": round(lasted, 1),
        "embeddings": storm,
        "embeddings_of_price_edits": encoded() - before - storm,
        "falsely_quarantined": len(state.quarantined),
    }
    assert state.is_whole, state
    assert 1 <= storm <= lasted / 2 + 3, "edits of one product were not made into one"
    assert encoded() - before == storm, "a price edit was embedded"


def test_r23_deleted_or_hidden_while_embedded__is_never_found(
    start_worker: Any, converge: Any, chance: random.Random, amount: Amount, figures: Figures
) -> None:
    """Products vanish, in SQL or by a switch, while the network is at work on them."""
    fake_checkpoint()
    files = photo_files()
    start_worker("SlowEncoder", BATCH_SIZE=16, env={"CHAOS_SECONDS": "0.3"})
    deleted, hidden, kept = set[int](), set[int](), set[int]()
    for _ in range(amount(2, 30)):
        product_ids = [product.pk for product in add_products(30, files)]
        while not IndexEntry.objects.filter(lease__isnull=False).exists():
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        chance.shuffle(product_ids)
        gone, off = product_ids[:8], product_ids[8:16]
        execute(
            "WITH images AS (DELETE FROM shop_productimage WHERE product_id = ANY(%s)) SELECT 1",
            gone,
        )
        execute("DELETE FROM shop_product WHERE id = ANY(%s)", gone)
        Product.objects.filter(pk__in=off).update(published=False)
        deleted |= set(gone)
        hidden |= set(off)
        kept |= set(product_ids[16:])
    state = converge(within=60)
    found = {hit.product.pk for hit in searching.search("red", limit=100)}

    figures |= {
        "fault": "R23",
        "deleted": len(deleted),
        "hidden": len(hidden),
        "found": len(found & (deleted | hidden)),
        "falsely_quarantined": len(state.quarantined),
    }
    assert state.is_whole, state
    assert found and not found & (deleted | hidden)
    assert not Embedding.objects.filter(product_id__in=deleted).exists()
    assert not SimilarProduct.objects.filter(target_id__in=deleted).exists()
    assert not IndexEntry.objects.filter(pk__in=deleted).exists()
    assert set(Embedding.objects.values_list("product_id", flat=True)) == kept | hidden
