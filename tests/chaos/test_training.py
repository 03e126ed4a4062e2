"""A trainer that is killed again and again ends with the weights of one that was left alone."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import python
from tests.conftest import ROOT
from visualsearch.ml.manifest import sha256_of
from visualsearch.ml.resume import STATE_NAME

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("CHAOS") != "long",
        reason="make chaos: some minutes; tests/ml/test_resume.py kills a trainer once",
    ),
]

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
