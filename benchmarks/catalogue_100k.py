"""A large catalogue of small photos: first index, an edit of 1 %, doctor, memory, and workers killed.

First index: what a training run does after training, in this process, beside the encoder's own
speed on decoded pixels. Then a real embed worker takes over: its memory is read every second while
it embeds 1 % of new photos, and once more while it embeds everything from nothing and is killed
with SIGKILL, child and all, at random moments of the first half; no row that was stored when it
died may be stored again afterwards. The last worker does the rest, and is watched for a while longer.

Memory is what belongs to the worker's processes alone and has no file behind it. Its growth is the
slope of a line through what there was in the second half of the worker's work, by products done.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import record, small_catalogue, stack, untrained

LEASE_SECONDS = 10
AFTERWARDS_S = 60.0
"""A worker that has embedded everything tells other products' lists of it, which takes memory, too."""
NAME = "large"


PARTS = ("first index", "edits", "doctor", "kills")


def run(
    *,
    name: str,
    products: int,
    recipe: str,
    kills: int,
    seed: int,
    parts: list[str],
    write: bool = True,
) -> dict[str, Any]:
    """Write results/catalogue_100k.json; parts that are left out keep the figures they have there.

    All but the first part need the data that an earlier run of the first one has left.
    """
    figures: dict[str, Any] = {"products": products, "recipe": recipe}
    earlier = record.RESULTS / "catalogue_100k.json"
    if parts != list(PARTS) and earlier.exists():
        figures |= json.loads(earlier.read_text())["figures"]
    with stack.start(name) as services:
        environment = services.environment | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.load_settings",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "ENCODER": "visualsearch.testing.FakeEncoder" if recipe == "fake" else "",
        }
        services = dataclasses.replace(services, environment=environment)
        services.manage("migrate", "--verbosity", "0")
        os.environ.update(environment)
        import django

        django.setup()
        from visualsearch.upkeep import pacing

        pacing.introduce()  # it looks on while the worker works, and is no shopper
        if "first index" in parts:
            started = time.monotonic()
            small_catalogue.fill(products)
            figures["seconds_to_draw"] = round(time.monotonic() - started, 1)
            figures["first_index"] = _tell("first index", first_index(recipe))
        if "edits" in parts:
            with embed_worker(services) as worker:
                figures["one_percent_changed"] = _tell("1 % changed", change_some(worker, products))
        if "doctor" in parts:
            figures["doctor"] = _tell("doctor", doctor())
        if "kills" in parts:
            figures["killed"] = _tell("killed", killed(services, kills=kills, seed=seed))
    if write:
        print(f"written to {record.write('catalogue_100k', figures)}")
    return figures


def _tell(what: str, figures: dict[str, Any]) -> dict[str, Any]:
    print(f"{what}: {json.dumps(figures)}", flush=True)
    return figures


# -- first index ----------------------------------------------------------------------------------


def first_index(recipe: str) -> dict[str, Any]:
    """Embed, index, probe, neighbours, promote, with the seconds of each; then the words, as a run does."""
    from visualsearch import encoding
    from visualsearch.lifecycle import promotion, recall
    from visualsearch.models import Checkpoint, Embedding
    from visualsearch.search import spelling
    from visualsearch.tables import partitions
    from visualsearch.testing import fake_checkpoint
    from visualsearch.upkeep import indexing, neighbours

    if recipe == "fake":
        untrained.remove(NAME)
        checkpoint = fake_checkpoint(live=False, name=NAME, folder=NAME)
    else:
        checkpoint = untrained.make(recipe, name=NAME, export=True)
    encoder = encoding.bulk_encoder(checkpoint)
    before = _alone(encoder)
    seconds: dict[str, float] = {}
    for stage, work in {
        "embedding": indexing.embed_checkpoint,
        "indexing": partitions.build_ann_index,
        "probing": recall.probe,
        "neighbours": neighbours.compute,
    }.items():
        started = time.monotonic()
        work(checkpoint)
        seconds[stage] = round(time.monotonic() - started, 2)
    alone = statistics.mean([before, _alone(encoder)])
    embedded = Embedding.objects.filter(checkpoint=checkpoint).count()
    Checkpoint.objects.filter(pk=checkpoint.pk).update(state=Checkpoint.State.READY)
    checkpoint.refresh_from_db()
    promotion.promote(checkpoint)
    spelling.collect()
    speed = embedded / seconds["embedding"]
    return {
        "embedded": embedded,
        "seconds": seconds,
        "products_per_second": round(speed, 1),
        "encoder_alone_per_second": round(alone, 1),
        "share_of_the_encoder": round(speed / alone, 3),
        "recall": checkpoint.recall,
    }


