"""The benchmarks of many products run, at a size of seconds, so that they do not rot."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import connections

from benchmarks import (
    backlog_load,
    calibration,
    embedding_writes,
    hybrid,
    neighbour_table,
    peer_engines,
    peer_shop,
    peer_timing,
    peer_workload,
    planted,
    planted_encoder,
    promotion_load,
    selectivity,
    shoppers,
    small_catalogue,
    watched_worker,
)
from benchmarks.peer_timing import Limits
from shop.models import Product
from visualsearch.search import spelling
from visualsearch.testing import FakeEncoder, fake_checkpoint
from visualsearch.upkeep import indexing

pytestmark = pytest.mark.django_db(transaction=True)


@contextlib.contextmanager
def worker() -> Iterator[None]:
    """What an embed worker does, in a thread."""
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.wait(0.2):
                indexing.index_pending(limit_seconds=1)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def test_small_catalogue__products_whose_photos_differ(data_folder: Path) -> None:
    small_catalogue.fill(12)
    small_catalogue.fill(15)

    products = Product.objects.prefetch_related("images")
    assert products.count() == 15
    photos = {product.images.all()[0].original.read() for product in products}
    assert len(photos) == 15
    small_catalogue.replace_photos([3], seed=1)
    changed = Product.objects.get(sku="small-3").images.get().original
    assert changed.read() not in photos


def test_embedding_writes__counts_rows_and_compares() -> None:
    small_catalogue.fill(60, with_photos=False)

    found = embedding_writes.measure(rows=60, width=16, rounds=1)

    assert found["rows"] == 60
    assert set(found["rows_per_second"]) >= {"copy", "loaded", "stored", "encoded"}
    assert min(found["share_of_plain_copy"].values()) > 0


def test_neighbour_table__is_complete_and_compared() -> None:
    small_catalogue.fill(80, with_photos=False)

    found = neighbour_table.measure(products=80, width=16, rounds=1)

    assert found["neighbours"] == 80 * 50
    assert found["times_the_bare_products"] > 0


def test_selectivity__every_row_and_the_right_ones_under_any_filter(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER": planted.ENCODER,
        "EXACT_THRESHOLD": 100,
        "STATEMENT_TIMEOUT_MS": 60_000,
    }

    found = selectivity.measure(products=400, width=32, axes=1, queries=4)

    assert set(found["kinds"]) == {"image", "text", "composed"}
    assert found["answers_with_too_few_rows"] == 0
    assert found["least_recall"] >= 0.97
    for correlations in found["kinds"].values():
        assert set(correlations) == {"none", "uncorrelated", "correlated", "anti-correlated"}
        assert correlations["correlated"]["2"]["matching"] == 8


def test_selectivity__notices_what_is_not_found(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": planted.ENCODER}
    search = selectivity._search
    monkeypatch.setattr(selectivity, "_search", lambda *asked: search(*asked)[1:])

    found = selectivity.measure(products=200, width=32, axes=1, queries=2)

    # All but those under a filter that leaves the product alone that is asked about.
    assert found["answers_with_too_few_rows"] > 0.9 * found["queries"]
    assert found["least_recall"] < 0.97


def test_hybrid__ranks_of_what_is_right_by_kind_of_query(
    settings: Any, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"STATEMENT_TIMEOUT_MS": 60_000}
    small_catalogue.fill(40)
    checkpoint = fake_checkpoint()
    indexing.embed_checkpoint(checkpoint)
    spelling.collect()

    found = hybrid.measure(queries=12, ratios=[])

    assert set(found["kinds"]) == set(hybrid.KINDS)
    numbers = found["kinds"]["article number"]["mrr"]
    assert (numbers["words"], numbers["hybrid"]) == (1, 1)
    assert numbers["vectors"] < 1
    assert found["kinds"]["misspelt title words"]["mrr"]["words"] > 0


def test_peers__the_same_vectors_are_found_by_all_that_are_installed(
    settings: Any, tmp_path: Path
) -> None:
    settings.VISUALSEARCH = (
        settings.VISUALSEARCH
        | {
            "ENCODER": planted.ENCODER,
            "EXACT_THRESHOLD": 50,
            "STATEMENT_TIMEOUT_MS": 60_000,
            "THROTTLE_RATES": {},  # a fast machine asks more in its seconds than a visitor may in a minute
        }
    )
    limits = Limits(queries=4, seconds=0.2)

    workload = peer_shop.build(300, width=16, queries=4, folder=tmp_path)
    found = dict(peer_shop.measure(workload, limits=limits))
    parts: list[Any] = []
    other = peer_engines.measure(
        "faiss, flat", tmp_path, limits=limits, most_seconds=120, keep=parts.append
    )

    cases = found[peer_shop.OURS]["cases"]
    assert set(cases) == {"no filter"} | {
        f"{percent} % {which}"
        for percent in ("50", "10", "2", "0.2")
        for which in ("by chance", "nearest", "farthest")
    }
    for case in (*cases.values(), *found[peer_shop.OURS_OVER_DRF]["cases"].values()):
        assert case["rows"] == case["rows_there_are"]
        assert case["recall_at_10"] >= 0.95
    assert "missing" in other or [each["recall_at_10"] for each in other["cases"].values()] == [
        1.0
    ] * len(cases), other
    assert len(parts) >= len(other["cases"])  # kept as they came


def test_peers__a_slow_engine_is_asked_fewer_queries_and_says_so() -> None:
    numbers = np.arange(20)
    vectors = np.eye(20, dtype=np.float32)
    workload = peer_workload.Workload(
        vectors=vectors, asked=vectors, fields={"chance": numbers, "rank": numbers}, cases={}
    )
    case = peer_workload.Case(given=None, bars=[1.0] * 20, wanted=1)

    found = peer_timing.case(
        lambda number: [number] if number else [],
        workload,
        case,
        limits=Limits(queries=20, seconds=0),
        clock=lambda: 0.0,
    )

    assert found["queries"] == 3
    assert found["stopped"] == "after 3 of 20 queries: the time was up"
    assert (found["recall_at_10"], found["answers_with_too_few_rows"]) == (0.6667, 1)


def test_peers__an_engine_that_takes_too_long_is_ended_and_what_it_said_is_kept(
    tmp_path: Path,
) -> None:
    workload = peer_workload.make(planted_encoder.photos(50, width=8), queries=2)
    workload.save(tmp_path)
    kept: list[Any] = []

    found = peer_engines.measure(
        "faiss, flat",
        tmp_path,
        limits=Limits(queries=2, seconds=1),
        most_seconds=0,
        keep=kept.append,
    )

    assert found["stopped"] == "after 0 s, 0 filters measured"
    assert kept == [found]


def _calibrated(*lines: tuple[float, float, int], scores: tuple[float, float]) -> dict[str, Any]:
    reliability = [{"match": m, "precision": p, "pairs": n} for m, p, n in lines]
    curve = {"scores": list(scores), "matches": [0.0, 1.0], "error": 0.01}
    return {"image": curve | {"reliability": reliability}}


def test_calibration__says_where_a_threshold_keeps_its_precision() -> None:
    before = _calibrated((0.3, 0.3, 500), (0.7, 0.72, 500), scores=(0.0, 1.0))
    same = _calibrated((0.3, 0.31, 500), (0.7, 0.7, 500), scores=(0.4, 0.8))
    worse = _calibrated((0.3, 0.1, 500), (0.7, 0.4, 500), scores=(0.4, 0.8))

    found = calibration.compare(before, same)
    assert found["same_precision_at_every_threshold"]
    row = found["kinds"]["image"]["thresholds"]["0.5"]
    assert (row["before"]["precision"], row["after"]["precision"]) == (0.72, 0.7)
    assert row["match_after_of_the_same_cosine"] == 0.25

    assert not calibration.compare(before, worse)["same_precision_at_every_threshold"]


def test_promotion_load__no_error_no_mixed_answer_no_lost_edit(
    live_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER": "benchmarks.seeded_encoder.SeededEncoder",
        "EXACT_THRESHOLD": 50,
        "THROTTLE_RATES": {},
        # What is shown here is not how fast this machine is.
        "STATEMENT_TIMEOUT_MS": 60_000,
        "ENCODER_WAIT_SECONDS": 60.0,
    }
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda bell: None)
    small_catalogue.fill(80)
    truth = promotion_load._prepare("fake")

    with worker():
        found = promotion_load._measure(f"{live_server.url}/", truth, seconds=1.5, rate=5, rounds=2)

    assert (found["examples_of_errors"], found["examples_of_mixed"]) == ([], [])
    assert found["checkpoints_that_answered"] == ["a", "b"]
    assert [each["what"] for each in found["switches"]] == ["promote", "rollback"] * 2
    assert found["edits"] and found["edits_not_embedded_by_the_live_checkpoint"] == 0
    for phase in found["phases"].values():
        assert phase["answers"] > 0
        assert (phase["errors"], phase["mixed"]) == (0, 0), found
        assert min(phase["recall"].values()) > 0.9


def test_promotion_load__notices_answers_that_are_mixed(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER": "benchmarks.seeded_encoder.SeededEncoder"
    }
    small_catalogue.fill(30)
    truth = promotion_load._prepare("fake")
    key = next(iter(truth.index))
    scores = {
        name: truth.scores(name, shoppers.Answer(0, "product", key, 200, 0.1))
        for name in ("a", "b")
    }

    # Variants of one design are alike to both.
    apart = abs(scores["a"] - scores["b"])
    others = sorted(truth.index, key=lambda pk: -apart[truth.index[pk]])

    def answer(*names: str) -> shoppers.Answer:
        hits = [
            {"id": pk, "score": round(float(scores[name][truth.index[pk]]), 4)}
            for pk, name in zip(others, names, strict=False)
        ]
        return shoppers.Answer(0, "product", key, 200, 0.1, {"checkpoint": "a", "hits": hits})

    assert not truth.is_mixed(answer("a", "a", "a"))
    assert truth.is_mixed(answer("a", "b", "a"))
    assert truth.is_mixed(answer("b", "b", "b")), "all of one, but not of the one that is named"


def test_backlog_load__compares_searches_beside_bulk_work_with_idle_ones(
    live_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER": "visualsearch.testing.FakeEncoder",
        "BATCH_SIZE": 4,
        "THROTTLE_RATES": {},
        "STATEMENT_TIMEOUT_MS": 60_000,
        "ENCODER_WAIT_SECONDS": 60.0,
    }
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda bell: None)
    small_catalogue.fill(60)
    backlog_load.prepare("fake")
    encode = FakeEncoder.encode_image

    def slowly(encoder: FakeEncoder, pixels: Any) -> Any:
        time.sleep(0.2 * len(pixels))
        return encode(encoder, pixels)

    monkeypatch.setattr(FakeEncoder, "encode_image", slowly)

    with worker():
        found = backlog_load.measure(f"{live_server.url}/", seconds=1.0, rate=5)

    assert found["backlog"] == 60
    for phase in found["phases"].values():
        assert phase["answers"] > 0
        assert phase["errors"] == 0
    assert found["p95_against_idle"] > 0


def worker_that_took(megabytes: list[float], *, done: list[tuple[float, int]]) -> Any:
    """A worker of which the memory was read every second from 0 on."""
    worker = watched_worker.Worker.__new__(watched_worker.Worker)
    worker.samples = [
        watched_worker.Sample(float(at), {"master": 50.0, "child and beat": each - 50.0})
        for at, each in enumerate(megabytes)
    ]
    worker.done = done
    return worker


def test_worker_memory__what_fills_up_once_is_no_growth() -> None:
    worker = worker_that_took(
        [100.0 + 10 * at for at in range(20)] + [300.0] * 80, done=[(0.0, 0), (99.0, 20_000)]
    )

    found = worker.memory()["second_half"]

    assert (found["growth"], found["megabytes_per_10000_products"]) == (1.0, 0.0)
    assert found["megabytes_last"] == {"master": 50.0, "child and beat": 250.0}


def test_worker_memory__the_process_for_suspects_comes_late_and_is_no_growth() -> None:
    worker = worker_that_took([300.0] * 100, done=[(0.0, 0), (99.0, 20_000)])
    for sample in worker.samples[90:]:
        sample.megabytes["trial"] = 450.0

    found = worker.memory()

    assert found["second_half"]["megabytes_per_10000_products"] == 0.0
    assert found["second_half"]["megabytes_last"]["trial"] == 450.0
    assert found["megabytes_most"] == 750.0


def test_worker_memory__growth_is_by_products_however_fast_they_are_done() -> None:
    # The first 20,000 take as long as the last 20,000, and each takes a kilobyte.
    done = [(0.0, 0), (50.0, 10_000), (100.0, 30_000), (120.0, 40_000)]
    at = range(121)
    products = np.interp(at, *zip(*done, strict=True))
    worker = worker_that_took([200.0 + each / 1000 for each in products], done=done)

    found = worker.memory()["second_half"]

    assert found["megabytes_per_10000_products"] == pytest.approx(10.0)
    assert found["growth"] > 1.03


def test_private_megabytes__counts_what_the_process_has_written() -> None:
    before = watched_worker.private_megabytes(os.getpid())
    # Pages of its own: what malloc gives may be memory that earlier tests have written.
    with mmap.mmap(-1, 50_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1
        after = watched_worker.private_megabytes(os.getpid())

    assert after - before == pytest.approx(50, abs=5)
