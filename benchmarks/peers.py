"""Our search beside its floors and beside other vector engines: recall, speed, memory, build.

All search for the same vectors under the same filters. Ours gives the shop's products with their
prices and titles, filtered and loaded in Postgres; the others give positions of vectors, nothing
more: whatever the page shows has to be fetched, and what was sold out or hidden since has to be
kept in step by the shop. Each engine has a process of its own and is written to
results/peers_N.json as it goes, so a run that is stopped loses nothing, and `--engines` measures
some of them anew. One that is not installed (`pip install -e ".[bench]"`) is reported as missing.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from benchmarks import peer_engines, peer_shop, peer_workload, planted, record, stack
from benchmarks.peer_timing import Limits
from benchmarks.peer_workload import K

SHOP = "visualsearch"
"""Ours and its floors, which are measured together."""


def run(
    *,
    name: str,
    products: int,
    width: int,
    queries: int,
    seconds: float,
    engine_seconds: float,
    engines: list[str],
    build_only: bool = False,
) -> None:
    """Write results/peers_N.json; the shop of a run before is used again if it has that size."""
    name = f"{name}_{products}"
    folder = stack.ROOT / "var" / name / "workload"
    workload = peer_workload.load(folder)
    figures = _Figures(products, width=width, queries=queries)
    limits = Limits(queries=queries, seconds=seconds)
    is_there = workload is not None and workload.asked.shape == (queries, width)
    if SHOP in engines or not is_there:
        with stack.start(name) as services:
            _set_up_django(services)
            if workload is None or not is_there:
                workload = peer_shop.build(products, width=width, queries=queries, folder=folder)
            if SHOP in engines and not build_only:
                for part, found in peer_shop.measure(workload, limits=limits):
                    figures.keep(part, found, limits)
                    print(part, list(found["cases"])[-1], flush=True)
    for engine in [] if build_only else engines:
        if engine != SHOP:
            peer_engines.measure(
                engine,
                folder,
                limits=limits,
                most_seconds=engine_seconds,
                keep=lambda found, engine=engine: figures.keep(engine, found, limits),  # type: ignore[misc]
            )
            print(engine, "done", flush=True)
    _print(figures.all)


class _Figures:
    """The file of results, written anew whenever a part of it has come."""

    def __init__(self, products: int, *, width: int, queries: int) -> None:
        self.name = f"peers_{products}"
        self.all: dict[str, Any] = {"products": products, "width": width, "k": K, "engines": {}}
        before = record.RESULTS / f"{self.name}.json"
        if before.exists():
            found = json.loads(before.read_text())["figures"]
            if all(found[key] == self.all[key] for key in ("products", "width", "k")):
                self.all = found

    def keep(self, part: str, found: dict[str, Any], limits: Limits) -> None:
        how = {
            "commit": record.commit(),
            "queries_at_most": limits.queries,
            "seconds_at_most": limits.seconds,
        }
        self.all["engines"][part] = found | how
        record.write(self.name, self.all)


def _set_up_django(services: stack.Stack) -> None:
    os.environ.update(
        services.environment
        | {"DJANGO_SETTINGS_MODULE": "benchmarks.load_settings", "ENCODER": planted.ENCODER}
    )
    services.manage("migrate", "--verbosity", "0")
    import django

    django.setup()


def _print(figures: dict[str, Any]) -> None:
    for engine, found in figures["engines"].items():
        if not found.get("cases"):
            print(f"{engine}: {found}")
        for case, row in found.get("cases", {}).items():
            print(
                f"{engine:36s} {case:16s} recall {row.get('recall_at_10', 1.0):.3f}  "
                f"rows {row.get('rows', 1):5}  p50 {row['p50_ms']:8.3f}  p95 {row['p95_ms']:8.3f}  "
                f"CPU {row['p50_cpu_ms']:8.3f} ms  {row['qps_1']:8.1f} and {row['qps_4']:8.1f} a "
                f"second  of {row['queries']}"
            )


def arguments(parser: argparse.ArgumentParser) -> None:
    everything = [SHOP, *peer_engines.ENGINES]
    parser.add_argument("--name", default="peers", help="of the data's folders")
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=100, help="under each filter, at most")
    parser.add_argument("--seconds", type=float, default=2.0, help="for them, at most")
    parser.add_argument("--engine-seconds", type=float, default=600.0, help="for one other engine")
    parser.add_argument("--engines", nargs="*", default=everything, choices=everything)
    parser.add_argument(
        "--build-only", action="store_true", help="make the shop and its index, measure nothing"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    run(**vars(parser.parse_args()))
