"""A run that is interrupted, however, and gone on with ends in the same weights as one that is not."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import TINY, small_trunk, tiny
from visualsearch.exceptions import TrainingCancelledError, TrainingStoppedError
from visualsearch.ml import encoders, resume
from visualsearch.ml import train as training
from visualsearch.ml.manifest import sha256_of
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.resume import STATE_NAME, State, StateFolder, fingerprint
from visualsearch.ml.train import Progress, TrainingResult, train

# 48 products learn in 4 steps an epoch; averaged, validated, with the best epoch kept.
WHOLE = tiny(epochs=4, average=0.9, patience=3, validation=0.4)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "export_onnx", lambda network, folder: {})
    monkeypatch.setattr(encoders, "build_trunk", small_trunk)
    monkeypatch.setattr(resume, "MAX_SHARE", 1e9)  # saves as often as it is told to


class Killed(Exception):
    """Stands for a process that is gone: nothing that the run does about a cancel happens."""


def _run(
    out: Path,
    recipe: Recipe,
    *,
    states: Path | None,
    fail: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    return train(
        coloured_shapes(designs=4),
        recipe,
        out=out,
        device="cpu",
        seed=3,
        progress=fail,
        resume=states,
        save_every_s=0,
    )


def _weights(result: TrainingResult) -> str:
    return sha256_of(result.folder / "encoder.safetensors")


def _at(step: int, error: Exception) -> Callable[[Progress], None]:
    def fail(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == step:
            raise error

    return fail


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "export_onnx", lambda network, folder: {})
        patch.setattr(encoders, "build_trunk", small_trunk)
        return _run(folder / "out", WHOLE, states=None)


def test_train__killed_twice_and_resumed_gives_the_same_weights_and_history(
    uninterrupted: TrainingResult, tmp_path: Path
) -> None:
    states = tmp_path / "states"
    for step in (3, 6):  # within the first epoch, and within another
        with pytest.raises(Killed):
            _run(tmp_path / "out", WHOLE, states=states, fail=_at(step, Killed()))
        assert (states / STATE_NAME).is_file()
    seen: list[Progress] = []

    result = _run(tmp_path / "out", WHOLE, states=states, fail=seen.append)

    first = next(progress for progress in seen if progress.stage == "train")
    assert first.done == 6, "it began anew"
    assert _weights(result) == _weights(uninterrupted)
    assert result.history == uninterrupted.history
    assert result.metrics["epochs"] == uninterrupted.metrics["epochs"]
    assert not states.exists(), "what has ended is not gone on with"


def test_train__a_cancelled_run_can_be_gone_on_with(
    uninterrupted: TrainingResult, tmp_path: Path
) -> None:
    states = tmp_path / "states"
    with pytest.raises(TrainingCancelledError):
        _run(tmp_path / "out", WHOLE, states=states, fail=_at(5, TrainingCancelledError("enough")))

    kept = load_file(states / STATE_NAME)
    assert all(torch.isfinite(kept[name]).all() for name in kept if kept[name].is_floating_point())
    assert _weights(_run(tmp_path / "out", WHOLE, states=states)) == _weights(uninterrupted)


def test_train__sigterm_saves_between_two_steps_and_leaves_the_handler_as_it_was(
    uninterrupted: TrainingResult, tmp_path: Path
) -> None:
    states = tmp_path / "states"
    before = signal.getsignal(signal.SIGTERM)

    def kill(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStoppedError, match="SIGTERM"):
        _run(tmp_path / "out", WHOLE, states=states, fail=kill)

    assert signal.getsignal(signal.SIGTERM) is before
    assert _weights(_run(tmp_path / "out", WHOLE, states=states)) == _weights(uninterrupted)


def test_train__a_process_that_is_killed_resumes_in_another(tmp_path: Path) -> None:
    """kill -9 at whatever moment the state is first there; weights as those of one process."""
    program = textwrap.dedent(
        """
        import sys, torch
        from pathlib import Path
        from tests.ml.catalogues import coloured_shapes
        from tests.ml.recipes import small_trunk, tiny
        from visualsearch.ml import encoders, train as training
        torch.set_num_threads(1)
        encoders.build_trunk = small_trunk
        training.export_onnx = lambda network, folder: {}
        training.train(
            coloured_shapes(designs=4), tiny(epochs=int(sys.argv[3]), average=0.9),
            out=Path(sys.argv[1]), device="cpu", resume=Path(sys.argv[2]), save_every_s=0,
        )
        """
    )
    recipe_epochs = "60"
    states, out = tmp_path / "states", tmp_path / "out"
    command = [sys.executable, "-c", program]
    process = subprocess.Popen([*command, str(out), str(states), recipe_epochs])
    deadline = time.monotonic() + 120
    while not (states / STATE_NAME).is_file():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()

    subprocess.run([*command, str(out), str(states), recipe_epochs], check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = train(
            coloured_shapes(designs=4),
            tiny(epochs=int(recipe_epochs), average=0.9),
            out=tmp_path / "whole",
            device="cpu",
        )
    finally:
        torch.set_num_threads(threads)
    assert sha256_of(out / "encoder.safetensors") == _weights(whole)


def test_train__sgd_resumes_exactly_too(tmp_path: Path) -> None:
    recipe = tiny(optimizer="sgd", lr=0.05)
    whole = _run(tmp_path / "whole", recipe, states=None)
    with pytest.raises(Killed):
        _run(tmp_path / "out", recipe, states=tmp_path / "states", fail=_at(3, Killed()))

    assert _weights(_run(tmp_path / "out", recipe, states=tmp_path / "states")) == _weights(whole)


def test_fingerprint__changes_with_everything_the_weights_follow_from() -> None:
    catalogue = coloured_shapes()
    same = fingerprint(catalogue, TINY, seed=0, tokens=None)
    pixels = catalogue.pixels.copy()
    pixels[-1, -1, -1, -1] ^= 1
    items = list(catalogue.items)
    items[-1] = dataclasses.replace(items[-1], texts=("Another",))

    assert fingerprint(coloured_shapes(), TINY, seed=0, tokens=None) == same
    others = [
        fingerprint(catalogue, TINY, seed=1, tokens=None),
        fingerprint(catalogue, tiny(lr=1e-4), seed=0, tokens=None),
        fingerprint(dataclasses.replace(catalogue, pixels=pixels), TINY, seed=0, tokens=None),
        fingerprint(dataclasses.replace(catalogue, items=items), TINY, seed=0, tokens=None),
    ]
    assert len({same, *others}) == 5


def _saved(folder: Path, mark: str = "a") -> StateFolder:
    states = StateFolder(folder, fingerprint=mark)
    states.save(State({"w": torch.arange(6.0).reshape(2, 3).T}, {"step": 7}))
    return states


def test_state_folder__gives_back_what_was_saved(tmp_path: Path) -> None:
    state = _saved(tmp_path / "s").load()

    assert state is not None
    assert torch.equal(state.tensors["w"], torch.arange(6.0).reshape(2, 3).T)
    assert state.values == {"step": 7}


@pytest.mark.parametrize("damage", ["other", "cut", "junk"])
def test_state_folder__what_does_not_fit_is_said_and_not_used(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _saved(tmp_path).path
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "junk":
        path.write_bytes(b"junk")

    assert StateFolder(tmp_path, fingerprint="b" if damage == "other" else "a").load() is None
    assert "the run starts over" in caplog.text


def test_state_folder__a_save_that_fails_leaves_the_last_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    states = _saved(tmp_path)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "_flush", full)
    states.save_if_possible(State({"w": torch.zeros(1)}, {"step": 8}))

    assert "No space left" in caplog.text
    found = states.load()
    assert found is not None
    assert found.values == {"step": 7}
    assert [path.name for path in tmp_path.iterdir()] == [STATE_NAME]


def test_state_folder__saves_no_more_often_than_it_may_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(resume, "MAX_SHARE", 0.02)
    monkeypatch.setattr(resume.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(resume, "_flush", lambda _: clock.__setitem__(0, clock[0] + 5.0))
    states = StateFolder(tmp_path, fingerprint="a", every_s=60.0)
    clock[0] = 60.0
    assert states.due
    states.save(State({"w": torch.zeros(1)}, {}))  # takes ten seconds
    for after, due in ((60.0, False), (490.0, False), (510.0, True)):
        clock[0] = 60.0 + after + 10.0
        assert states.due is due


def test_stopping__a_thread_changes_no_handler() -> None:
    from visualsearch.ml.stopping import stopped_by_signals

    seen: list[object] = []

    def enter() -> None:
        with stopped_by_signals() as stop:
            seen.extend([stop(), signal.getsignal(signal.SIGTERM)])

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [None, before]
