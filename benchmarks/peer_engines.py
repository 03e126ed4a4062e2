"""The engines that a shop might pick instead, and one of them measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import queue
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import peer_libraries, peer_stores, peer_timing, peer_workload
from benchmarks.peer_libraries import Search
from benchmarks.peer_timing import Ask, Limits
from benchmarks.peer_workload import NO_FILTER, Case, Floats, K

LADDER = (40, 100, 200, 400, 800)
"""Values of ef, of which the first is taken that reaches the GOAL without a filter."""
GOAL = 0.98


@dataclass(frozen=True, kw_only=True)
class Engine:
    build: Callable[[Floats, Any, Path], Search]
    package: str
    has_ef: bool = False
    """Whether it has a graph that is searched with an ef."""


ENGINES = {
    "faiss, HNSW": Engine(build=peer_libraries.faiss_hnsw, package="faiss-cpu", has_ef=True),
    "faiss, flat": Engine(build=peer_libraries.faiss_flat, package="faiss-cpu"),
    "hnswlib": Engine(build=peer_libraries.hnswlib, package="hnswlib", has_ef=True),
    "qdrant-client, local": Engine(build=peer_stores.qdrant, package="qdrant-client"),
    "milvus-lite, HNSW": Engine(build=peer_stores.milvus, package="milvus-lite", has_ef=True),
    "sqlite-vec": Engine(build=peer_stores.sqlite_vec, package="sqlite-vec"),
    "lancedb, flat": Engine(build=peer_stores.lancedb_flat, package="lancedb"),
    "lancedb, HNSW": Engine(build=peer_stores.lancedb_hnsw, package="lancedb", has_ef=True),
}


def measure(
    name: str,
    workload_folder: Path,
    *,
    limits: Limits,
    most_seconds: float,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Figures of one engine, in a process whose memory is that engine's alone.

    `keep` is given what there is after each filter. After `most_seconds` the process is ended; what
    it said until then counts.
    """
    context = multiprocessing.get_context("spawn")
    said: Any = context.Queue()
    process = context.Process(
        target=_child, args=(name, str(workload_folder), limits, said), daemon=False
    )
    process.start()
    found: dict[str, Any] = {"cases": {}}
    end = time.monotonic() + most_seconds
    is_over = False
    while not is_over and time.monotonic() < end:
        try:
            key, value = said.get(timeout=1)
        except queue.Empty:
            if not process.is_alive() and said.empty():
                found["failed"] = f"ended with status {process.exitcode}"
                is_over = True
            continue
        is_over = key == "over"
        if key == "case":
            found["cases"] |= value
        elif not is_over:
            found |= value
        keep(found)
    if not is_over:
        found["stopped"] = f"after {most_seconds:g} s, {len(found['cases'])} filters measured"
        keep(found)
        process.terminate()
    process.join(10)
    if process.is_alive():
        process.kill()
        process.join()
    return found


def _child(name: str, folder: str, limits: Limits, said: Any) -> None:
    """Says ("about", figures), ("case", {filter: figures}) and at last ("over", None)."""
    workload = peer_workload.load(Path(folder))
    assert workload is not None
    engine = ENGINES[name]
    with tempfile.TemporaryDirectory(prefix="vs-peer-") as own:
        try:
            _measure(engine, workload, Path(own), limits=limits, say=said.put)
        except ImportError as error:
            said.put(("about", {"missing": str(error)}))
        except Exception as error:
            said.put(("about", {"failed": f"{type(error).__name__}: {error}"[:300]}))
        said.put(("over", None))


def _measure(engine: Engine, workload: Any, own: Path, *, limits: Limits, say: Any) -> None:
    about: dict[str, Any] = {"numpy_scan_ms": peer_timing.scan(workload)}
    before = _resident()
    began = time.perf_counter()
    search = engine.build(workload.vectors, workload.fields, own)
    about |= {
        "version": metadata.version(engine.package),
        "build_seconds": round(time.perf_counter() - began, 2),
        "memory_mib": round((_resident() - before) / 2**20, 1),
        "disk_mib": round(_on_disk(own) / 2**20, 1),
    }
    say(("about", about))

    def measured(case: Case, ef: int) -> Any:
        ask: Ask = lambda number: search(workload.asked[number], case.given, K, ef)  # noqa: E731
        return peer_timing.case(ask, workload, case, limits=limits, clock=_cpu)

    ef = LADDER[0]
    for ef in LADDER if engine.has_ef else ():
        if measured(workload.cases[NO_FILTER], ef)["recall_at_10"] >= GOAL:
            break
    for name, case in workload.cases.items():
        say(("case", {name: measured(case, ef)}))
    if engine.has_ef:
        say(("about", {"ef": ef}))
    say(("about", {"memory_after_mib": round((_resident() - before) / 2**20, 1)}))


def _cpu() -> float:
    return time.process_time() * 1000


def _resident() -> int:
    """Bytes of memory that this process holds, and those that it started."""
    import psutil

    me = psutil.Process()
    return sum(each.memory_info().rss for each in (me, *me.children(recursive=True)))


def _on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
