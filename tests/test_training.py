"""A training run from request to live checkpoint, and everything that can end it early."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as django_settings
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from shop.models import Product
from tests.catalogue import BROKEN, make_product, photo
from tests.training_catalogue import TINY, make_shapes
from visualsearch.exceptions import (
    NotEnoughDataError,
    TrainingCancelledError,
    TrainingError,
    TrainingInProgressError,
    TrainingTakenOverError,
)
from visualsearch.lifecycle import checkpoint_folders, evaluation, examples, runs, training
from visualsearch.lifecycle.hold import Hold
from visualsearch.lifecycle.run_progress import RunProgress, Step
from visualsearch.ml.recipes import RECIPES
from visualsearch.models import (
    Checkpoint,
    Embedding,
    IndexEntry,
    SearchWord,
    SimilarProduct,
    TrainingRun,
)
from visualsearch.search import searching
from visualsearch.testing import COLOURS

State = TrainingRun.State


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", heard.append)
    return heard


@pytest.fixture
def checkpoint_root(tmp_path: Path, settings: Any) -> Path:
    root = tmp_path / "checkpoints"
    settings.VISUALSEARCH = django_settings.VISUALSEARCH | {"CHECKPOINT_ROOT": root}
    return root


@pytest.fixture
def network(checkpoint_root: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real network in the place of the fake encoder, and a recipe that is small."""
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": "", "DEVICE": "cpu"}
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    return checkpoint_root


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Any]]:
    """Run a function in a thread with a connection of its own."""
    threads = ThreadPoolExecutor(12)

    def submit(function: Callable[..., Any], *arguments: Any) -> Any:
        def call() -> Any:
            try:
                return function(*arguments)
            finally:
                connections.close_all()

        return threads.submit(call)

    yield submit
    threads.shutdown(wait=True)


# -- requesting -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_request_training__queues_a_run_and_rings_after_the_commit(rings: list[str]) -> None:
    with transaction.atomic():
        run = training.request_training("tirg", epochs=3, seed=7)
        assert rings == []

    assert rings == ["train"]
    run.refresh_from_db()
    assert (run.state, run.recipe, run.epochs, run.seed) == (State.QUEUED, "tirg", 3, 7)


