"""Trials: what a suspected product does to the process that embeds it, the worker lives to tell."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.utils import timezone

from shop.models import Product
from tests.catalogue import BROKEN, make_product, photo
from tests.chaos.catalogue import poison
from visualsearch.models import Checkpoint, Embedding, IndexEntry
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing, trial

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _child_sees_what_the_test_does(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Its settings come from a module: files of this run, and an encoder that some photos kill."""
    monkeypatch.setattr(trial, "_settings_module", lambda: "tests.chaos.settings")
    monkeypatch.setenv("DATA_DIR", str(data_folder))
    encoder = "tests.chaos.encoders.DeadlyEncoder"
    monkeypatch.setenv("CHAOS_VISUALSEARCH", json.dumps({"ENCODER": encoder}))
    monkeypatch.setenv("CHAOS_SECONDS", "0.01")
    yield
    trial._close()


@pytest.fixture
def live() -> Checkpoint:
    return fake_checkpoint()


def suspect(*photos: bytes) -> Product:
    """A product that was in a batch whose worker is gone."""
    product = make_product(*photos)
    IndexEntry.objects.filter(product=product).update(attempts=1)
    return product


def entry(product: Product) -> IndexEntry:
    return IndexEntry.objects.get(product=product)


def make_due() -> None:
    IndexEntry.objects.filter(status="pending").update(available_at=timezone.now())


def test_trial__an_innocent_suspect_is_embedded_by_the_child(live: Checkpoint) -> None:
    products = [suspect(photo("red", seed=n)) for n in range(3)]

    counts = indexing.index_pending()

    assert (counts.indexed, counts.embedded) == (3, 3)
    assert Embedding.objects.count() == 3
    assert {entry(product).attempts for product in products} == {0}
    (child,) = trial._children.values()
    assert child.process.poll() is None, "one child tries them all"


def test_trial__a_photo_that_kills_the_child_is_set_aside_the_third_time(live: Checkpoint) -> None:
    deadly, good = suspect(poison()), suspect(photo("red"))

    seen = set()
    while entry(deadly).status == "pending":
        indexing.index_pending(limit_seconds=0)  # one claim
        seen.add((entry(deadly).crashes, entry(deadly).error_code))
        make_due()

    assert [crashes for crashes, code in sorted(seen) if code == "crashed"] == [0, 1, 2, 3]
    assert entry(deadly).error_code == "crashed"
    assert "SIGKILL" in entry(deadly).error
    while entry(good).status == "pending":
        indexing.index_pending()
    assert entry(good).status == "indexed"


def test_trial__a_photo_that_cannot_be_read_is_named_as_ever(live: Checkpoint) -> None:
    broken = suspect(BROKEN)

    indexing.index_pending()

    assert (entry(broken).status, entry(broken).error_code) == ("failed", "image_decode")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_trial__a_service_manager_that_stops_every_process_convicts_nobody(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setenv("CHAOS_SECONDS", "2")
    product = suspect(photo("red"))

    with _at_work(lambda child: os.kill(child.pid, how)):
        indexing.index_pending()

    assert (entry(product).status, entry(product).crashes) == ("indexed", 0)


def test_trial__a_child_that_dies_before_it_has_begun_convicts_nobody(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_settings_module", lambda: "tests.there_is_no_such_module")
    product = suspect(photo("red"))

    indexing.index_pending()

    found = entry(product)
    assert (found.status, found.crashes, found.attempts) == ("pending", 0, 1)
    assert found.error_code == "system"


def test_trial__a_child_that_hangs_is_ended_and_that_is_held_against_the_product(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOS_SECONDS", "600")
    monkeypatch.setattr(indexing, "HUNG_AFTER", 1 / 120)
    product = suspect(photo("red"))

    indexing.index_pending()

    found = entry(product)
    assert (found.status, found.error_code, found.crashes) == ("pending", "hung", 1)
    assert not trial._children


def test_trial__a_child_whose_worker_is_gone_ends(live: Checkpoint) -> None:
    suspect(photo("red"))
    indexing.index_pending()
    (child,) = trial._children.values()

    child.connection.close()

    assert child.process.wait(30) == 0


class _at_work:
    """While the block lasts, does something to the child once it has a decoder: it has begun then."""

    def __init__(self, do: Any) -> None:
        self.do = do
        self.thread = threading.Thread(target=self._wait)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *exc_info: object) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for child in list(trial._children.values()):
                process = psutil.Process(child.process.pid)
                if process.children():
                    time.sleep(0.5)
                    self.do(process)
                    return
            time.sleep(0.02)
