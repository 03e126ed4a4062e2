"""Trainers that are killed, frozen, doubled, and whose database goes away: the run is made all the same."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import Error, connections
from django.utils import timezone

from shop import embedded
from shop.models import Product
from tests.chaos.catalogue import edit, photo_files
from tests.chaos.postgres_server import crash_postgres, end_backends, patiently
from tests.chaos.processes import kill_tree, python
from tests.conftest import ROOT
from tests.tiny_recipe import TINY
from tests.training_catalogue import make_shapes
from visualsearch.conf import get_settings
from visualsearch.exceptions import TrainingInProgressError
from visualsearch.lifecycle import training
from visualsearch.lifecycle.runs import PAUSE_SECONDS
from visualsearch.ml.manifest import Manifest, sha256_of
from visualsearch.ml.recipes import RECIPES
from visualsearch.ml.resume import STATE_NAME
from visualsearch.models import Checkpoint, TrainingRun
from visualsearch.querysets import HEARTBEAT_SECONDS

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys, torch
from pathlib import Path
from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import small_trunk, tiny
from visualsearch.ml import encoders, resume, train as training
torch.set_num_threads(1)
encoders.build_trunk = small_trunk
training.export_onnx = lambda network, folder: {}
resume.MAX_SHARE = 1e9  # saves after every step: a kill often comes inside a save
curve = open(sys.argv[2] + ".curve", "a")
def note(step):
    if step.stage == "train" and step.loss is not None:
        print(json.dumps([step.done, step.metrics]), file=curve, flush=True)
training.train(
    coloured_shapes(designs=4), tiny(epochs=int(sys.argv[3]), average=0.9), out=Path(sys.argv[1]),
    device="cpu", resume=Path(sys.argv[2]), save_every_s=0, progress=note,
)
"""


def curve(path: Path) -> dict[int, str]:
    """Step -> the figures of its last repetition, as they were written."""
    points: dict[int, str] = {}
    for line in Path(f"{path}.curve").read_text().splitlines():
        if line.endswith("]"):  # else it was being written when the process died
            step, _, figures = line.strip("[]").partition(",")
            points[int(step)] = figures
    return points


@pytest.mark.skipif(
    os.environ.get("CHAOS") != "long",
    reason="make chaos: some minutes; tests/ml/test_resume.py kills a trainer once",
)
def test_r10_trainer_killed__resumes_with_the_same_curve_and_weights(
    chance: random.Random,
    amount: Callable[[int, int], int],
    figures: dict[str, Any],
    tmp_path: Path,
) -> None:
    """kill -9 at random moments, many of them inside a save; each life goes on where one ended."""
    epochs = str(amount(40, 200))
    states, out = tmp_path / "states", tmp_path / "out"
    command = [*python(PROGRAM), str(out), str(states), epochs]
    kills, inside_a_save, wanted = 0, 0, amount(2, 30)
    while kills < wanted:
        saved = _time_of(states)
        process = subprocess.Popen(command, cwd=ROOT)
        deadline = time.monotonic() + 120
        while _time_of(states) == saved:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline, "it saves nothing"
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        assert process.poll() is None, "it ended before it could be killed: raise the epochs"
        process.kill()
        process.wait()
        kills += 1
        inside_a_save += len(list(states.iterdir())) > 1
        assert not out.exists(), "an unfinished checkpoint is in place"
    subprocess.run(command, cwd=ROOT, check=True)
    alone, alone_states = tmp_path / "alone", tmp_path / "alone-states"
    subprocess.run([*python(PROGRAM), str(alone), str(alone_states), epochs], cwd=ROOT, check=True)

    points = curve(states)
    figures |= {
        "fault": "R10",
        "kills": kills,
        "inside_a_save": inside_a_save,
        "steps": max(points),
        "lost": 0 if curve(alone_states) == points else 1,
    }
    assert points == curve(alone_states)
    assert sha256_of(out / "encoder.safetensors") == sha256_of(alone / "encoder.safetensors")


