"""Trains an encoder on a catalogue, judges it on held-out groups and writes its checkpoint."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from visualsearch.exceptions import TrainingError
from visualsearch.images import PREPROCESSING
from visualsearch.ml import checkpoints, phrases, tokenizer
from visualsearch.ml.data import Catalogue, attribute_values, check_enough, split
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.evaluate import Report, evaluate
from visualsearch.ml.export import export_onnx
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.loop import Loop, Progress, ProgressCallback
from visualsearch.ml.manifest import Manifest
from visualsearch.ml.memory import keep_memory
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.tokenizer import TOKENIZER_NAME, Tokenizer

__all__ = ["Progress", "TrainingResult", "train"]

MIN_HOLDOUT = 4
"""Fewer held-out products than this say nothing: then all are trained on and judged."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished checkpoint."""

    folder: Path
    metrics: dict[str, Any]
    # as in the manifest, for JSON
    history: list[dict[str, float]]
    # the losses of every step
    report: Report
    # the held-out table


def train(
    catalogue: Catalogue,
    recipe: Recipe,
    *,
    out: Path | str,
    device: str = "auto",
    seed: int = 0,
    epochs: int | None = None,
    time_budget_s: float | None = None,
    progress: ProgressCallback | None = None,
) -> TrainingResult:
    """Trains `recipe` on `catalogue` and writes the finished checkpoint to the folder `out`.

    Same catalogue, recipe, seed, device and number of threads: the same weights, bit for bit. Not
    so with `time_budget_s`, which ends the training loop by the clock (the schedule is shortened to
    fit, not cut off). `epochs` overrides the recipe's.
    Raises NotEnoughDataError, TrainingError, and whatever `progress` raises.
    """
    check_enough(catalogue)
    if catalogue.image_size != recipe.image_size:
        raise TrainingError(
            f"The catalogue's pixels are {catalogue.image_size} px, recipe {recipe.name!r} reads "
            f"{recipe.image_size}. Load the catalogue at that size."
        )
    if epochs is not None and epochs < 1:
        raise TrainingError(f"epochs={epochs} trains nothing; give at least 1.")
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=epochs, min_steps=0)
    report = progress or (lambda _: None)
    report(Progress(stage="prepare", epoch=0, epochs=recipe.epochs, done=0, total=1))
    place = checkpoints.pick_device(device)
    keep_memory()
    parts = split(catalogue)
    enough = len(parts.holdout.items) >= MIN_HOLDOUT and len(parts.train.items) >= MIN_HOLDOUT
    kept, held = (parts.train, parts.holdout) if enough else (catalogue, catalogue)

    started = time.monotonic()
    network, tokens, history = _fit(
        kept, recipe, place=place, seed=seed, time_budget_s=time_budget_s, report=report
    )
    seconds = time.monotonic() - started
    steps = len(history)
    report(Progress(stage="evaluate", epoch=recipe.epochs, epochs=recipe.epochs, done=0, total=1))
    table = evaluate(TorchEncoder.of(network, tokens, device=place), held)
    metrics: dict[str, Any] = {
        **table.as_dict(),
        "holdout": "groups" if enough else "none: too few products, figures are of training data",
        "train_products": len(kept.items),
        "steps": steps,
        "train_seconds": round(seconds, 1),
        "final_loss": history[-1]["loss"] if history else None,
    }
    report(Progress(stage="export", epoch=recipe.epochs, epochs=recipe.epochs, done=0, total=1))
    out = Path(out)
    with checkpoints.writing(out) as folder:
        network = network.cpu().eval()
        checkpoints.save_weights(network, folder)
        if tokens is not None:
            tokens.save(folder / TOKENIZER_NAME)
        metrics["export_cosine"] = export_onnx(network, folder)
        Manifest(
            recipe=recipe.name,
            options=recipe.as_dict(),
            width=recipe.width,
            image_size=recipe.image_size,
            preprocessing=PREPROCESSING,
            text_length=recipe.text_length if tokens else 0,
            parameters=network.parameter_count(),
            attributes=attribute_values(kept),
            metrics=metrics,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ).write(folder)
    report(Progress(stage="export", epoch=recipe.epochs, epochs=recipe.epochs, done=1, total=1))
    return TrainingResult(out, metrics, history, table)


def _fit(
    catalogue: Catalogue,
    recipe: Recipe,
    *,
    place: torch.device,
    seed: int,
    time_budget_s: float | None,
    report: ProgressCallback,
) -> tuple[VisualEncoder, Tokenizer | None, list[dict[str, float]]]:
    with _reproducible(seed):
        tokens = None
        if recipe.text != "none":
            tokens = tokenizer.train(
                _vocabulary_texts(catalogue),
                vocabulary_size=recipe.vocabulary_size,
                text_length=recipe.text_length,
            )
        network = VisualEncoder(
            recipe,
            vocabulary_size=tokens.vocabulary_size if tokens else 0,
            weights=recipe.weights,
        ).to(place)
        if recipe.optimizer == "none":
            return network.eval(), tokens, []
        if tokens is None:
            raise TrainingError(
                f"Recipe {recipe.name!r} trains without texts, which is not supported: set "
                "text=gru, or optimizer=none."
            )
        network = network.to(memory_format=torch.channels_last)
        loop = Loop(catalogue, network, tokens, place=place, seed=seed, budget_s=time_budget_s)
        return loop.run(report), tokens, loop.history


def _vocabulary_texts(catalogue: Catalogue) -> Iterator[str]:
    """What the tokenizer learns from: the catalogue's words, and those of modifications."""
    for item in catalogue.items:
        yield from item.texts
        if item.label:
            yield item.label
        yield from item.attributes.values()
    for name in attribute_values(catalogue):
        yield name.replace("_", " ")
    for template in (*phrases.COLOUR_TEMPLATES, *phrases.OTHER_TEMPLATES):
        for _ in range(3):  # above the tokenizer's minimum frequency
            yield template.format(name="", old="", new="")


class _reproducible:
    """Seeds torch's generators and asks for deterministic kernels, and undoes both at the end."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.states = torch.get_rng_state()
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        self.warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.manual_seed(self.seed)
        torch.use_deterministic_algorithms(True, warn_only=True)

    def __exit__(self, *_: object) -> None:
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.set_rng_state(self.states)
