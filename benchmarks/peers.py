"""Our search beside its floors and beside other vector engines: recall, speed, memory, build.

Ours is `searching.search` as the views call it: the shop's products with their prices and titles,
filtered and loaded in Postgres. The others give positions of vectors, nothing more: whatever the
page shows has to be fetched, and what was sold out or hidden since has to be kept in step by the
shop. The floors are SELECT 1 and the bare HNSW statement, as pgvector's manual has it, with and
without its iterative scan. All search for the same vectors, in one run, each engine in a process of
its own; one that is not installed (`pip install -e ".[bench]"`) is reported as missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import peer_engines, planted, record, stack

K = 10
LADDER = (40, 100, 200, 400, 800)
GOAL = 0.98
SELECTIVITIES = (50.0, 10.0, 2.0, 0.2)
CLIENTS = (1, 4)
TIE = 1e-5

Ask = Callable[[Any], list[int]]
"""Of one query, positions of the vectors found."""


def run(
    *, name: str, products: int, width: int, queries: int, engines: list[str], write: bool = True
) -> dict[str, Any]:
    """Write results/peers.json."""
    with stack.start(name) as services:
        os.environ.update(
            services.environment
            | {"DJANGO_SETTINGS_MODULE": "benchmarks.load_settings", "ENCODER": planted.ENCODER}
        )
        services.manage("migrate", "--verbosity", "0")
        import django

        django.setup()
        figures = measure(products=products, width=width, queries=queries, engines=engines)
    _print(figures)
    if write:
        print(f"written to {record.write('peers', figures)}")
    return figures


def measure(*, products: int, width: int, queries: int, engines: list[str]) -> dict[str, Any]:
    """Everything by engine; `engines` are names of peer_engines.ENGINES."""
    import numpy as np

    checkpoint, keys, vectors = planted.make(products, width=width)
    random = np.random.default_rng(5)
    axis = int(random.integers(products))
    ranks = np.empty(products, dtype=np.int64)
    order = np.argsort(-(vectors @ vectors[axis]), kind="stable")
    ranks[order] = np.arange(products)
    planted.set_prices(keys, ranks)
    # In Postgres a filter by chance is a range of prices too: the same column as in the others.
    near = vectors[order[: max(1, queries)]]
    noise = random.normal(size=near.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    asked = near + 0.3 * noise
    asked = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)
    chance = random.permutation(products)
    planted.set_stocks(keys, chance)
    fields = {"chance": chance, "rank": ranks}
    cases: dict[str, peer_engines.Range | None] = {"no filter": None}
    for percent in SELECTIVITIES:
        count = planted.matches(percent, products)
        cases |= {
            f"{percent:g} % by chance": peer_engines.Range("chance", 0, count),
            f"{percent:g} % nearest": peer_engines.Range("rank", 0, count),
            f"{percent:g} % farthest": peer_engines.Range("rank", products - count, products),
        }
    truth = {case: _truth(vectors, asked, fields, given) for case, given in cases.items()}
    found: dict[str, Any] = {"SELECT 1": _floor(len(asked))}
    ours = _ours(checkpoint, keys, asked, cases, truth)
    found |= ours
    with tempfile.TemporaryDirectory(prefix="vs-peers-") as folder:
        np.savez(Path(folder) / "data.npz", vectors=vectors, asked=asked, **fields)
        (Path(folder) / "cases.json").write_text(
            json.dumps(
                {
                    case: {
                        "range": [given.field, given.low, given.high] if given else None,
                        "bars": truth[case][0].tolist(),
                        "wanted": truth[case][1],
                    }
                    for case, given in cases.items()
                }
            )
        )
        for engine in engines:
            found[engine] = _apart(engine, Path(folder))
            print(f"{engine}: done", flush=True)
    return {
        "products": products,
        "width": width,
        "queries": len(asked),
        "k": K,
        "engines": found,
    }


def _truth(vectors: Any, asked: Any, fields: Any, given: Any) -> tuple[Any, int]:
    """Score of the last of the true nearest for each query, and how many there are."""
    import numpy as np

    scores = asked @ vectors.T
    if given is not None:
        there = (fields[given.field] >= given.low) & (fields[given.field] < given.high)
        scores = np.where(there, scores, -np.inf)
        wanted = min(K, int(there.sum()))
    else:
        wanted = min(K, len(vectors))
    return np.partition(scores, -wanted, axis=1)[:, -wanted], wanted


def _floor(count: int) -> dict[str, Any]:
    from django.db import connection

    def ask(number: int) -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return [row[0] for row in cursor.fetchall()]

    return {"cases": {"no filter": _speed(ask, list(range(count)))}}


def _ours(checkpoint: Any, keys: Any, asked: Any, cases: Any, truth: Any) -> dict[str, Any]:
    """Our search, and the bare statement with and without iterative scan."""
    import numpy as np
    from django.db import connection, transaction

    from shop.models import Product
    from visualsearch import nearest, partitions, photo_tokens, searching
    from visualsearch.nearest import Kind

    vectors = np.load(_planted_folder() / "planted.npy").astype(np.float16).astype(np.float32)
    tokens = [photo_tokens.make(checkpoint.pk, vector) for vector in asked]
    table = partitions.partition_name(checkpoint)
    ef = nearest.ef_search(checkpoint, Kind.IMAGE)
    built = checkpoint.metrics["seconds"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_table_size(%s::regclass), pg_relation_size(%s::regclass)",
            [table, partitions.index_name(checkpoint)],
        )
        table_bytes, index_bytes = cursor.fetchone()
    shared = {
        "build_seconds": built["embeddings stored"] + built["HNSW index"],
        "memory_mib": None,
        "disk_mib": round((table_bytes + index_bytes) / 2**20, 1),
        "ef": ef,
    }

    def positions(found: list[Any]) -> list[int]:
        return np.searchsorted(keys, found).tolist()

    def queryset(given: Any) -> Any:
        if given is None:
            return None
        name = "stock" if given.field == "chance" else "price"
        return Product.objects.filter(**{f"{name}__gte": given.low, f"{name}__lt": given.high})

    def ours(given: Any) -> Ask:
        def ask(number: int) -> list[int]:
            results = searching.search(image=tokens[number], queryset=queryset(given), limit=K)
            return positions([hit.product.pk for hit in results])

        return ask

    def bare(given: Any, iterative: str) -> Ask:
        where, values = "", []
        if given is not None:
            column = "stock" if given.field == "chance" else "price"
            where = (
                f"JOIN shop_product AS p ON p.id = e.product_id "
                f"WHERE p.{column} >= %s AND p.{column} < %s "
            )
            values = [given.low, given.high]
        statement = (
            f"SELECT e.product_id FROM {table} AS e {where}"
            f"ORDER BY e.vector::halfvec({checkpoint.width}) <#> %s::halfvec({checkpoint.width}) "
            f"LIMIT {K}"
        )

        def ask(number: int) -> list[int]:
            text = "[" + ",".join(f"{each:.6g}" for each in asked[number].tolist()) + "]"
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('hnsw.ef_search', %s, true), "
                    "set_config('hnsw.iterative_scan', %s, true)",
                    [str(ef), iterative],
                )
                cursor.execute(statement, [*values, text])
                return positions([row[0] for row in cursor.fetchall()])

        return ask

    found: dict[str, Any] = {}
    ways: dict[str, Callable[[Any], Ask]] = {
        "visualsearch": ours,
        "bare HNSW statement": lambda given: bare(given, "off"),
        "bare HNSW statement, iterative": lambda given: bare(given, "relaxed_order"),
    }
    for name, way in ways.items():
        by_case = {}
        for case, given in cases.items():
            by_case[case] = _case(way(given), len(asked), vectors, asked, *truth[case])
        found[name] = {"cases": by_case, **shared}
        print(f"{name}: done", flush=True)
    return found


def _planted_folder() -> Path:
    from visualsearch.conf import get_settings

    return get_settings().CHECKPOINT_ROOT / planted.NAME


def _apart(engine: str, folder: Path) -> dict[str, Any]:
    """What `_child` finds in a process of its own, whose memory is that engine's alone."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    process = context.Process(target=_child, args=(engine, str(folder), answers))
    process.start()
    found: dict[str, Any] | None = None
    while found is None and (process.is_alive() or not answers.empty()):
        try:
            found = answers.get(timeout=1)
        except Exception:  # queue.Empty: it is still at work
            continue
    process.join()
    return found or {"failed": f"ended with status {process.exitcode}"}


