"""Workers write little at a time and rest in between while shoppers are there, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection

from tests.catalogue import make_products
from visualsearch.models import Embedding, SimilarProduct
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import embedding, indexing, neighbours, pacing
from visualsearch.upkeep.pacing import Pace

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LOOK_SECONDS", 0.0)


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    """A connection to this database that is not ours."""
    parameters = connection.get_connection_params()
    names = ("dbname", "host", "port", "user", "password")
    with psycopg.connect(**{n: parameters[n] for n in names if n in parameters}) as made:
        made.autocommit = True
        yield made


class Clock:
    """Time that passes when it is told to, and when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pacing, "time", made)
    return made


def test_others__a_shopper_counts_until_he_has_been_away_for_a_while(
    other: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    other.execute("SELECT 1")
    assert pacing.others_are_at_work()

    monkeypatch.setattr(pacing, "RECENT_SECONDS", 0.0)
    assert not pacing.others_are_at_work(), "it is open and does nothing"


@pytest.mark.django_db(transaction=True)
def test_others__workers_do_not_take_each_other_for_shoppers(
    other: psycopg.Connection[Any],
) -> None:
    other.execute("SELECT set_config('application_name', %s, false)", [pacing.APPLICATION_NAME])
    assert not pacing.others_are_at_work()

    pacing.introduce()
    other.execute("SET application_name = 'a shop'")
    found = other.execute(
        "SELECT application_name FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    assert (pacing.APPLICATION_NAME,) in found.fetchall()


def test_parts__alone_it_is_one_part_without_a_pause(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "others_are_at_work", lambda: False)

    assert list(Pace(most=100, gently=3).parts(range(100))) == [range(100)]
    assert list(Pace(most=60, gently=3).parts(range(100))) == [range(60), range(60, 100)]
    assert list(Pace(most=60, gently=3).parts([])) == []
    assert clock.slept == []


def test_parts__beside_others_they_are_small_with_pauses_in_proportion_to_what_one_takes(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "others_are_at_work", lambda: True)
    seen = []

    for part, held_up in zip(
        Pace(most=1000, gently=3).parts(range(8)), (0.0, 60.0, 0.0), strict=True
    ):
        seen.append(part)
        clock.now += 0.01 + held_up

    assert seen == [range(3), range(3, 6), range(6, 8)]
    assert clock.slept == [pytest.approx(pacing.PAUSES * 0.01)] * 3


def test_parts__begin_to_be_small_when_somebody_comes(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = iter([False, True, True, False])
    monkeypatch.setattr(pacing, "others_are_at_work", lambda: next(there))

    parts = list(Pace(most=4, gently=1).parts(range(10)))

    assert parts == [range(4), range(4, 5), range(5, 6), range(6, 10)]


def test_parts__one_that_takes_very_long_is_not_rested_for_as_long(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "others_are_at_work", lambda: True)

    for _ in Pace(most=10, gently=1).parts(range(1)):
        clock.now += 60

    assert clock.slept == [pacing.LONGEST_PAUSE_S]


def test_index_pending__in_parts_leaves_the_same_embeddings_and_lists(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> tuple[list[Any], list[Any]]:
        vectors = Embedding.objects.order_by("product_id").values_list("product_id", "vector")
        lists = SimilarProduct.objects.order_by("source_id", "rank")
        return (
            [(pk, list(vector)) for pk, vector in vectors],
            list(lists.values_list("source_id", "rank", "target_id", "score")),
        )

    live = fake_checkpoint()
    make_products(30)
    for pace in (embedding._written, neighbours._written, neighbours._asked_for):
        monkeypatch.setattr(pace, "gently", 4)
    monkeypatch.setattr(pacing, "others_are_at_work", lambda: True)
    indexing.index_pending()
    assert len(clock.slept) >= 2 * 30 / 4
    gently = state()

    monkeypatch.setattr(pacing, "others_are_at_work", lambda: False)
    Embedding.objects.all().delete()
    SimilarProduct.objects.all().delete()
    indexing.reopen_stale(live)
    indexing.index_pending()

    assert len(gently[0]) == 30
    assert state() == gently
