"""Redis and PostgreSQL that die, freeze, forget and come back, under saves, pages and indexing."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import Error
from django.test import Client

from shop import embedded
from shop.models import Product, ProductImage
from tests.catalogue import make_product, photo
from tests.chaos.catalogue import add_products, edit, photo_files
from tests.chaos.postgres_server import crash_postgres, end_backends, patiently
from tests.chaos.redis_server import RedisServer
from visualsearch.models import Embedding
from visualsearch.testing import fake_checkpoint
from workers.celery import app

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

Amount = Callable[[int, int], int]
Figures = dict[str, Any]
PAGES = ("/", "/search/?q=red")


def save_and_visit(count: int) -> tuple[list[float], int]:
    """Save products and ask for pages: seconds of each save, and how many requests failed."""
    client, seconds, errors = Client(raise_request_exception=False), [], 0
    for number in range(count):
        began = time.perf_counter()
        make_product(photo("red", seed=number))
        seconds.append(time.perf_counter() - began)
        errors += sum(client.get(page).status_code >= 500 for page in PAGES)
    return seconds, errors


FAULTS: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "killed": (RedisServer.kill, RedisServer.start),
    "frozen": (RedisServer.freeze, RedisServer.thaw),
    "flushed": (RedisServer.flush, lambda server: None),
    "evicting": (RedisServer.starve, RedisServer.feed),
}


def test_r07_redis_killed__saves_go_on(
    redis_server: RedisServer,
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
) -> None:
    """Killed, frozen, flushed, out of memory: saves and pages do not notice, the index catches up."""
    app.close()
    app.conf.broker_url = redis_server.url  # `broker`, which the worker asks for, restores it
    fake_checkpoint()
    start_worker(env={"VISUALSEARCH_TEST_BROKER": redis_server.url})
    count = amount(12, 60)
    save_and_visit(3)
    healthy, _ = save_and_visit(count)
    converge(within=60)
    usual, worst, slowest, errors = statistics.median(healthy), 0.0, 0.0, 0
    kinds = chance.sample(list(FAULTS), len(FAULTS)) * amount(1, 3)

    for kind in kinds:
        harm, heal = FAULTS[kind]
        harm(redis_server)
        seconds, failed = save_and_visit(count)
        worst = max(worst, statistics.median(seconds))
        slowest = max(slowest, *seconds)
        errors += failed
        time.sleep(chance.uniform(0, 3))
        heal(redis_server)
        state = converge(within=60)
        assert state.is_whole, (kind, state)

    figures |= {
        "fault": "R7",
        "faults": len(kinds),
        "saves": len(kinds) * count,
        "request_errors": errors,
        "save_ms": round(1000 * usual, 2),
        "save_ms_without_redis": round(1000 * worst, 2),
        "slowest_save_ms": round(1000 * slowest, 1),
        "falsely_quarantined": len(state.quarantined),
    }
    assert errors == 0
    # By itself Celery waits for a frozen Redis for more than a minute.
    assert slowest < 5, "a save waited for Redis"
    assert Embedding.objects.count() == Product.objects.count()


@pytest.mark.usefixtures("commits_survive_a_crash")
def test_r08_postgres_restarted__edits_that_were_answered_are_indexed(
    services: embedded.Addresses,
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
) -> None:
    """The server crashes and recovers, or ends every connection, while products are edited."""
    fake_checkpoint()
    files = photo_files()
    products = add_products(amount(300, 3000), files)
    start_worker("SlowEncoder", BATCH_SIZE=16, LEASE_SECONDS=3, env={"CHAOS_SECONDS": "0.1"})
    restarts, edits = amount(4, 20), 0
    photos_of: dict[int, str] = {}

    for _ in range(restarts):
        until = time.monotonic() + chance.uniform(0.3, 2)
        while time.monotonic() < until:
            product = chance.choice(products)
            name = chance.choice(files)
            with contextlib.suppress(Error):
                ProductImage.objects.filter(product=product).update(original=name)
                photos_of[product.pk] = name
                edits += 1
            edit_or_not(product.pk, files, chance, photos_of)
        if chance.random() < 0.6:
            crash_postgres(is_ours=bool(services.folder))
        else:
            end_backends()
        patiently(Product.objects.count)
    state = converge(within=60)

    figures |= {
        "fault": "R8",
        "restarts": restarts,
        "products": len(products),
        "edits": edits,
        "falsely_quarantined": len(state.quarantined),
    }
    assert state.is_whole, state
    assert not state.quarantined
    found = dict(ProductImage.objects.values_list("product_id", "original"))
    assert {pk: found[pk] for pk in photos_of} == photos_of, "a commit that was answered is gone"


def edit_or_not(
    product_id: int, files: list[str], chance: random.Random, photos_of: dict[int, str]
) -> None:
    """An edit that nobody was told of: it may have been made or not."""
    if chance.random() < 0.2:
        with contextlib.suppress(Error):
            edit(product_id, files, chance)
            photos_of.pop(product_id, None)