@pytest.mark.django_db
def test_request_training__what_is_left_out_comes_from_the_settings(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"RECIPE": "tirg", "TRAINING_EPOCHS": 4}

    run = training.request_training()

    assert (run.recipe, run.epochs) == ("tirg", 4)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "nonsense"}, "Choose one of: default, "),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1001}, "epochs"),
        ({"seed": -1}, "seed"),
    ],
)
def test_request_training__options_that_do_not_exist_are_refused(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(TrainingError, match=said):
        training.request_training(**options)

    assert not TrainingRun.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_request_training__a_second_is_refused_while_one_is_open(state: str) -> None:
    first = training.request_training()
    TrainingRun.objects.filter(pk=first.pk).update(state=state, heartbeat_at=timezone.now())

    with pytest.raises(TrainingInProgressError, match=f"run {first.pk} .*wait for it, or cancel"):
        training.request_training()

    assert TrainingRun.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_request_training__of_ten_clicks_at_once_one_wins(in_thread: Callable[..., Any]) -> None:
    together = threading.Barrier(10)

    def click() -> bool:
        together.wait(10)
        try:
            training.request_training()
        except TrainingInProgressError:
            return False
        return True

    clicks = [in_thread(click) for _ in range(10)]

    assert [click.result(30) for click in clicks].count(True) == 1
    assert TrainingRun.objects.count() == 1


@pytest.mark.django_db
def test_open_runs__the_database_itself_allows_one() -> None:
    TrainingRun.objects.create(state=State.RUNNING)

    with pytest.raises(IntegrityError), transaction.atomic():
        TrainingRun.objects.create(state=State.QUEUED)
    TrainingRun.objects.create(state=State.FAILED)


@pytest.mark.django_db
def test_request_training__a_run_whose_trainer_fell_silent_makes_way() -> None:
    dead = TrainingRun.objects.create(
        state=State.RUNNING, token=uuid.uuid4(), heartbeat_at=timezone.now() - timedelta(seconds=61)
    )

    training.request_training()

    dead.refresh_from_db()
    assert dead.state == State.FAILED
    assert "no sign of life" in dead.error
    assert dead.finished_at is not None


# -- claiming, holding ----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_claim__of_ten_workers_one_gets_the_run(in_thread: Callable[..., Any]) -> None:
    training.request_training()
    together = threading.Barrier(10)

    def work() -> Any:
        together.wait(10)
        return runs.claim()

    holds = [each.result(30) for each in [in_thread(work) for _ in range(10)]]

    assert sum(hold is not None for hold in holds) == 1
    assert TrainingRun.objects.get().state == State.RUNNING


@pytest.mark.django_db
def test_claim__nothing_is_queued() -> None:
    assert runs.claim() is None
    assert training.run_queued() is None


@pytest.mark.django_db
def test_hold__a_trainer_that_was_taken_for_dead_can_write_nothing_more() -> None:
    training.request_training()
    hold = runs.claim()
    assert hold is not None
    TrainingRun.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    assert runs.fail_abandoned() == 1
    after = TrainingRun.objects.values().get()

    for late in (
        lambda: hold.write(stage="training"),
        lambda: hold.finish(State.SUCCEEDED),
        hold.lock,
    ):
        with pytest.raises(TrainingTakenOverError):
            late()

    assert TrainingRun.objects.values().get() == after


@pytest.mark.django_db
def test_hold__the_token_of_a_later_claim_fences_the_earlier_one() -> None:
    run = training.request_training()
    earlier = runs.claim()
    assert earlier is not None
    TrainingRun.objects.filter(pk=run.pk).update(state=State.QUEUED)
    later = runs.claim()
    assert later is not None

    with pytest.raises(TrainingTakenOverError):
        earlier.write(done=1)
    later.write(done=2)

    assert TrainingRun.objects.get().done == 2


@pytest.mark.django_db(transaction=True)
def test_hold__gives_signs_of_life_and_hears_of_a_cancel(
    monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr("visualsearch.lifecycle.hold.BEAT_SECONDS", 0.05)
    run = training.request_training()
    hold = runs.claim()
    assert hold is not None
    long_ago = timezone.now() - timedelta(seconds=50)
    TrainingRun.objects.update(heartbeat_at=long_ago)

    with hold:
        eventually(lambda: TrainingRun.objects.get().heartbeat_at > long_ago)
        assert training.cancel(run)

        def heard() -> bool:
            try:
                hold.check()
            except TrainingCancelledError:
                return True
            return False

        eventually(heard)


@pytest.mark.django_db
def test_cancel__a_queued_run_ends_at_once() -> None:
    run = training.request_training()

    assert training.cancel(run)

    assert run.state == State.CANCELLED
    assert not training.cancel(run)
    assert training.run_queued() is None


@pytest.mark.django_db
def test_progress__is_written_with_stages_curves_and_seconds() -> None:
    run = training.request_training()
    hold = runs.claim()
    assert hold is not None
    heard: list[Step] = []
    progress = RunProgress(hold, listener=heard.append)

    progress.enter("collecting")
    progress.count(5, 10)
    progress.enter("training", total=400)
    for step in range(1, 401):
        progress.learned(
            step=step,
            steps=400,
            epoch=1,
            epochs=1,
            loss=1 / step,
            metrics={"text": float("nan")},
            eta_seconds=1.0,
        )
    progress.enter("embedding")
    run.refresh_from_db()

    assert run.stage == "embedding"
    assert set(run.timings) == {"collecting", "training"}
    assert 100 < len(run.history) <= 301
    assert run.history[-1]["step"] == 400
    assert run.history[-1]["text"] is None
    assert [step.stage for step in heard][:2] == ["collecting", "collecting"]
    assert heard[1].eta_seconds is not None


# -- examples -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_collect__photos_are_decoded_and_bad_ones_left_out(tmp_path: Path) -> None:
    two = make_product(
        photo("red"), photo("blue"), name="Two", category="bags", style_code="s", colour="red"
    )
    broken = make_product(BROKEN, photo("green"))
    hopeless = make_product(BROKEN)
    gone = make_product(photo("black"))
    gone.images.get().original.storage.delete(gone.images.get().original.name)
    seen: list[tuple[int, int]] = []

    found = examples.collect(tmp_path, size=8, progress=lambda *step: seen.append(step))

    by_id = {item.id: item for item in found.catalogue.items}
    assert set(by_id) == {str(two.pk), str(broken.pk)}
    assert str(hopeless.pk) not in by_id
    assert (found.skipped_images, found.skipped_products) == (3, 2)
    assert found.catalogue.pixels.shape == (3, 8, 8, 3)
    red, blue = by_id[str(two.pk)].images
    assert tuple(found.catalogue.pixels[red][4, 4]) == COLOURS["red"]
    assert tuple(found.catalogue.pixels[blue][4, 4]) == COLOURS["blue"]
    green = by_id[str(broken.pk)].images[0]
    assert tuple(found.catalogue.pixels[green][4, 4]) == COLOURS["green"]
    item = by_id[str(two.pk)]
    assert (item.texts, item.label, item.group) == (("Two",), "bags", "s")
    assert item.attributes == {"colour": "red"}
    assert seen[-1] == (4, 4)


@pytest.mark.django_db
def test_collect__only_held_out_groups_are_decoded_when_asked(tmp_path: Path) -> None:
    from visualsearch.ml.data import split

    for number in range(40):
        make_product(photo("red"), style_code=f"s{number}")
    (tmp_path / "all").mkdir()
    (tmp_path / "some").mkdir()

    whole = examples.collect(tmp_path / "all", size=8)
    some = examples.collect(tmp_path / "some", size=8, held_out_only=True)

    expected = {item.id for item in split(whole.catalogue).holdout.items}
    assert {item.id for item in some.catalogue.items} == expected
    assert 0 < len(expected) < 40


@pytest.mark.django_db
def test_collect__an_empty_catalogue_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughDataError, match="no product in the index"):
        examples.collect(tmp_path, size=8)


@pytest.mark.django_db
def test_collect__a_disk_that_is_too_small_is_noticed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(photo("red"))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    with pytest.raises(TrainingError, match="make room, or move CHECKPOINT_ROOT"):
        examples.collect(tmp_path, size=8)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db
def test_look__counts_without_opening_a_photo() -> None:
    for number in range(4):
        make_product(BROKEN, style_code=f"s{number % 2}", colour="red")

    found = examples.look()
    sampled = examples.look(sample=2)

    assert (found.products, found.photos, found.groups) == (4, 4, 2)
    assert found.attributes == ("colour",)
    assert not found.is_sample
    assert sampled.is_sample
    assert sampled.photos == 4


# -- whole runs -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_run_queued__an_empty_catalogue_fails_with_its_reason(network: Path) -> None:
    training.request_training("tiny")

    run = training.run_queued()

    assert run is not None
    assert run.state == State.FAILED
    assert "no product in the index" in run.error
    assert run.finished_at is not None
    assert list(network.iterdir()) == []
    assert not Checkpoint.objects.exists()
    training.request_training("tiny")  # and the way is free


@pytest.mark.django_db(transaction=True)
def test_run_queued__a_fault_of_our_own_is_shown_and_logged(
    network: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(examples, "collect", fail)
    training.request_training("tiny")

    run = training.run_queued()

    assert run is not None
    assert (run.state, run.error.split(":")[0]) == (State.FAILED, "OSError")
    assert "Input/output error" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_run_queued__a_full_disk_pauses_the_run_until_there_is_room(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(photo("red"))
    free = shutil.disk_usage("/")
    collect = examples.collect
    training.request_training("tiny")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=1000))
    run = training.run_queued()
    assert run is not None
    assert (run.state, run.attempts, run.token) == (State.QUEUED, 0, None)
    assert "are free: make room" in run.error
    assert "goes on by itself" in run.error
    assert training.run_queued() is None, "it is tried again without a pause"

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=10**12))
    monkeypatch.setattr(examples, "collect", full)
    TrainingRun.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    run = training.run_queued()
    assert run is not None
    assert (run.state, run.error.split(":")[0]) == (State.QUEUED, "The disk is full")

    monkeypatch.setattr(examples, "collect", collect)
    TrainingRun.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    hold = runs.claim()
    assert hold is not None
    assert (hold.run.state, hold.run.error) == (State.RUNNING, "")


