"""A large catalogue of small photos: first index, an edit of 1 %, doctor, memory, and workers killed.

The encoder has learned from the first 4,000 of these products by an ordinary training run, as that of a
shop would: what its vectors are like decides which ef_search a text takes. `--weights random` trains
nothing; words find nothing then, and speed, memory and kills are the same.

First index: what a training run does after training, in this process, beside the encoder's own
speed on decoded pixels. Then a real embed worker takes over: its memory is read every second while
it embeds 1 % of new photos, and once more while it embeds everything from nothing and is killed
with SIGKILL, child and all, at random moments of the first half; no row that was stored when it
died may be stored again afterwards. The last worker does the rest, and is watched for a while longer.

Memory is that of `watched_worker`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import found_by_words, learned, record, small_catalogue, stack, trained, untrained
from benchmarks.watched_worker import Worker, embed_worker, start_worker

LEASE_SECONDS = 10
AFTERWARDS_S = 60.0
"""A worker that has embedded everything tells other products' lists of it, which takes memory, too."""
NAME = "large"
WEIGHTS = ("trained", "random")

PARTS = ("first index", "edits", "doctor", "kills")


def run(
    *,
    name: str,
    products: int,
    recipe: str,
    weights: str,
    learn_from: int,
    epochs: int,
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
            learn_from = min(learn_from, products)
            seconds = _filled(learn_from)
            files = None
            figures |= {"weights": "fake" if recipe == "fake" else weights}
            figures.pop("learned", None)
            if figures["weights"] == "trained":
                files, found = learned.learn(
                    services, recipe=recipe, products=learn_from, epochs=epochs
                )
                figures["learned"] = _tell("learned", found)
            seconds += _filled(products)
            figures["seconds_to_draw"] = round(seconds, 1)
            figures["first_index"] = _tell("first index", first_index(recipe, files=files))
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


def _filled(products: int) -> float:
    """Seconds until the shop has so many."""
    started = time.monotonic()
    small_catalogue.fill(products)
    return time.monotonic() - started


# -- first index ----------------------------------------------------------------------------------


def first_index(recipe: str, *, files: Path | None) -> dict[str, Any]:
    """Embed, index, probe, neighbours, promote, with the seconds of each; then the words, as a run does.

    `files`: the folder of a checkpoint of this recipe; without one it gets random weights.
    """
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
    elif files is None:
        checkpoint = untrained.make(recipe, name=NAME, export=True)
    else:
        checkpoint = trained.adopt(files, name=NAME)
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
        "found_by_words": found_by_words.measure(checkpoint),
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


def pending() -> int:
    from visualsearch.models import IndexEntry

    return IndexEntry.objects.filter(status="pending").count()


# -- what a worker does ---------------------------------------------------------------------------


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
    from visualsearch.lifecycle import recall
    from visualsearch.models import Checkpoint, Embedding, IndexEntry
    from visualsearch.tables import partitions
    from visualsearch.upkeep import neighbours

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
    # Its index went with what had been stored; who measures searches next finds another.
    partitions.build_ann_index(live)
    recall.probe(live)
    neighbours.compute(live)
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
    parser.add_argument(
        "--weights", choices=WEIGHTS, default=WEIGHTS[0], help="learned first, or by chance"
    )
    parser.add_argument(
        "--learn-from", type=int, default=4000, metavar="N", help="the first N products"
    )
    parser.add_argument("--epochs", type=int, default=12, help="of that training")
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
