"""Promotion and rollback while shoppers search, over HTTP: errors, mixed answers, recall, edits.

Requests come at a fixed rate, whether or not those before are answered. Every answer names the
checkpoint that gave it; it is mixed if the score of any of its hits is not what that checkpoint's
own vectors give. Recall is of the answers themselves, against exact search by the checkpoint that
answered. Photos are replaced meanwhile with an embed worker running; in the end the live
checkpoint has to have embedded them all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import statistics
import time
from typing import Any

from benchmarks import record, small_catalogue, stack, untrained
from benchmarks.shoppers import WORDS, Answer, is_error, load, times, wait

NAMES = ("a", "b")
TOLERANCE = 3e-3
"""Of a score: vectors are kept in half precision, and the answer has four digits."""


def run(
    *,
    name: str,
    products: int,
    seconds: float,
    rate: float,
    rounds: int,
    recipe: str,
    exact_threshold: int,
    write: bool = True,
) -> dict[str, Any]:
    """Write results/promotion_load.json."""
    with stack.start(name) as services:
        environment = services.environment | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.load_settings",
            "EXACT_THRESHOLD": str(exact_threshold),
            "LEASE_SECONDS": "20",
            "ENCODER": "benchmarks.seeded_encoder.SeededEncoder" if recipe == "fake" else "",
        }
        services = dataclasses.replace(services, environment=environment)
        services.manage("migrate", "--verbosity", "0")
        os.environ.update(environment)
        import django

        django.setup()
        small_catalogue.fill(products)
        print("products are there; two checkpoints embed them", flush=True)
        truth = _prepare(recipe)
        worker = services.worker_command("embed")
        with services.web(settings="benchmarks.load_settings") as url, services.process(worker):
            figures = _measure(url, truth, seconds=seconds, rate=rate, rounds=rounds)
    figures = {"products": products, "recipe": recipe, "exact_threshold": exact_threshold} | figures
    print(json.dumps(figures, indent=2))
    if write:
        print(f"written to {record.write('promotion_load', figures)}")
    return figures


def _prepare(recipe: str) -> Truth:
    """Two checkpoints that see differently, embedded and indexed; the first one live."""
    from visualsearch.testing import fake_checkpoint

    for seed, name in enumerate(NAMES):
        if recipe == "fake":
            untrained.remove(name)
            checkpoint = fake_checkpoint(live=False, name=name, folder=name)
        else:
            checkpoint = untrained.make(recipe, name=name, seed=seed, export=True)
        untrained.index(checkpoint, live=name == NAMES[0])
    return Truth()


class Truth:
    """What each checkpoint would answer, computed here."""

    def __init__(self) -> None:
        import numpy as np

        from visualsearch import encoding
        from visualsearch.models import Checkpoint
        from visualsearch.upkeep import gallery as galleries

        self.changed: set[Any] = set()
        self.galleries, self.vectors, self.texts = {}, {}, {}
        for name in NAMES:
            checkpoint = Checkpoint.objects.get(name=name)
            gallery = galleries.load(checkpoint)
            self.galleries[name] = gallery
            self.vectors[name] = gallery.vectors.astype(np.float32)
            self.texts[name] = {
                words: encoding.encode_query_text(checkpoint, words) for words in WORDS
            }
        self.index = {pk: number for number, pk in enumerate(self.galleries["a"].product_ids)}

    def scores(self, name: str, answer: Answer) -> Any:
        """Of every product for what was asked, by the checkpoint of that name."""
        if answer.kind == "text":
            query = self.texts[name][answer.about]
        else:
            query = self.vectors[name][self.index[answer.about]]
        return self.vectors[name] @ query

    def is_mixed(self, answer: Answer) -> bool:
        name = answer.body.get("checkpoint")
        if name not in NAMES:
            return True
        if answer.about in self.changed:
            return False  # its vector is another one by now
        scores = self.scores(name, answer)
        return any(
            abs(scores[self.index[hit["id"]]] - hit["score"]) > TOLERANCE
            for hit in answer.body["hits"]
            if hit["id"] not in self.changed
        )

    def recall(self, answer: Answer) -> float:
        """Share of the ten true ones among the hits, leaving out what was changed meanwhile."""
        import numpy as np

        scores = self.scores(answer.body["checkpoint"], answer)
        left_out = [self.index[pk] for pk in self.changed if pk in self.index]
        if answer.kind != "text":
            left_out.append(self.index[answer.about])
        scores[left_out] = -np.inf
        hits = [hit for hit in answer.body["hits"] if hit["id"] not in self.changed]
        wanted = min(10, len(hits))
        if not wanted:
            return 1.0
        bar = np.partition(scores, -wanted)[-wanted] - 1e-4
        return sum(scores[self.index[hit["id"]]] >= bar for hit in hits[:wanted]) / wanted


def _measure(url: str, truth: Truth, *, seconds: float, rate: float, rounds: int) -> dict[str, Any]:
    from visualsearch.lifecycle import promotion
    from visualsearch.models import Checkpoint, IndexEntry

    switches: list[tuple[float, str, float]] = []
    with load(url, list(truth.index), rate=rate) as answers:
        began = time.monotonic()
        wait(lambda: len(answers) > 5, "an answer")
        answers.clear()
        began = answers.began = time.monotonic()
        time.sleep(seconds)
        for number in range(rounds):
            _change(truth, share=0.01, seed=number + 1)
            for action in ("promote", "rollback"):
                print(
                    f"{time.monotonic() - began:6.1f} s  {action}, {len(answers)} answers",
                    flush=True,
                )
                started = time.monotonic()
                if action == "promote":
                    promotion.promote(Checkpoint.objects.get(name=NAMES[1]))
                else:
                    promotion.rollback()
                switches.append((started - began, action, time.monotonic() - started))
                time.sleep(seconds / 2)
        ended = time.monotonic() - began
        wait(lambda: not IndexEntry.objects.filter(status="pending").exists(), "the worker")
        time.sleep(seconds)
        wait(lambda: any(each.at >= ended for each in list(answers)), "an answer afterwards")
        found = list(answers)
    first, last = switches[0][0], ended
    phases = {
        "before": [each for each in found if each.at < first],
        "during": [each for each in found if first <= each.at < last],
        "after": [each for each in found if each.at >= last],
    }
    return {
        "requests_per_second": rate,
        "switches": [
            {"at_s": round(at, 2), "what": what, "seconds": round(took, 3)}
            for at, what, took in switches
        ],
        "checkpoints_that_answered": sorted({str(a.body.get("checkpoint")) for a in found}),
        "edits": len(truth.changed),
        "edits_not_embedded_by_the_live_checkpoint": _missing_edits(truth),
        "phases": {phase: _summary(part, truth) for phase, part in phases.items()},
        "examples_of_errors": [
            {"at_s": round(a.at, 2), "status": a.status, "kind": a.kind, "body": str(a.body)[:300]}
            for a in found
            if is_error(a)
        ][:5],
        "examples_of_mixed": [
            {"at_s": round(a.at, 2), "kind": a.kind, "checkpoint": a.body.get("checkpoint")}
            for a in found
            if not is_error(a) and truth.is_mixed(a)
        ][:5],
    }


def _summary(answers: list[Answer], truth: Truth) -> dict[str, Any]:
    right = [answer for answer in answers if not is_error(answer)]
    figures: dict[str, Any] = times(answers) | {
        "errors": len(answers) - len(right),
        "mixed": sum(truth.is_mixed(answer) for answer in right),
        "recall": {},
    }
    for kind in ("similar", "product", "text"):
        asked = [a for a in right if a.kind == kind and a.about not in truth.changed]
        if asked:
            figures["recall"][kind] = round(statistics.mean(truth.recall(a) for a in asked), 4)
    return figures


def _change(truth: Truth, *, share: float, seed: int) -> None:
    """Replace the photos of some products, as an editor does."""
    from shop.models import Product

    total = len(truth.index)
    numbers = random.Random(seed).sample(range(total), max(1, round(share * total)))
    skus = [f"small-{number}" for number in numbers]
    # Known before it is done: an answer may come in between.
    truth.changed |= set(Product.objects.filter(sku__in=skus).values_list("pk", flat=True))
    small_catalogue.replace_photos(numbers, seed=seed)


def _missing_edits(truth: Truth) -> int:
    from shop.models import ProductImage
    from visualsearch.models import Checkpoint, Embedding
    from visualsearch.photos.images import content_hash

    live = Checkpoint.objects.live()
    rows = Embedding.objects.filter(checkpoint=live, product_id__in=truth.changed)
    stored = {pk: bytes(digest) for pk, digest in rows.values_list("product_id", "content_hash")}
    images = ProductImage.objects.filter(product_id__in=truth.changed)
    return sum(
        stored.get(image.product_id) != content_hash(image.original.read()) for image in images
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="promotion", help="of the data's folders")
    parser.add_argument("--products", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--rounds", type=int, default=3, help="promotions, each rolled back")
    parser.add_argument(
        "--recipe", default="default", help='"fake" for a class that stands for the network'
    )
    parser.add_argument("--exact-threshold", type=int, default=20_000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    run(**vars(parser.parse_args()))
