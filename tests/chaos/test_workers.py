"""Workers that die, hang, are told to stop, or hear everything three times in any order."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from shop.models import Product, ProductImage
from tests.chaos.catalogue import add_products, edit, photo_files, poison
from tests.chaos.conftest import come_to_rest
from tests.chaos.processes import kill_children, kill_tree, standing_still
from visualsearch.models import Embedding, IndexEntry
from visualsearch.testing import fake_checkpoint
from workers.celery import app

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

Amount = Callable[[int, int], int]
Figures = dict[str, Any]
LEASE_SECONDS = 4
BATCH = 8
STILL_SECONDS = 120
"""What takes longer than this does not come any more; how long it took is among the figures."""


def at_work() -> bool:
    return IndexEntry.objects.filter(lease__isnull=False).exists()


def leases() -> set[Any]:
    return set(IndexEntry.objects.filter(lease__isnull=False).values_list("lease", flat=True))


def leases_held() -> int:
    return len(leases())


def is_open(product_ids: list[int]) -> bool:
    return IndexEntry.objects.filter(pk__in=product_ids, status="pending").exists()


def test_r03_child_killed__the_poison_is_caught_and_nothing_beside_it(
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
) -> None:
    """Children are killed at random moments; some photos kill whoever encodes them."""
    fake_checkpoint()
    files = photo_files()
    products = add_products(amount(120, 400), files)
    deadly = add_products(amount(1, 5), files)
    killer = default_storage.save("chaos/poison.png", ContentFile(poison()))
    ProductImage.objects.filter(product__in=deadly).update(original=killer)
    worker = start_worker(
        "DeadlyEncoder", BATCH_SIZE=8, LEASE_SECONDS=3, env={"CHAOS_SECONDS": "0.05"}
    )

    wanted, kills, edits, known = amount(12, 200), 0, 0, leases()
    while kills < wanted:
        began = time.monotonic()
        # On a slow machine, too, most kills find the child at work, and not on its way there.
        while not leases() - known and time.monotonic() - began < STILL_SECONDS / 4:
            time.sleep(0.02)
        known = leases()
        time.sleep(chance.uniform(0, 1.2))
        kills += kill_children(worker)
        for product in chance.sample(products, 4):
            edit(product.pk, files, chance)
            edits += 1
    state = converge(within=STILL_SECONDS)

    figures |= {
        "fault": "R3",
        "products": len(products) + len(deadly),
        "kills": kills,
        "edits": edits,
        "poison": len(deadly),
        "caught": len(state.quarantined & {product.pk for product in deadly}),
        "falsely_quarantined": len(state.quarantined - {product.pk for product in deadly}),
    }
    assert state.is_whole, state
    assert state.quarantined == {product.pk for product in deadly}
    reasons = IndexEntry.objects.filter(status="failed").values_list("error_code", flat=True)
    assert set(reasons) == {"crashed"}


def test_r04_worker_killed__another_goes_on_when_the_lease_ends(
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
) -> None:
    """A whole worker dies with products in its hands; one on another host has them in time."""
    fake_checkpoint()
    files = photo_files()
    options = {"BATCH_SIZE": 8, "LEASE_SECONDS": LEASE_SECONDS, "env": {"CHAOS_SECONDS": "0.3"}}
    workers = [start_worker("SlowEncoder", **options)]
    rounds, longest = amount(2, 20), 0.0
    for _ in range(rounds):
        workers.append(start_worker("SlowEncoder", **options))
        product_ids: list[int] = []
        while len(workers) == 2:
            if not is_open(product_ids):  # enough that the other comes before one has done it all
                product_ids = [product.pk for product in add_products(144, files)]
            time.sleep(chance.uniform(0, 0.2))
            with standing_still(*workers):
                if leases_held() == 2:  # so that the victim, too, has products in its hands
                    kill_tree(workers.pop(chance.randrange(2)))
        longest = max(longest, come_to_rest(within=STILL_SECONDS))
    state = converge(within=60)

    figures |= {
        "fault": "R4",
        "kills": rounds,
        "products": Product.objects.count(),
        "seconds": round(longest, 2),
        "lease_seconds": LEASE_SECONDS,
        "falsely_quarantined": len(state.quarantined),
    }
    assert longest > LEASE_SECONDS / 2, "no kill came while the victim held anything"
    assert state.is_whole, state
    assert not state.quarantined
    assert Embedding.objects.count() == Product.objects.count()


def test_r05_messages_repeated_and_shuffled__the_table_is_the_same(
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
) -> None:
    """Every message three times, in any order, to two workers, while products change."""
    fake_checkpoint()
    files = photo_files()
    products = add_products(amount(80, 600), files)
    for _ in range(2):
        start_worker(BATCH_SIZE=8, LEASE_SECONDS=LEASE_SECONDS)
    tasks = ["visualsearch.index_pending"] * amount(10, 60) + ["visualsearch.sweep"] * 2
    messages = 3 * tasks
    chance.shuffle(messages)
    edits = 0
    for name in messages:
        app.send_task(name, queue="embed")
        for product in chance.sample(products, 3):
            edit(product.pk, files, chance)
            edits += 1
        time.sleep(chance.uniform(0, 0.05))
    state = converge(within=60)

    figures |= {
        "fault": "R5",
        "messages": len(messages),
        "edits": edits,
        "falsely_quarantined": len(state.quarantined),
    }
    assert state.is_whole, state
    assert not state.quarantined
    assert Embedding.objects.count() == len(products)


def test_r20_told_to_stop__the_worker_ends_soon_and_leaves_nothing_behind(
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
) -> None:
    """SIGTERM at random moments of a backlog: no lease is left, no attempt charged, nothing lost."""
    fake_checkpoint()
    files = photo_files()
    products = add_products(amount(400, 4000), files)
    stops, longest, most, others = amount(2, 30), 0.0, 0, []
    for _ in range(stops):
        worker = start_worker(
            "SlowEncoder", BATCH_SIZE=BATCH, LEASE_SECONDS=60, env={"CHAOS_SECONDS": "0.15"}
        )
        began = time.monotonic()
        while not at_work() and time.monotonic() < began + 5:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        worker.send_signal(signal.SIGTERM)
        stopped, done = time.monotonic(), IndexEntry.objects.filter(status="indexed").count()
        worker.wait(STILL_SECONDS)
        longest = max(longest, time.monotonic() - stopped)
        most = max(most, IndexEntry.objects.filter(status="indexed").count() - done)
        others.append(IndexEntry.objects.filter(lease__isnull=False).count())
        assert not IndexEntry.objects.filter(status="pending", attempts__gt=0).exists()
        if not is_open([product.pk for product in products]):
            for product in chance.sample(products, 100):
                edit(product.pk, files, chance)
    start_worker(BATCH_SIZE=64)
    state = converge(within=60)

    figures |= {
        "fault": "R20",
        "stops": stops,
        "longest_exit_seconds": round(longest, 2),
        "most_done_before_exit": most,
        "leases_left": sum(others),
        "falsely_quarantined": len(state.quarantined),
    }
    assert most <= 2 * BATCH, "a worker that was told to stop went on"
    assert not any(others), "a stopped worker kept products"
    assert state.is_whole, state
    assert not state.quarantined


def test_r27_worker_frozen__is_taken_over_and_writes_nothing_when_it_wakes(
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
) -> None:
    """SIGSTOP of the worker at work; its products change; SIGCONT when another has embedded them."""
    fake_checkpoint()
    files = photo_files()
    options = {
        "BATCH_SIZE": 16,
        "LEASE_SECONDS": LEASE_SECONDS,
        "env": {"CHAOS_SECONDS": "0.3"},
    }
    frozen = start_worker("SlowEncoder", **options)
    rounds, longest = amount(1, 10), 0.0
    for _ in range(rounds):
        add_products(32, files)
        while not at_work():
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.25))
        processes = [psutil.Process(frozen.pid), *psutil.Process(frozen.pid).children(True)]
        for process in processes:
            process.suspend()
        stopped = time.monotonic()
        other = start_worker("SlowEncoder", **options)
        held = IndexEntry.objects.filter(lease__isnull=False)
        for product_id in list(held.values_list("pk", flat=True))[:3]:
            edit(product_id, files, chance)
        come_to_rest(within=STILL_SECONDS)
        longest = max(longest, time.monotonic() - stopped)
        before = dict(Embedding.objects.values_list("product_id", "embedded_at"))
        for process in processes:
            process.resume()
        time.sleep(2)
        assert dict(Embedding.objects.values_list("product_id", "embedded_at")) == before
        kill_tree(frozen)
        frozen = other
    state = converge(within=60)

    figures |= {
        "fault": "R27",
        "frozen": rounds,
        "seconds": round(longest, 2),
        "lease_seconds": LEASE_SECONDS,
        "falsely_quarantined": len(state.quarantined),
    }
    assert state.is_whole, state
    assert not state.quarantined