def _child(engine: str, folder: str, answers: Any) -> None:
    import numpy as np

    data = np.load(Path(folder) / "data.npz")
    vectors, asked = data["vectors"], data["asked"]
    fields = {"chance": data["chance"], "rank": data["rank"]}
    cases = json.loads((Path(folder) / "cases.json").read_text())
    build, has_ef = peer_engines.ENGINES[engine]
    try:
        before = _resident()
        started = time.perf_counter()
        search = build(vectors, fields)
        seconds = time.perf_counter() - started
        memory = _resident() - before
    except ImportError as error:
        answers.put({"missing": str(error)})
        return
    except Exception as error:
        answers.put({"failed": f"{type(error).__name__}: {error}"[:300]})
        return

    def ask(given: Any, ef: int) -> Ask:
        bounds = peer_engines.Range(*given) if given else None
        return lambda number: search(asked[number], bounds, K, ef)

    def measured(case: dict[str, Any], ef: int) -> dict[str, Any]:
        bars = np.array(case["bars"], dtype=np.float32)
        return _case(ask(case["range"], ef), len(asked), vectors, asked, bars, case["wanted"])

    chosen = LADDER[0]
    for ef in LADDER if has_ef else ():
        chosen = ef
        if measured(cases["no filter"], ef)["recall_at_10"] >= GOAL:
            break
    answers.put(
        {
            "cases": {name: measured(case, chosen) for name, case in cases.items()},
            "build_seconds": round(seconds, 2),
            "memory_mib": round(memory / 2**20, 1),
            "ef": chosen if has_ef else None,
        }
    )