def _time_of(states: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (states / STATE_NAME).stat().st_mtime_ns
    return 0


@pytest.fixture
def start_trainer(
    start_worker: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """A worker that trains the tiny recipe with the real network: `start_trainer("train")`."""
    monkeypatch.setitem(RECIPES, TINY.name, TINY)
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": "", "DEVICE": "cpu"}
    module = {"DJANGO_SETTINGS_MODULE": "tests.chaos.training_settings", "WORKER_THREADS": "1"}

    def start(queue: str, **more: Any) -> Any:
        given = {"ENCODER": "", "DEVICE": "cpu", "LEASE_SECONDS": 4, **more}
        return start_worker(queue=queue, env=module, **given)

    return start


def request_run() -> TrainingRun:
    """A queued run; the one that is open, if the answer to an earlier click went astray."""
    if run := TrainingRun.objects.open().first():
        return run
    return training.request_training(TINY.name, epochs=24)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("commits_survive_a_crash")
def test_r08_postgres_restarted_while_training__the_run_goes_on_and_goes_live(
    services: embedded.Addresses,
    start_trainer: Any,
    converge: Any,
    chance: random.Random,
    amount: Callable[[int, int], int],
    figures: dict[str, Any],
) -> None:
    """The server crashes or ends every connection in whatever stage a run is, while photos change."""
    products, files = make_shapes(), photo_files()
    start_trainer("embed")
    start_trainer("train")
    wanted, restarts, edits, stages, ended = amount(3, 20), 0, 0, set[str](), list[TrainingRun]()
    run = patiently(request_run)
    moved, before = time.monotonic(), ("", 0, 0)
    while restarts < wanted or run is not None:
        time.sleep(chance.uniform(0.3, 3))
        patiently(run.refresh_from_db)
        now = (run.stage, run.done, run.pk)
        if now != before:
            moved, before = time.monotonic(), now
        assert time.monotonic() - moved < 600, f"{run.state}: {run.stage} {run.error}"
        if not run.is_open:
            ended.append(run)
            run = patiently(request_run) if restarts < wanted else None
        elif run.state == "running" and restarts < wanted:
            stages.add(run.stage)
            with contextlib.suppress(Error):
                edit(chance.choice(products).pk, files, chance)
                edits += 1
            if chance.random() < 0.6:
                crash_postgres(is_ours=bool(services.folder))
            else:
                end_backends()
            restarts += 1
            patiently(Product.objects.count)
    state = converge(within=120)

    figures |= {
        "fault": "R8 while training",
        "restarts": restarts,
        "edits": edits,
        "runs": len(ended),
        "stages": sorted(stages),
        "failed_runs": sum(each.state != "succeeded" for each in ended),
        "taken_over": sum(each.attempts - 1 for each in ended),
        "falsely_quarantined": len(state.quarantined),
    }
    assert [each.error for each in ended if each.state != "succeeded"] == []
    assert state.is_whole, state
    assert not state.quarantined


@pytest.mark.django_db(transaction=True)
def test_r09_two_trainers__ten_clicks_are_one_run_and_a_frozen_one_writes_nothing_more(
    start_trainer: Any,
    converge: Any,
    eventually: Any,
    chance: random.Random,
    amount: Callable[[int, int], int],
    figures: dict[str, Any],
) -> None:
    """Clicks at once, two workers; the one that trains is frozen, taken for dead, and wakes."""
    make_shapes()
    others = checkpoint_folders_there()
    start_trainer("embed")
    frozen, rounds, clicked = start_trainer("train"), amount(1, 5), 0
    for _ in range(rounds):
        clicked += sum(click_at_once(10))
        run = TrainingRun.objects.open().get()
        mine = TrainingRun.objects.filter(pk=run.pk)
        eventually(mine.filter(stage="training", done__gt=0).exists, within=600, what="a step")
        time.sleep(chance.uniform(0, 0.5))
        processes = [psutil.Process(frozen.pid), *psutil.Process(frozen.pid).children(True)]
        for process in processes:
            process.suspend()
        token = mine.values_list("token", flat=True).get()
        long_ago = timezone.now() - timedelta(seconds=HEARTBEAT_SECONDS + 1)
        mine.update(heartbeat_at=long_ago)
        other = start_trainer("train")
        eventually(mine.exclude(token=token).exists, within=600, what="the takeover")
        time.sleep(chance.uniform(0, 2))
        for process in processes:
            process.resume()
        eventually(mine.exclude(state="running").exists, within=600, what="the run's end")
        run.refresh_from_db()
        assert (run.state, run.attempts, run.error) == ("succeeded", 2, "")
        assert Checkpoint.objects.filter(run=run).count() == 1
        eventually(partial(was_refused, frozen), within=600, what="the refusal")
        kill_tree(frozen)
        frozen = other
    state = converge(within=120)

    figures |= {
        "fault": "R9",
        "clicks": 10 * rounds,
        "runs": clicked,
        "frozen": rounds,
        "checkpoints": Checkpoint.objects.count(),
        "falsely_quarantined": len(state.quarantined),
    }
    assert clicked == rounds == Checkpoint.objects.count()
    # Those of older checkpoints are pruned about now, their rows stay.
    folders = checkpoint_folders_there() - others
    assert folders <= set(Checkpoint.objects.values_list("folder", flat=True)), "the frozen one's"
    assert Checkpoint.objects.get(state="live").folder in folders
    assert state.is_whole, state


def checkpoint_folders_there() -> set[str]:
    """Those of the tests before among them."""
    return {path.name for path in get_settings().CHECKPOINT_ROOT.glob("v*")}


def was_refused(trainer: Any) -> bool:
    return "was ended or taken over by another process" in trainer.log.read_text()


def click_at_once(count: int) -> list[bool]:
    """So many clicks on Retrain by as many connections; which of them got a run."""
    together = threading.Barrier(count)

    def click() -> bool:
        try:
            together.wait()
            training.request_training(TINY.name, epochs=24)
            return True
        except TrainingInProgressError:
            return False
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as threads:
        return [each.result() for each in [threads.submit(click) for _ in range(count)]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for the checkpoints, with some more room than a run asks for before it begins."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=768m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave no byte free, nor any that somebody gives back: half a file that did not fit is deleted."""
    ballast, ended = disk / "ballast", threading.Event()
    with ballast.open("wb", buffering=0) as file:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 16))

        def take_again() -> None:
            while not ended.wait(0.01):
                take()

        take()
        taker = threading.Thread(target=take_again)
        taker.start()
        try:
            yield
        finally:
            ended.set()
            taker.join()
            ballast.unlink()


@pytest.mark.django_db(transaction=True)
def test_r11_disk_full__the_run_pauses_and_goes_on_by_itself_when_there_is_room(
    small_disk: Path,
    start_trainer: Any,
    converge: Any,
    eventually: Any,
    chance: random.Random,
    amount: Callable[[int, int], int],
    figures: dict[str, Any],
    settings: Any,
) -> None:
    """The last byte is taken while a run trains, so that its checkpoint cannot be written."""
    make_shapes()
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"CHECKPOINT_ROOT": small_disk}
    start_trainer("embed", CHECKPOINT_ROOT=str(small_disk))
    start_trainer("train", CHECKPOINT_ROOT=str(small_disk))
    rounds = amount(1, 5)
    for _ in range(rounds):
        before = {path.name for path in small_disk.glob("v*")}
        training.request_training(TINY.name, epochs=24)
        mine = TrainingRun.objects.filter(pk=TrainingRun.objects.open().get().pk)
        eventually(mine.filter(stage="training", done__gt=0).exists, within=600, what="a step")
        with full(small_disk):
            eventually(mine.filter(state="queued").exists, within=600, what="the pause")
            assert {path.name for path in small_disk.glob("v*")} == before, "half a checkpoint"
            assert not Checkpoint.objects.filter(run__in=mine).exists()
            assert "It goes on by itself" in mine.get().error
        rested = timezone.now() - timedelta(seconds=PAUSE_SECONDS + 1)
        mine.filter(state="queued").update(heartbeat_at=rested)
        eventually(mine.filter(state="succeeded").exists, within=600, what="the run's end")
        checkpoint = Checkpoint.objects.get(run__in=mine)
        Manifest.load(small_disk / checkpoint.folder)
    state = converge(within=120)

    figures |= {
        "fault": "R11",
        "full_disks": rounds,
        "checkpoints": Checkpoint.objects.count(),
        "falsely_quarantined": len(state.quarantined),
    }
    assert Checkpoint.objects.count() == rounds
    assert state.is_whole, state
