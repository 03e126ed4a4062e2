"""The Celery app and its workers: what goes where, JSON only, no torch in the master."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from workers import gpu
from workers.celery import app


def queue_of(task: str) -> str:
    queue = app.amqp.router.route({}, task)["queue"]
    return str(getattr(queue, "name", queue))


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("visualsearch.encode_query", "interactive"),
        ("visualsearch.index_pending", "embed"),
        ("visualsearch.sweep", "embed"),
        ("visualsearch.run_queued_training", "train"),
    ],
)
def test_routes__bulk_work_never_shares_the_shoppers_queue(task: str, queue: str) -> None:
    assert queue_of(task) == queue


def test_beat__every_scheduled_task_exists_and_expires() -> None:
    app.loader.import_default_modules()
    for name, entry in app.conf.beat_schedule.items():
        assert entry["task"] in app.tasks, name
        assert entry["options"]["expires"] > 0, name
        assert entry["options"]["queue"] == queue_of(entry["task"]), name


def test_app__speaks_json_only() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == app.conf.result_serializer == "json"
    assert app.conf.worker_prefetch_multiplier == 1


def test_worker__runs_a_task_and_its_master_never_loads_torch(
    celery_worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    worker = celery_worker_process("embed")

    app.send_task("visualsearch.index_pending", queue="embed")

    eventually(
        lambda: (
            "visualsearch.index_pending" in (text := worker.log.read_text()) and "succeeded" in text
        ),
        within=30,
        what="the task to succeed",
    )
    loaded = {Path(mapped.path).name for mapped in psutil.Process(worker.pid).memory_maps()}
    assert not {name for name in loaded if name.startswith(("libtorch", "libcuda"))}


def test_worker__refuses_pickle_and_goes_on(
    celery_worker_process: Callable[..., Any], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "evil"),)

    worker = celery_worker_process("embed")

    app.send_task("visualsearch.index_pending", args=[Evil()], queue="embed", serializer="pickle")
    app.send_task("visualsearch.index_pending", queue="embed")

    eventually(
        lambda: "disallowed" in (text := worker.log.read_text()).lower() and "succeeded" in text,
        within=30,
        what="the refusal and the next task",
    )
    assert not (tmp_path / "evil").exists()


def test_threads_per_child__the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_THREADS", "3")
    assert gpu.threads_per_child() == 3

    monkeypatch.setenv("WORKER_THREADS", "many")
    assert gpu.threads_per_child() >= 1


def test_prepare__a_worker_can_give_way_to_the_pages(
    celery_worker_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    worker = celery_worker_process(
        "train", environment={"WORKER_NICE": "10", "WORKER_WARM_UP": "0"}
    )

    (child,) = psutil.Process(worker.pid).children()
    eventually(lambda: child.nice() >= 10, what="the child to be nice")
    assert psutil.Process(worker.pid).nice() < child.nice()


def test_warm_up__without_a_checkpoint_says_so(db: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    gpu.warm_up()

    assert "No live checkpoint" in caplog.text
