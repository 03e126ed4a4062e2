"""The product page's time when worker, Redis, vector index or checkpoint are gone, against all being there.

`python -m benchmarks.page_alone` asks the shop over HTTP. Each thing is taken away in turn, and the
page is asked for in turns with and without it, as often as `--times` says; what is compared are medians
of one run, so that a busy machine slows both alike, and what the web server computed for it.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psutil

from benchmarks import page_stack, record
from benchmarks.stack import Stack

ROUNDS = 5
WIDGET = re.compile(r'<section class="visual-similar".*?</section>', re.DOTALL)
NOBODY = "redis://127.0.0.1:1/0"
"""Nothing listens there."""


def ask(address: str) -> tuple[str, float]:
    """The page and its milliseconds."""
    began = time.perf_counter()
    with urllib.request.urlopen(address, timeout=60) as response:
        body = response.read().decode()
    return body, 1000 * (time.perf_counter() - began)


def processor_ms(address: str) -> float:
    """Milliseconds that the web server behind `address` has computed so far: busy neighbours cost it none."""
    bound = f"127.0.0.1:{urllib.parse.urlsplit(address).port}"
    milliseconds = 0.0
    for each in psutil.Process().children(recursive=True):
        # A child of PostgreSQL's may have ended just now.
        with contextlib.suppress(psutil.NoSuchProcess):
            if bound in each.cmdline():
                spent = each.cpu_times()
                milliseconds += 1000 * (spent.user + spent.system)
    return milliseconds


@contextmanager
def worker(services: Stack) -> Iterator[None]:
    """A worker that waits for work, as in a running shop."""
    with services.process(services.worker_command("embed,interactive")):
        time.sleep(5)
        yield


@contextmanager
def no_checkpoint() -> Iterator[None]:
    from visualsearch.models import Checkpoint

    live = Checkpoint.objects.filter(state=Checkpoint.State.LIVE)
    names = list(live.values_list("name", flat=True))
    live.update(state=Checkpoint.State.RETIRED)
    try:
        yield
    finally:
        Checkpoint.objects.filter(name__in=names).update(state=Checkpoint.State.LIVE)


@contextmanager
def no_tables() -> Iterator[None]:
    """The vectors and what is computed from them: the tables do not answer to their names."""
    from django.db import connection

    from visualsearch.models import Embedding, SimilarProduct

    tables = [model._meta.db_table for model in (SimilarProduct, Embedding)]
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_lost")
        try:
            yield
        finally:
            for table in tables:
                cursor.execute(f"ALTER TABLE {table}_lost RENAME TO {table}")


def compare(
    whole: str, other: str, gone: Callable[[], AbstractContextManager[Any]], *, times: int
) -> dict[str, Any]:
    """Medians of the page with everything there and with one thing gone, in turns."""
    seen: dict[str, list[float]] = {"before": [], "without": []}
    computed = {"before": 0.0, "without": 0.0}
    pages: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name, address, taken in (
            ("before", whole, contextlib.nullcontext),
            ("without", other, gone),
        ):
            with taken():
                ask(address)
                computed[name] -= processor_ms(address)
                for _ in range(times):
                    pages[name], milliseconds = ask(address)
                    seen[name].append(milliseconds)
                computed[name] += processor_ms(address)
    before, without = (statistics.median(seen[name]) for name in ("before", "without"))
    return {
        "before_ms": round(before, 2),
        "without_ms": round(without, 2),
        "ratio": round(without / before, 3),
        "before_web_cpu_ms": round(computed["before"] / (ROUNDS * times), 2),
        "without_web_cpu_ms": round(computed["without"] / (ROUNDS * times), 2),
        "web_cpu_ratio": round(computed["without"] / max(computed["before"], 1e-9), 3),
        "widget": bool(WIDGET.search(pages["without"])),
    }


def against(there: dict[str, Any], gone: dict[str, Any]) -> dict[str, Any]:
    """One thing that cannot be taken away in turns: two measurements, one after the other."""
    return {
        "before_ms": there["before_ms"],
        "without_ms": gone["before_ms"],
        "ratio": round(gone["before_ms"] / there["before_ms"], 3),
        "before_web_cpu_ms": there["before_web_cpu_ms"],
        "without_web_cpu_ms": gone["before_web_cpu_ms"],
        "web_cpu_ratio": round(
            gone["before_web_cpu_ms"] / max(there["before_web_cpu_ms"], 1e-9), 3
        ),
        "widget": gone["widget"],
    }


def run(*, times: int) -> dict[str, Any]:
    """Measure; results/page_alone.json."""
    found: dict[str, Any] = {}
    with page_stack.start() as (services, path), contextlib.ExitStack() as at_work:
        web = at_work.enter_context(services.web(settings=page_stack.SETTINGS))
        lonely = at_work.enter_context(_without_redis(services))
        whole, alone = web + path, lonely + path
        for address in (whole, alone):
            for _ in range(10):
                ask(address)
        body, _ = ask(whole)
        if not WIDGET.search(body):
            raise SystemExit(f"{whole} has no widget, so there is nothing to take away.")
        with worker(services):
            cases: dict[str, tuple[str, Callable[[], AbstractContextManager[Any]]]] = {
                "nothing (the same page twice)": (whole, contextlib.nullcontext),
                "Redis": (alone, contextlib.nullcontext),
                "checkpoint": (whole, no_checkpoint),
                "vector index and neighbours": (whole, no_tables),
            }
            for name, (other, gone) in cases.items():
                found[name] = compare(whole, other, gone, times=times)
                print(f"{name:32s} {found[name]}", flush=True)
            at_hand = compare(whole, whole, contextlib.nullcontext, times=times)
        missing = compare(whole, whole, contextlib.nullcontext, times=times)
        found["worker"] = against(at_hand, missing)
        print(f"{'worker':32s} {found['worker']}", flush=True)
    figures = {"requests_each": ROUNDS * times, "page_without": found}
    print(f"written to {record.write('page_alone', figures)}")
    return figures


@contextmanager
def _without_redis(services: Stack) -> Iterator[str]:
    """The shop with the address of a Redis that is not there."""
    kept = services.environment["REDIS_URL"]
    services.environment["REDIS_URL"] = NOBODY
    try:
        with services.web(settings=page_stack.SETTINGS) as url:
            services.environment["REDIS_URL"] = kept
            yield url
    finally:
        services.environment["REDIS_URL"] = kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="requests a round, of five rounds")
    run(**vars(parser.parse_args()))