def _alone(encoder: Any, *, seconds: float = 5.0) -> float:
    """Images a second of the encoder on decoded pixels, in the batches that embedding uses."""
    import numpy as np

    from visualsearch.upkeep.embedding import ENCODE_AT_A_TIME

    shape = (ENCODE_AT_A_TIME, encoder.image_size, encoder.image_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    encoder.encode_image(pixels)
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        encoder.encode_image(pixels)
        images += len(pixels)
    return images / (time.perf_counter() - started)


# -- a worker -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sample:
    """The memory of a worker at one moment."""

    at: float
    """Seconds, by time.monotonic()."""
    megabytes: dict[str, float]
    """Of its processes, by what they are."""

    @property
    def total(self) -> float:
        """Without the process that suspects are embedded in, which comes when there are any, and ends."""
        return sum(each for kind, each in self.megabytes.items() if kind != "trial")


class Worker:
    """An embed worker in a session of its own, and the memory of its processes every second."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.samples: list[Sample] = []
        self.done: list[tuple[float, int]] = []
        """Moments, and how many products were done then."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """SIGKILL to every process of it at once."""
        self._stop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        self._stop()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def memory(self) -> dict[str, Any]:
        """In the second half of the products it has done: where it stood, and how it grew."""
        half = self._second_half()
        if len(half) < 4:
            return {"samples": len(self.samples)}
        quarter = len(half) // 4
        early, late = half[:quarter], half[-quarter:]

        def middle(samples: list[Sample]) -> float:
            return round(statistics.median(each.total for each in samples), 1)

        return {
            "samples": len(self.samples),
            "products": self.done[-1][1] - self.done[0][1],
            "second_half": {
                "samples": len(half),
                "megabytes_first_quarter": middle(early),
                "megabytes_last_quarter": middle(late),
                "growth": round(middle(late) / middle(early), 3),
                "megabytes_per_10000_products": round(self._slope(half), 2),
                "megabytes_last": {k: round(v, 1) for k, v in half[-1].megabytes.items()},
            },
            "megabytes_afterwards": middle(self.samples[-5:]),
            "megabytes_most": round(max(sum(s.megabytes.values()) for s in self.samples), 1),
        }

    def _second_half(self) -> list[Sample]:
        import numpy as np

        if not self.done:
            return []
        moments, done = zip(*self.done, strict=True)
        since = np.interp((done[0] + done[-1]) / 2, done, moments)
        return [each for each in self.samples if since <= each.at <= moments[-1]]

    def _slope(self, samples: list[Sample]) -> float:
        import numpy as np

        done = np.interp([each.at for each in samples], *zip(*self.done, strict=True))
        if np.ptp(done) == 0:
            return 0.0
        return float(np.polyfit(done, [each.total for each in samples], 1)[0] * 10_000)

    def _stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        while not self._ended.wait(1.0):
            with contextlib.suppress(psutil.Error, OSError):
                main = psutil.Process(self.process.pid)
                family = [main, *main.children(recursive=True)]
                sizes: dict[str, float] = {}
                for each in family:
                    kind = self._kind(each)
                    sizes[kind] = sizes.get(kind, 0.0) + private_megabytes(each.pid)
                self.samples.append(Sample(time.monotonic(), sizes))

    def _kind(self, process: Any) -> str:
        if process.pid == self.process.pid:
            return "master"
        line = " ".join(process.cmdline())
        if "decoding_child" in line:
            return "decoders"
        if "trial_child" in line:
            return "trial"
        return "child and beat"


def private_megabytes(pid: int) -> float:
    """Memory of one process that no other shares and that has no file behind it."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    # Clean pages can be read again from their file, or are shared by a fork that wrote nothing.
    return int(re.findall(r"^Private_Dirty:\s+(\d+) kB", rollup, re.M)[0]) * 1024 / 1e6


def start_worker(services: stack.Stack) -> Worker:
    command = services.worker_command("embed")
    return Worker(
        subprocess.Popen(command, cwd=stack.ROOT, env=services.environment, start_new_session=True)
    )


@contextlib.contextmanager
def embed_worker(services: stack.Stack) -> Iterator[Worker]:
    worker = start_worker(services)
    try:
        yield worker
    finally:
        worker.end()


def pending() -> int:
    from visualsearch.models import IndexEntry

    return IndexEntry.objects.filter(status="pending").count()


# -- what is measured of it -----------------------------------------------------------------------


def change_some(worker: Worker, products: int) -> dict[str, Any]:
    """Seconds until new photos of 1 % are embedded, and how many were."""
    from django.utils import timezone

    from visualsearch.models import Embedding

    # What the promotion opened, and one edit to see that the worker is up.
    small_catalogue.replace_photos([0], seed=2)
    while pending():
        time.sleep(0.1)
    began = timezone.now()
    count = max(1, products // 100)
    small_catalogue.replace_photos(random.Random(1).sample(range(products), count), seed=1)
    started = time.monotonic()
    while left := pending():
        worker.done.append((time.monotonic(), count - left))
        time.sleep(0.1)
    seconds = time.monotonic() - started
    embedded = Embedding.objects.filter(embedded_at__gte=began).count()
    return {
        "changed": count,
        "embedded": embedded,
        "seconds_after_the_last_edit": round(seconds, 1),
        "memory": worker.memory(),
    }


def doctor() -> dict[str, Any]:
    """Seconds of `visualsearch_doctor`, and what it found."""
    from visualsearch.health import doctor as examiner

    started = time.monotonic()
    findings = examiner.examine(ask_workers=False)
    return {
        "seconds": round(time.monotonic() - started, 2),
        "levels": {level: sum(f.level == level for f in findings) for level in ("ok", "error")},
        "errors": [f.message for f in findings if f.level == "error"],
    }


def killed(services: stack.Stack, *, kills: int, seed: int) -> dict[str, Any]:
    """Embed everything from nothing by a worker that is killed `kills` times on the way."""
    from visualsearch.models import Checkpoint, Embedding, IndexEntry
    from visualsearch.tables import partitions

    live = Checkpoint.objects.get(name=NAME)
    partitions.drop(live)
    partitions.create(live)
    IndexEntry.objects.all().reopen()
    total, random_ = IndexEntry.objects.count(), random.Random(seed)
    moments = sorted(random_.uniform(0.02, 0.5) for _ in range(kills))
    stored: dict[Any, Any] = {}
    started = time.monotonic()
    deaths = []
    for share in moments:
        worker = start_worker(services)
        try:
            while pending() > total * (1 - share):
                time.sleep(random_.uniform(0.5, 1.5))  # to count takes the database's time
        finally:
            worker.kill()
        rows = Embedding.objects.filter(checkpoint=live)
        now = dict(rows.values_list("product_id", "embedded_at"))
        deaths.append({"stored": len(now), "again": _again(stored, now)})
        stored = now
    with embed_worker(services) as worker:
        while left := pending():
            worker.done.append((time.monotonic(), total - left))
            time.sleep(1.0)  # to count takes the database's time
        seconds = time.monotonic() - started
        time.sleep(AFTERWARDS_S)
        memory = worker.memory()
    now = dict(Embedding.objects.filter(checkpoint=live).values_list("product_id", "embedded_at"))
    counts = IndexEntry.objects.all().counts()
    return {
        "seed": seed,
        "kills": deaths,
        "seconds": round(seconds, 1),
        "embedded": len(now),
        "lost": total - len(now),
        "falsely_set_aside": counts["failed"],
        "stored_again": sum(death["again"] for death in deaths) + _again(stored, now),
        "memory_of_the_last_worker": memory,
    }


def _again(before: dict[Any, Any], now: dict[Any, Any]) -> int:
    """Rows that were there and were embedded anew."""
    return sum(now.get(pk) != at for pk, at in before.items())


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="catalogue_100k", help="of the data's folders")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument(
        "--recipe", default="default", help='"fake" for a class that stands for the network'
    )
    parser.add_argument("--part", action="append", choices=PARTS, dest="parts")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    # So that a benchmark that is told to end takes its worker along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = vars(parser.parse_args())
    run(**given | {"parts": given["parts"] or list(PARTS)})