def _case(ask: Ask, count: int, vectors: Any, asked: Any, bars: Any, wanted: int) -> dict[str, Any]:
    """Recall, rows and speed of one engine under one filter."""
    right = rows = 0
    for number in range(count):
        found = ask(number)
        rows += len(found)
        right += sum(float(vectors[row] @ asked[number]) >= bars[number] - TIE for row in found)
    return {
        "recall_at_10": round(min(1.0, right / (wanted * count)), 4),
        "rows": round(rows / count, 2),
        "rows_there_are": wanted,
        **_speed(ask, list(range(count))),
    }


def _speed(ask: Ask, numbers: list[int]) -> dict[str, Any]:
    times = []
    for number in numbers:
        started = time.perf_counter()
        ask(number)
        times.append((time.perf_counter() - started) * 1000)
    found: dict[str, Any] = {
        "p50_ms": round(statistics.median(times), 3),
        "p95_ms": round(statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0], 3),
    }
    for clients in CLIENTS:
        threads = [
            threading.Thread(target=_client, args=(ask, numbers[client::clients]))
            for client in range(clients)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found[f"qps_{clients}"] = round(len(numbers) / (time.perf_counter() - started), 1)
    return found


def _client(ask: Ask, numbers: list[int]) -> None:
    """One client after another's answer, with a database connection of its own."""
    from django.conf import settings

    for number in numbers:
        ask(number)
    if settings.configured:
        from django.db import connections

        connections.close_all()


def _resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _print(figures: dict[str, Any]) -> None:
    for engine, found in figures["engines"].items():
        if "cases" not in found:
            print(f"{engine}: {found}")
            continue
        for case, row in found["cases"].items():
            print(
                f"{engine:32s} {case:18s} recall {row.get('recall_at_10', 1.0):.3f}  "
                f"rows {row.get('rows', 1)}  p50 {row['p50_ms']:8.3f} ms  p95 {row['p95_ms']:8.3f} "
                f"ms  {row['qps_1']:8.1f} and {row['qps_4']:8.1f} a second"
            )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="peers", help="of the data's folders")
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument(
        "--engines",
        nargs="*",
        default=list(peer_engines.ENGINES),
        choices=list(peer_engines.ENGINES),
        help="which others; all of them without it",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    run(**vars(parser.parse_args()))
