"""An encoder that has learned the small catalogue: by an ordinary training run on its first products.

What is learned on some thousands serves as many more: products of one kind look alike, and the words are
the same. The run is `manage.py visualsearch_train`, judged by the gate on designs that it has not seen.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks import small_catalogue, stack, untrained

KEPT = {
    "similar": ("kind P@10", "colour P@10", "pattern P@10", "same group recall@10"),
    "text": ("title R@10", "full text R@10", "kind query P@10", "colour query P@10"),
    "composed": ("colour R@1", "colour R@10"),
}
"""Metrics of the run's own evaluation that are kept, by section, for the encoder and what stands beside it."""


def learn(
    services: stack.Stack, *, recipe: str, products: int, epochs: int
) -> tuple[Path, dict[str, Any]]:
    """The files of a checkpoint that has learned the first `products`, and the figures of its run.

    Fills the shop with them. What an earlier call in this stack has learned by the same recipe is taken
    again. CalledProcessError if the run fails or the gate refuses.
    """
    from visualsearch.conf import get_settings
    from visualsearch.lifecycle.run_progress import in_order
    from visualsearch.models import Checkpoint, TrainingRun

    folder = services.data / "learned" / recipe
    notes = folder.with_suffix(".json")
    if notes.exists():
        found = json.loads(notes.read_text())
        if (found["products"], found["epochs"]) != (products, epochs):
            raise SystemExit(
                f"{notes} is of {found['products']} products and {found['epochs']} epochs: delete it, "
                f"or ask for --learn-from {found['products']} --epochs {found['epochs']}."
            )
        return folder, found
    small_catalogue.fill(products)
    if (there := small_catalogue.count()) > products:
        raise SystemExit(
            f"{there} products are there, and nothing has been learned from the first {products}: "
            f"delete {services.data} and the folder of that name in .run, or take --weights random."
        )
    options = ("--recipe", recipe, "--epochs", str(epochs), "--no-promote")
    services.manage("visualsearch_train", *options)
    run = TrainingRun.objects.latest("created_at")
    checkpoint = Checkpoint.objects.get(run=run)
    figures = {
        "products": products,
        "epochs": epochs,
        "seconds": {stage: round(took, 1) for stage, took in in_order(run.timings).items()},
        "on_products_not_seen": run.metrics["gallery"],
        "figures": kept(run.metrics["lines"]),
    }
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(get_settings().CHECKPOINT_ROOT / checkpoint.folder, folder)
    # It would be embedded beside the other one, and retired by its promotion.
    untrained.remove(checkpoint.name)
    notes.write_text(json.dumps(figures))
    return folder, figures


def kept(lines: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Of an evaluation's lines, {section: {metric: {system: value}}} of `KEPT`."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for line in lines:
        section, metric = line["section"], line["metric"]
        if metric in KEPT.get(section, ()):
            systems = found.setdefault(section, {}).setdefault(metric, {})
            systems[line["system"]] = round(line["value"], 3)
    return found