@pytest.mark.django_db(transaction=True)
def test_train_now__a_full_disk_ends_the_run(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_product(photo("red"))
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    run = training.train_now("tiny")

    assert (run.state, "make room" in run.error) == (State.FAILED, True)


@pytest.mark.django_db(transaction=True)
def test_run_queued__learns_judges_embeds_and_goes_live(
    network: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    products = make_shapes()
    training.request_training("tiny")

    run = training.run_queued()

    assert run is not None
    assert run.state == State.SUCCEEDED, run.error
    checkpoint = Checkpoint.objects.get()
    assert checkpoint.state == Checkpoint.State.LIVE, checkpoint.verdict
    assert (checkpoint.name, checkpoint.recipe, checkpoint.run) == ("v1", "tiny", run)
    assert checkpoint.promoted_at is not None
    assert checkpoint.has_ann_index
    assert {path.name for path in network.iterdir()} == {"v1"}
    assert Embedding.objects.filter(checkpoint=checkpoint).count() == len(products)
    assert SimilarProduct.objects.filter(checkpoint=checkpoint, source=products[0]).exists()
    assert IndexEntry.objects.exclude(status="indexed").count() == 0
    assert set(run.timings) >= {
        *("collecting", "training", "evaluating", "exporting"),
        *("embedding", "indexing", "probing", "neighbours", "promoting"),
    }
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert {line["section"] for line in run.metrics["lines"]} == {
        "similar",
        "wild",
        "text",
        "composed",
    }
    results = searching.search("red", limit=8)
    assert (results.degraded, results.checkpoint) == (False, "v1")
    found = [hit.product.colour for hit in results]
    assert found.count("red") > 2, "as many as chance gives"
    assert SearchWord.objects.filter(word="red").exists(), "what misspelt words are compared with"

    # The exporter has much to say that is of no use in a worker's log.
    heard = {record.name.partition(".")[0] for record in caplog.records}
    assert not heard & {"onnx_ir", "onnxscript", "torch"}
    # Half of the time goes into the graphs for the web processes, which nothing below asks.
    monkeypatch.setattr("visualsearch.ml.train.export_onnx", lambda network, folder: {})
    _retrain_is_judged_beside_the_live_one(run)


def _retrain_is_judged_beside_the_live_one(first: TrainingRun) -> None:
    """Goes on where the test above ended: training is too dear to do it twice for nothing."""
    second = training.train_now("tiny", epochs=1, promote=False)
    assert second.state == State.SUCCEEDED, second.error
    made = Checkpoint.objects.get(run=second)

    # One step teaches nothing, which the gate sees, and the live one goes on.
    assert made.state == Checkpoint.State.REFUSED
    assert "clearly worse than the live checkpoint" in made.verdict
    assert second.metrics["live"]["checkpoint"] == "v1"
    assert Checkpoint.objects.live() == Checkpoint.objects.get(run=first)
    assert not Embedding.objects.filter(checkpoint=made).exists()

    # Whoever wants it all the same gets it, by the same run.
    again = training.promote_now(made)
    assert again.pk == second.pk
    assert again.state == State.SUCCEEDED, again.error
    assert Checkpoint.objects.live() == made
    assert Embedding.objects.filter(checkpoint=made).count() == Product.objects.count()


@pytest.mark.django_db(transaction=True)
def test_run_queued__a_cancel_ends_the_training_and_leaves_nothing(
    network: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_thread: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    monkeypatch.setattr("visualsearch.lifecycle.hold.BEAT_SECONDS", 0.2)
    make_shapes(designs=1)
    run = training.request_training("tiny", epochs=1000)
    working = in_thread(training.run_queued)
    eventually(lambda: _stage(run) == "training", within=60)

    assert training.cancel(run)
    working.result(30)

    run.refresh_from_db()
    assert (run.state, run.error) == (State.CANCELLED, "The training run was cancelled.")
    assert [path.name for path in network.iterdir()] == [f".state-{run.pk}"]
    assert not Checkpoint.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_run_queued__a_trainer_that_was_taken_over_stops_and_leaves_nothing(
    network: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_thread: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    monkeypatch.setattr("visualsearch.lifecycle.hold.BEAT_SECONDS", 0.2)
    make_shapes(designs=1)
    run = training.request_training("tiny", epochs=1000)
    working = in_thread(training.run_queued)
    eventually(lambda: _stage(run) == "training", within=60)

    TrainingRun.objects.update(state=State.FAILED, error="taken for dead")
    working.result(30)

    run.refresh_from_db()
    assert (run.state, run.error) == (State.FAILED, "taken for dead")
    assert list(network.iterdir()) == []
    assert not Checkpoint.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_resume_now__a_cancelled_run_goes_on_where_it_stopped(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shapes(designs=1)
    seen: list[Step] = []

    def cancel_at_three(step: Step) -> None:
        if step.stage == "training" and step.done == 3:
            raise TrainingCancelledError("enough")

    cancelled = training.train_now("tiny", epochs=4, promote=False, listener=cancel_at_three)
    assert cancelled.state == State.CANCELLED

    run = training.resume_now(cancelled.pk, promote=False, listener=seen.append)

    assert run.pk == cancelled.pk
    assert run.state == State.SUCCEEDED, run.error
    assert next(s.done for s in seen if s.stage == "training" and s.done) == 4
    steps = [point["step"] for point in run.history]
    assert steps == sorted(set(steps))
    assert not list(network.glob(".state-*"))
    with pytest.raises(TrainingError, match="has made its checkpoint"):
        training.resume_now(run.pk)


@pytest.mark.django_db(transaction=True)
def test_request_resumption__a_worker_goes_on_with_a_run_that_was_cancelled(
    network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_shapes(designs=1)

    def cancel_at_three(step: Step) -> None:
        if step.stage == "training" and step.done == 3:
            raise TrainingCancelledError("enough")

    cancelled = training.train_now("tiny", epochs=4, listener=cancel_at_three)
    assert training.can_be_resumed(cancelled)

    assert training.request_resumption(cancelled.pk).state == State.QUEUED
    with caplog.at_level("INFO"):
        run = training.run_queued()

    assert run is not None and run.pk == cancelled.pk
    assert run.state == State.SUCCEEDED, run.error
    assert "Resumed after step" in caplog.text
    assert not training.can_be_resumed(run)
    with pytest.raises(TrainingError, match="has made its checkpoint"):
        training.request_resumption(run.pk)


@pytest.mark.django_db
def test_resume_now__a_run_that_never_was(checkpoint_root: Path) -> None:
    with pytest.raises(TrainingError, match="no training run 77"):
        training.resume_now(77)


@pytest.mark.django_db(transaction=True)
def test_run_queued__a_worker_that_is_told_to_stop_gives_the_run_back(network: Path) -> None:
    make_shapes(designs=1)
    run = training.request_training("tiny", epochs=4)
    hold = runs.claim()
    assert hold is not None

    def stop_at_two(step: Step) -> None:
        if step.stage == "training" and step.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        training.perform(hold, listener=stop_at_two, requeue=True)
    assert ended.value.code == 143
    run.refresh_from_db()
    assert (run.state, run.token, run.attempts) == (State.QUEUED, None, 0)
    assert list(network.glob(".state-*/*"))

    finished = training.run_queued()
    assert finished is not None
    assert finished.pk == run.pk
    assert finished.state == State.SUCCEEDED, finished.error


def _lost(**values: Any) -> TrainingRun:
    """A run whose worker has gone silent."""
    long_ago = timezone.now() - timedelta(seconds=61)
    given = {"attempts": 1, "token": uuid.uuid4(), "heartbeat_at": long_ago, "stage": "training"}
    return TrainingRun.objects.create(state=State.RUNNING, **given | values)


@pytest.mark.django_db
def test_claim__takes_over_a_run_whose_worker_died() -> None:
    run = _lost(history=[{"step": 1}])

    hold = runs.claim()

    assert hold is not None
    assert (hold.run.pk, hold.run.state, hold.run.attempts) == (run.pk, State.RUNNING, 2)
    assert hold.token not in (None, run.token)
    assert hold.run.history == [{"step": 1}]
    assert runs.claim() is None, "it has a worker again"
    with pytest.raises(TrainingTakenOverError):
        Hold(run, run.token).write(done=1)  # type: ignore[arg-type]


@pytest.mark.django_db
@pytest.mark.parametrize("values", [{"attempts": 3}, {"cancel_requested": True}])
def test_claim__gives_up_a_run_that_ends_its_workers_or_was_cancelled(
    values: dict[str, Any],
) -> None:
    run = _lost(**values)

    assert runs.claim() is None

    run.refresh_from_db()
    assert run.state == State.FAILED


@pytest.mark.django_db
def test_claim__leaves_a_run_that_has_its_checkpoint_to_be_decided_upon() -> None:
    from visualsearch.testing import fake_checkpoint

    run = _lost(stage="embedding")
    fake_checkpoint(live=False, run=run)

    assert runs.claim() is None

    run.refresh_from_db()
    assert run.state == State.FAILED


def test_state_folder__only_the_last_interrupted_run_keeps_one(checkpoint_root: Path) -> None:
    for number in (3, 4):
        (checkpoint_root / f".state-{number}").mkdir(parents=True)

    assert checkpoint_folders.state_folder(4) == checkpoint_root / ".state-4"
    assert [path.name for path in checkpoint_root.iterdir()] == [".state-4"]


@pytest.mark.django_db
def test_request_promotion__not_while_its_run_is_at_work() -> None:
    from visualsearch.testing import fake_checkpoint

    run = TrainingRun.objects.create(
        state=State.RUNNING, token=uuid.uuid4(), heartbeat_at=timezone.now()
    )
    refused = fake_checkpoint(live=False, run=run, state=Checkpoint.State.REFUSED)

    with pytest.raises(TrainingInProgressError):
        training.request_promotion(refused)

    assert TrainingRun.objects.get().state == State.RUNNING


@pytest.mark.django_db
def test_fail_abandoned__a_half_indexed_checkpoint_is_set_aside() -> None:
    from visualsearch.tables import partitions
    from visualsearch.testing import fake_checkpoint

    run = TrainingRun.objects.create(
        state=State.RUNNING, token=uuid.uuid4(), heartbeat_at=timezone.now() - timedelta(minutes=2)
    )
    half = fake_checkpoint(live=False, run=run)

    runs.fail_abandoned()

    half.refresh_from_db()
    assert half.state == Checkpoint.State.REFUSED
    assert "ended before it was indexed" in half.verdict
    assert not partitions.exists(half)


@pytest.mark.django_db
def test_next_name__no_name_is_used_twice(checkpoint_root: Path) -> None:
    assert checkpoint_folders.next_name() == "v1"
    (checkpoint_root / "v7").mkdir(parents=True)
    (checkpoint_root / "other").mkdir()
    assert checkpoint_folders.next_name() == "v8"


def test_clean__postgres_gets_no_number_that_it_does_not_take() -> None:
    dirty = {"a": float("nan"), "b": [float("inf"), 1.5, {"c": np.nan}]}

    assert evaluation.clean(dirty) == {"a": None, "b": [None, 1.5, {"c": None}]}


def _stage(run: TrainingRun) -> str:
    time.sleep(0.05)
    return str(TrainingRun.objects.values_list("stage", flat=True).get(pk=run.pk))
