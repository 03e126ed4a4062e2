"""Two processes under torchrun learn what one would, and end with the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.ml import two_processes
from visualsearch.ml import encoders, stepping
from visualsearch.ml import train as training
from visualsearch.ml.distributed import World, local_device
from visualsearch.ml.manifest import Manifest


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes on this machine's CPU wrote down."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.ml.two_processes", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        # What the program replaces for good is put back.
        patch.setattr(encoders, "build_trunk", encoders.build_trunk)
        patch.setattr(stepping, "has_bfloat16", stepping.has_bfloat16)
        patch.setattr(training, "export_onnx", training.export_onnx)
        two_processes.main(folder)
    return folder


def test_a_step__of_two_processes_is_that_of_one_on_the_whole_batch(
    together: Path, alone: Path
) -> None:
    expected = torch.load(alone / "step-0.pt", weights_only=True)
    assert len(expected["gradients"]) > 20
    for rank in (0, 1):
        step = torch.load(together / f"step-{rank}.pt", weights_only=True)
        assert step["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert step["gradients"].keys() == expected["gradients"].keys()
        for name, gradient in step["gradients"].items():
            assert torch.allclose(gradient, expected["gradients"][name], atol=1e-5), name


def test_a_run__ends_with_the_same_weights_in_both_processes(together: Path) -> None:
    first, second = (
        torch.load(together / f"weights-{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert len(first) == len(second) > 5
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_run__only_the_first_process_reports_and_writes(together: Path) -> None:
    manifest = Manifest.load(together / "checkpoint")
    assert [epoch["epoch"] for epoch in manifest.metrics["epochs"]] == [1.0, 2.0]
    assert "validation MRR" in manifest.metrics["epochs"][0]
    stages = (together / "reports-0").read_text().split()
    assert set(stages) == {"prepare", "train", "evaluate", "export"}
    assert not (together / "reports-1").exists()
    assert not (together / "states").exists()


@pytest.mark.parametrize(("count", "size"), [(30, 2), (31, 4), (3, 4), (0, 2)])
def test_world__parts_cover_all_rows_once(count: int, size: int) -> None:
    rows = [row for rank in range(size) for row in range(count)[World(rank, size).part(count)]]
    assert rows == list(range(count))


def test_local_device__each_process_of_a_machine_has_its_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device(torch.device("cuda")) == torch.device("cuda", 3)
    assert local_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert local_device(torch.device("cpu")) == torch.device("cpu")
