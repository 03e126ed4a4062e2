"""Claims: nobody's work is done twice, lost, or blamed on an innocent product."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from shop.models import Product
from tests.catalogue import make_product
from visualsearch.models import IndexEntry
from visualsearch.upkeep import claiming
from visualsearch.upkeep.claiming import Claim, Ending, Outcome


def claim(limit: int = 10) -> list[Claim]:
    return claiming.claim(limit=limit, lease_seconds=60)


def crash(claims: list[Claim]) -> None:
    """What the database looks like when the worker is gone and its lease has ended."""
    IndexEntry.objects.filter(product_id__in=[c.product_id for c in claims]).update(
        leased_until=timezone.now() - timedelta(minutes=1)
    )


def settle(claimed: Claim, **fields: Any) -> list[Outcome]:
    return claiming.settle(
        claimed.lease,
        [Outcome(product_id=claimed.product_id, version=claimed.version, **fields)],
    )


def entry(product: Product) -> IndexEntry:
    return IndexEntry.objects.get(product=product)


@pytest.mark.django_db
def test_claim__takes_at_most_the_limit_the_longest_waiting_first() -> None:
    products = [make_product() for _ in range(5)]
    for age, product in enumerate(products):
        IndexEntry.objects.filter(product=product).update(
            available_at=timezone.now() - timedelta(minutes=age + 1)
        )

    claimed = {c.product_id for c in claim(limit=2)}

    assert claimed == {products[4].pk, products[3].pk}


@pytest.mark.django_db(transaction=True)
def test_claim__is_planned_without_a_sort_and_leaves_the_setting_as_it_was() -> None:
    # Which plan a backlog that was not analysed yet gets depends on what was vacuumed before it.
    def may_sort() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SHOW enable_sort")
            return bool(cursor.fetchone()[0] == "on")

    make_product()
    seen: list[bool] = []

    def listen(execute: Any, sql: str, *rest: Any) -> Any:
        if "FOR UPDATE SKIP LOCKED" in sql:
            seen.append(may_sort())
        return execute(sql, *rest)

    with connection.execute_wrapper(listen):
        assert len(claim()) == 1

    assert seen == [False]
    assert may_sort()


@pytest.mark.django_db
def test_claim__an_edit_made_just_now_does_not_wait_for_a_backlog() -> None:
    products = [make_product() for _ in range(30)]
    for age, product in enumerate(products):
        IndexEntry.objects.filter(product=product).update(
            available_at=timezone.now() - timedelta(minutes=age + 1)
        )

    claimed = [c.product_id for c in claim(limit=8)]

    assert set(claimed) == {p.pk for p in [*products[:2], *products[-6:]]}
    assert len(claim(limit=100)) == 22, "the ends may meet"


@pytest.mark.django_db
def test_claim__what_was_alone_in_a_crash_waits_until_others_had_their_turn() -> None:
    suspects = [make_product() for _ in range(3)]
    crash(claim())
    order = []
    for _ in range(6):
        (claimed,) = claim()
        order.append(claimed.product_id)
        crash([claimed])

    assert set(order[:3]) == set(order[3:]) == {product.pk for product in suspects}


@pytest.mark.django_db
def test_claim__what_is_claimed_is_not_claimed_again_until_the_lease_ends() -> None:
    product = make_product()
    (first,) = claim()
    assert claim() == []

    crash([first])

    (second,) = claim()
    assert second.product_id == product.pk
    assert second.lease != first.lease
    assert (first.attempts, second.attempts) == (1, 2)


@pytest.mark.django_db
def test_claim__leaves_alone_what_is_indexed_failed_or_not_yet_due() -> None:
    for fields in (
        {"status": "indexed"},
        {"status": "failed"},
        {"available_at": timezone.now() + timedelta(minutes=1)},
    ):
        IndexEntry.objects.filter(product=make_product()).update(**fields)

    assert claim() == []


@pytest.mark.django_db
def test_claim__whatever_was_in_a_crashed_batch_comes_alone() -> None:
    for _ in range(3):
        make_product()
    crash(claim())
    healthy = [make_product() for _ in range(4)]

    claims = [claim() for _ in range(4)]

    sizes = sorted(len(each) for each in claims)
    assert sizes == [1, 1, 1, 4]
    assert {c.product_id for c in max(claims, key=len)} == {p.pk for p in healthy}
    assert all(c.is_alone for each in claims if len(each) == 1 for c in each)


@pytest.mark.django_db
def test_settle__done_closes_the_entry() -> None:
    product = make_product()
    (claimed,) = claim()

    assert settle(claimed) == []

    found = entry(product)
    assert (found.status, found.attempts, found.lease, found.leased_until) == (
        "indexed",
        0,
        None,
        None,
    )
    assert found.indexed_at is not None


@pytest.mark.django_db
@pytest.mark.parametrize("ending", list(Ending))
def test_settle__a_version_that_moved_on_stays_open_and_can_be_claimed_a_moment_later(
    ending: Ending,
) -> None:
    product = make_product()
    (claimed,) = claim()
    Product.objects.filter(pk=product.pk).update(name="Changed meanwhile")

    settle(claimed, ending=ending, code="image_format", message="old")

    found = entry(product)
    assert (found.status, found.error, found.attempts) == ("pending", "", 0)
    rest = (found.available_at - timezone.now()).total_seconds()
    assert 0 < rest <= claiming.STORM_SECONDS
    assert claim() == [], "each edit of a storm would be embedded"
    Product.objects.filter(pk=product.pk).update(name="Changed once more")
    assert entry(product).available_at == found.available_at, "an edit takes its rest away"
    IndexEntry.objects.update(available_at=timezone.now())
    (again,) = claim()
    assert again.version == claimed.version + 2


@pytest.mark.django_db
def test_settle__failed_keeps_the_reason_and_is_not_tried_again() -> None:
    product = make_product()
    (claimed,) = claim()

    settle(claimed, ending=Ending.FAILED, code="image_format", message="a.jpg: a TIFF")

    found = entry(product)
    assert (found.status, found.error_code, found.error) == (
        "failed",
        "image_format",
        "a.jpg: a TIFF",
    )
    assert claim() == []


@pytest.mark.django_db
def test_settle__deferred_comes_back_later_and_uncharged() -> None:
    product = make_product()
    (claimed,) = claim()

    settle(claimed, ending=Ending.DEFERRED, code="storage", message="no answer")

    found = entry(product)
    assert (found.status, found.attempts, found.error) == ("pending", 0, "no answer")
    assert found.available_at > timezone.now()
    assert claim() == []


@pytest.mark.django_db
def test_settle__deferred_waits_longer_the_longer_it_has_failed() -> None:
    product = make_product()

    def wait_after(age: timedelta) -> float:
        now = timezone.now()
        IndexEntry.objects.update(changed_at=now - age, available_at=now - age)
        (claimed,) = claim()
        settle(claimed, ending=Ending.DEFERRED, code="storage", message="no answer")
        return (entry(product).available_at - now).total_seconds()

    waits = [wait_after(timedelta(seconds=s)) for s in (0, 30, 10_000)]

    assert 0 < waits[0] < 4 < 20 < waits[1] < 40 < 440 < waits[2] < 760


@pytest.mark.django_db
def test_settle__somebody_elses_claim_is_not_touched() -> None:
    product = make_product()
    (lost,) = claim()
    crash([lost])
    (current,) = claim()

    settle(lost)

    assert entry(product).status == "pending"
    assert entry(product).lease == current.lease


@pytest.mark.django_db
def test_settle__a_product_deleted_meanwhile_is_no_fault() -> None:
    make_product()
    (claimed,) = claim()
    Product.objects.all().delete()

    assert settle(claimed) == []


@pytest.mark.django_db
def test_note__leaves_entries_that_are_claimed_or_have_moved_on() -> None:
    moved, claimed, free = make_product(), make_product(), make_product()
    outcomes = [Outcome(product_id=p.pk, version=entry(p).version) for p in (moved, claimed, free)]
    Product.objects.filter(pk=moved.pk).update(name="Other")
    IndexEntry.objects.filter(product=claimed).update(lease=uuid.uuid4())

    claiming.note(outcomes, statuses=["pending"])

    assert [entry(p).status for p in (moved, claimed, free)] == ["pending", "pending", "indexed"]


@pytest.mark.django_db(transaction=True)
def test_claim__two_workers_never_get_the_same_product() -> None:
    products = Product.objects.bulk_create(
        Product(sku=f"s{i}", name=f"P{i}", price=1) for i in range(200)
    )
    claimed: list[Any] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        while claims := claim(limit=7):
            claimed.extend(c.product_id for c in claims)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == 200
    assert set(claimed) == {product.pk for product in products}


@pytest.mark.django_db(transaction=True)
def test_claim_and_settle__never_wait_for_an_editors_open_transaction() -> None:
    held, free = make_product(), make_product()
    claims = {c.product_id: c for c in claim()}
    edited, go_on = threading.Event(), threading.Event()

    def edit() -> None:
        with transaction.atomic():
            Product.objects.filter(pk=held.pk).update(name="Being edited")
            edited.set()
            go_on.wait(10)
        connection.close()

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        assert edited.wait(10)
        lease = claims[held.pk].lease
        outcomes = [Outcome(product_id=pk, version=each.version) for pk, each in claims.items()]
        left = claiming.settle(lease, outcomes)
        assert [outcome.product_id for outcome in left] == [held.pk]
        assert entry(free).status == "indexed"
        assert claim() == []
    finally:
        go_on.set()
        editor.join()

    assert claiming.settle(lease, left) == []
    assert (entry(held).status, entry(held).lease) == ("pending", None)
