"""Leases: kept while the work goes on, given up when it hangs, and enforced against who wakes late."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from shop.models import Product
from tests.catalogue import make_product, make_products, photo
from visualsearch.exceptions import LeaseLostError
from visualsearch.models import Embedding, IndexEntry
from visualsearch.testing import FakeEncoder, fake_checkpoint
from visualsearch.upkeep import claiming, indexing, leases, storing
from visualsearch.upkeep.claiming import Claim
from visualsearch.upkeep.leases import Lease

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS = 0.6


def claim(limit: int = 10) -> list[Claim]:
    return claiming.claim(limit=limit, lease_seconds=SECONDS)


def expire() -> None:
    IndexEntry.objects.update(leased_until=timezone.now() - timedelta(seconds=1))


def work(lease: Lease, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lease.step()
        time.sleep(0.02)


def test_lease__a_batch_that_takes_longer_than_its_lease_keeps_it() -> None:
    make_products(3)
    claims = claim()

    with Lease(claims, seconds=SECONDS) as lease:
        work(lease, 3 * SECONDS)
        assert claim() == [], "another worker could take what is being worked on"

    held = IndexEntry.objects.filter(lease=claims[0].lease, leased_until__gt=timezone.now())
    assert held.count() == 3


def test_lease__what_was_taken_over_ends_the_work() -> None:
    make_products(2)

    with Lease(claim(), seconds=SECONDS) as lease, pytest.raises(LeaseLostError, match="another"):
        expire()
        for _ in range(2):  # suspects are claimed alone
            assert claim()
        work(lease, 10)


def test_lease__one_product_of_many_that_was_deleted_or_taken_does_not_end_the_work() -> None:
    gone, taken, kept = make_products(3)
    claims = claim()

    with Lease(claims, seconds=SECONDS) as lease:
        Product.objects.filter(pk=gone.pk).delete()
        IndexEntry.objects.filter(product=taken).update(leased_until=timezone.now())
        claim()
        work(lease, 2 * SECONDS)

    assert IndexEntry.objects.get(product=kept).lease == claims[0].lease


def test_lease__an_editors_open_transaction_does_not_cost_it(in_transaction: Any) -> None:
    product = make_product(photo())
    claims = claim()

    with (
        in_transaction(lambda: Product.objects.filter(pk=product.pk).update(name="Edited")),
        Lease(claims, seconds=SECONDS) as lease,
    ):
        work(lease, 2 * SECONDS)

    assert IndexEntry.objects.get(product=product).lease == claims[0].lease


def test_lease__work_that_hangs_lets_another_worker_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "HUNG_AFTER", 1)
    make_product(photo())

    with Lease(claim(), seconds=SECONDS):
        time.sleep(4 * SECONDS)

        assert len(claim()) == 1


def test_lease__outlives_a_database_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    make_product(photo())

    with Lease(claim(), seconds=SECONDS) as lease:
        with connection.cursor() as cursor:
            for _ in range(3):
                work(lease, SECONDS / 2)
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        work(lease, SECONDS)
        assert claim() == []

    assert "could not be renewed" in caplog.text


class TwiceFrozenEncoder(FakeEncoder):
    """Waits until somebody else has done the same work."""

    began, go_on = threading.Event(), threading.Event()

    def encode_image(self, pixels: Any) -> Any:
        if not self.began.is_set():
            self.began.set()
            self.go_on.wait(20)
        return -super().encode_image(pixels)  # unlike what anybody else writes


def test_index_pending__a_worker_that_wakes_after_a_takeover_writes_nothing(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = fake_checkpoint()
    product = make_product(photo("red"))
    monkeypatch.setattr(leases, "HUNG_AFTER", 0)  # as one that is frozen, it renews nothing
    TwiceFrozenEncoder.began.clear()
    TwiceFrozenEncoder.go_on.clear()
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER": "tests.test_leases.TwiceFrozenEncoder",
        "LEASE_SECONDS": 1,
    }

    def run() -> None:
        try:
            indexing.index_pending()
        finally:
            connection.close()

    frozen = threading.Thread(target=run)
    frozen.start()
    assert TwiceFrozenEncoder.began.wait(20)
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": "visualsearch.testing.FakeEncoder"}
    deadline = time.monotonic() + 20
    while not indexing.index_pending().indexed:
        assert time.monotonic() < deadline, "nobody could take it over"
        time.sleep(0.1)
    written = list(Embedding.objects.get(product=product).vector)
    TwiceFrozenEncoder.go_on.set()
    frozen.join()

    assert list(Embedding.objects.get(product=product).vector) == written
    entry = IndexEntry.objects.get(product=product)
    assert (entry.status, entry.lease) == ("indexed", None)
    assert storing.stored([checkpoint], [product.pk])
