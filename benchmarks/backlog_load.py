"""Shoppers' searches over HTTP beside bulk work: idle, and while a worker embeds a whole catalogue again.

The worker runs as docs/operations.md recommends for a machine that serves shoppers as well: with
WORKER_NICE, so that pages go first. Both phases have the same requests at the same rate.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from typing import Any

from benchmarks import record, small_catalogue, stack, untrained
from benchmarks.shoppers import Answer, is_error, load, times, wait

NAME = "backlog"


def run(
    *,
    name: str,
    products: int,
    seconds: float,
    rate: float,
    nice: int,
    recipe: str,
    write: bool = True,
) -> dict[str, Any]:
    """Write results/backlog_load.json."""
    with stack.start(name) as services:
        environment = services.environment | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.load_settings",
            "ENCODER": "visualsearch.testing.FakeEncoder" if recipe == "fake" else "",
        }
        services = dataclasses.replace(services, environment=environment)
        services.manage("migrate", "--verbosity", "0")
        os.environ.update(environment)
        import django

        django.setup()
        small_catalogue.fill(products)
        prepare(recipe)
        worker = services.worker_command("embed")
        with (
            services.web(settings="benchmarks.load_settings") as url,
            services.process(worker, WORKER_NICE=str(nice)),
        ):
            figures = measure(url, seconds=seconds, rate=rate)
    figures = {"products": products, "recipe": recipe, "nice": nice} | figures
    print(json.dumps(figures, indent=2))
    if write:
        print(f"written to {record.write('backlog_load', figures)}")
    return figures


def prepare(recipe: str) -> None:
    """A live checkpoint that knows every product."""
    from visualsearch.testing import fake_checkpoint

    if recipe == "fake":
        untrained.remove(NAME)
        checkpoint = fake_checkpoint(live=False, name=NAME, folder=NAME)
    else:
        checkpoint = untrained.make(recipe, name=NAME, export=True)
    untrained.index(checkpoint, live=True)


def measure(url: str, *, seconds: float, rate: float) -> dict[str, Any]:
    """Answers of both phases: how many, errors, times; and what the worker did meanwhile."""
    from visualsearch.models import Embedding, IndexEntry

    waiting = IndexEntry.objects.filter(status="pending")
    products = list(IndexEntry.objects.values_list("product_id", flat=True)[:5_000])
    wait(lambda: not waiting.exists(), "the worker")
    with load(url, products, rate=rate) as answers:
        wait(lambda: len(answers) > rate, "answers")  # the first ones load what is needed
        answers.clear()
        time.sleep(seconds)
        idle = list(answers)
        # As if every photo had other bytes: each is read, decoded, encoded and written again.
        Embedding.objects.update(content_hash=b"")
        backlog = IndexEntry.objects.all().reopen()
        wait(lambda: waiting.count() < backlog, "the worker to begin")
        answers.clear()
        before, began = waiting.count(), time.monotonic()
        time.sleep(seconds)
        busy, left, spent = list(answers), waiting.count(), time.monotonic() - began
    if not left:
        raise SystemExit(f"The backlog was gone within {seconds:g} s: give more products.")
    phases = {"idle": _summary(idle), "with a backlog": _summary(busy)}
    return {
        "requests_per_second": rate,
        "backlog": backlog,
        "embedded_meanwhile_per_second": round((before - left) / spent, 1),
        "phases": phases,
        "p95_against_idle": round(
            phases["with a backlog"]["p95_ms"] / max(phases["idle"]["p95_ms"], 1e-9), 2
        ),
    }


def _summary(answers: list[Answer]) -> dict[str, Any]:
    return times(answers) | {"errors": sum(is_error(answer) for answer in answers)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="backlog", help="of the data's folders")
    parser.add_argument("--products", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--nice", type=int, default=19, help="WORKER_NICE of the worker")
    parser.add_argument(
        "--recipe", default="default", help='"fake" for a class that stands for the network'
    )
    run(**vars(parser.parse_args()))
