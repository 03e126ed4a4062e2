"""Faults on purpose: real workers and servers, a seeded schedule, figures for `make chaos`.

CHAOS=long takes the numbers of kills, restarts and edits of docs/operations.md, else those of a
profile of some minutes. CHAOS_SEED repeats a schedule, CHAOS_FIGURES is a folder for the figures.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.chaos import invariants
from tests.chaos.postgres_server import patiently, set_durable
from tests.chaos.redis_server import RedisServer
from tests.conftest import ROOT

IS_LONG = os.environ.get("CHAOS") == "long"
CIRCLES = 20
"""An index that is at work for so many times as long as it may stand still will never be done."""


@pytest.fixture
def amount() -> Callable[[int, int], int]:
    """How much of something: `amount(3, 200)` is 3, and 200 in the long profile."""
    return lambda short, long: long if IS_LONG else short


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The schedule of this test; the same seed gives the same draws."""
    seed = os.environ.get("CHAOS_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"CHAOS_SEED={seed}")
    request.node.user_properties.append(("seed", seed))
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What the test counted; kept for `make chaos` if the test gets to its end."""
    found: dict[str, Any] = {}
    began = time.monotonic()
    yield found
    folder = os.environ.get("CHAOS_FIGURES")
    if folder and found:
        seeds = [value for name, value in request.node.user_properties if name == "seed"]
        record = {"test": request.node.name, "seed": seeds[0] if seeds else None, **found}
        record["test_seconds"] = round(time.monotonic() - began, 1)
        (Path(folder) / f"{request.node.name}.json").write_text(json.dumps(record))


@pytest.fixture
def start_worker(
    celery_worker_process: Callable[..., Any], start_beat: Callable[..., Any]
) -> Callable[..., Any]:
    """A worker with settings: `start_worker("SlowEncoder", BATCH_SIZE=4)`; a beat runs beside it."""

    def start(
        encoder: str = "",
        *,
        queue: str = "embed",
        env: Mapping[str, str] = MappingProxyType({}),
        **settings: Any,
    ) -> Any:
        if encoder:
            settings["ENCODER"] = f"tests.chaos.encoders.{encoder}"
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS_VISUALSEARCH": json.dumps(settings),
            "WORKER_WARM_UP": "0",
            **env,
        }
        start_beat(environment)
        return celery_worker_process(queue, environment=environment)

    return start


@pytest.fixture
def start_beat(
    worker_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[[dict[str, str]], None]]:
    """The clock that has workers poll: a process of its own, which the kills of workers spare."""
    started: list[subprocess.Popen[bytes]] = []

    def start(environment: dict[str, str]) -> None:
        if started:
            return
        command = [sys.executable, "-m", "celery", "-A", "workers.celery", "beat"]
        command += ["-s", str(tmp_path / "schedule"), "--pidfile="]
        with (tmp_path / "beat.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=worker_environment | environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    yield start
    for beat in started:
        beat.kill()
        beat.wait()


def come_to_rest(*, within: float) -> float:
    """Wait until the index is at rest; the seconds it took.

    How long it takes is a figure and no verdict, as it is the machine's affair: what fails is an
    index in which nothing happens for `within` seconds, or one that goes round in circles.
    """
    began = moved = time.monotonic()
    before = invariants.progress()
    while not invariants.is_at_rest():
        now, found = time.monotonic(), invariants.progress()
        if found != before:
            before, moved = found, now
        assert now - moved < within and now - began < CIRCLES * within, (
            f"at {found} for {now - moved:.0f} s, at work for {now - began:.0f} s: "
            f"{invariants.examine()}"
        )
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture
def converge(figures: dict[str, Any]) -> Callable[..., invariants.State]:
    """Wait until the index is at rest, then look at every photo; the state that was found."""

    def wait(*, within: float) -> invariants.State:
        seconds = round(come_to_rest(within=within), 2)
        figures["seconds"] = max(seconds, figures.get("seconds", 0))
        state = invariants.examine()
        figures["lost"] = figures.get("lost", 0) + state.lost + state.stale + state.ghosts
        return state

    return wait


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this test's own, to be killed, frozen and flushed."""
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def commits_survive_a_crash(transactional_db: None) -> Iterator[None]:
    """As on a server that is set up as it should be."""
    set_durable(on=True)
    yield
    patiently(lambda: set_durable(on=False))
