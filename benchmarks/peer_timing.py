"""Asks one engine the queries of one filter: recall, rows, milliseconds, and queries a second.

An engine that is slow is asked fewer queries: what was measured until the time was up counts, and
the figures say how many there were.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.peer_workload import Case, Workload

CLIENTS = 4
LEAST = 3
"""Queries that are asked however long they take."""
TIE = 1e-5
"""Scores that differ by less are equal."""
SCANS = 15

Ask = Callable[[int], list[int]]
"""Of one query, by its number, the positions of the vectors found."""
Clock = Callable[[], float]
"""Milliseconds of CPU used so far."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one engine is asked under one filter."""

    queries: int
    seconds: float
    """For one client's queries at most; four at once ask for half as long."""


def case(ask: Ask, workload: Workload, given: Case, *, limits: Limits, clock: Clock) -> Any:
    """Everything about one engine under one filter."""
    figures = speed(ask, limits=limits, clock=clock)
    answers = figures.pop("answers")
    right = rows = short = 0
    for number, found in enumerate(answers):
        scores = workload.vectors[found] @ workload.asked[number]
        right += int((scores >= given.bars[number] - TIE).sum())
        rows += len(found)
        short += len(found) < given.wanted
    recall = min(1.0, right / (given.wanted * len(answers)))
    return {
        "recall_at_10": round(recall, 4),
        "rows": round(rows / len(answers), 2),
        "rows_there_are": given.wanted,
        "answers_with_too_few_rows": short,
        **figures,
    }


def speed(ask: Ask, *, limits: Limits, clock: Clock) -> dict[str, Any]:
    """Milliseconds and queries a second; with the `answers` of the queries that there was time for."""
    ask(0)  # the first query of a kind opens, loads and plans
    times, used, answers = [], [], []
    end = time.perf_counter() + limits.seconds
    for number in range(limits.queries):
        cpu, began = clock(), time.perf_counter()
        answers.append(ask(number))
        times.append((time.perf_counter() - began) * 1000)
        used.append(clock() - cpu)
        if time.perf_counter() > end and len(times) >= LEAST:
            break
    found: dict[str, Any] = {
        "answers": answers,
        "queries": len(times),
        "p50_ms": round(statistics.median(times), 3),
        "p95_ms": round(statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0], 3),
        "p50_cpu_ms": round(statistics.median(used), 3),
        "qps_1": round(len(times) * 1000 / sum(times), 1),
        f"qps_{CLIENTS}": round(_at_once(ask, len(times), limits.seconds / 2), 1),
    }
    if len(times) < limits.queries:
        found["stopped"] = f"after {len(times)} of {limits.queries} queries: the time was up"
    return found


def scan(workload: Workload) -> float:
    """Milliseconds in which numpy compares one query with all vectors: how fast this process is now."""
    times = []
    for number in range(SCANS):
        began = time.perf_counter()
        workload.vectors @ workload.asked[number % len(workload.asked)]
        times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 3)


def _at_once(ask: Ask, queries: int, seconds: float) -> float:
    """Queries a second that clients get who each ask the next as soon as one is answered."""
    answered = [0] * CLIENTS
    began = time.perf_counter()

    def client(own: int) -> None:
        while not answered[own] or time.perf_counter() - began < seconds:
            ask((own + CLIENTS * answered[own]) % queries)
            answered[own] += 1
        _close_connections()

    threads = [threading.Thread(target=client, args=(own,)) for own in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answered) / (time.perf_counter() - began)


def _close_connections() -> None:
    """Of this thread to the database, where there is one."""
    from django.conf import settings

    if settings.configured:
        from django.db import connections

        connections.close_all()
