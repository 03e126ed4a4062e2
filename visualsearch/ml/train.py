"""Trains an encoder on a catalogue, judges it on held-out groups and writes its checkpoint."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from visualsearch.exceptions import TrainingError
from visualsearch.images import PREPROCESSING
from visualsearch.ml import checkpoints, phrases, tokenizer
from visualsearch.ml.augment import augment
from visualsearch.ml.data import Catalogue, attribute_values, check_enough, split
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.evaluate import Report, evaluate
from visualsearch.ml.export import export_onnx
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.manifest import Manifest
from visualsearch.ml.memory import keep_memory
from visualsearch.ml.objective import Objective
from visualsearch.ml.pairs import Batch, CodedCatalogue, batches
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.schedule import Schedule, make_optimizer
from visualsearch.ml.tokenizer import TOKENIZER_NAME, Tokenizer

logger = logging.getLogger(__name__)

MIN_HOLDOUT = 4
"""Fewer held-out products than this say nothing: then all are trained on and judged."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands; handed to the callback, which may raise TrainingCancelledError."""

    stage: str
    # prepare, train, evaluate, export
    epoch: int
    epochs: int
    done: int
    total: int
    # steps of the stage
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    eta_s: float | None = None


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


ProgressCallback = Callable[[Progress], None]


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
            attributes=attribute_values(catalogue),
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
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        loop = _Loop(catalogue, network, tokens, place=place, seed=seed, budget_s=time_budget_s)
        return loop.run(report), tokens, loop.history


class _Loop:
    """The training loop; one object so that a step can be read apart from its setting-up."""

    def __init__(
        self,
        catalogue: Catalogue,
        network: VisualEncoder,
        tokens: Tokenizer,
        *,
        place: torch.device,
        seed: int,
        budget_s: float | None,
    ) -> None:
        recipe = network.recipe
        count = len(catalogue.items)
        # Small catalogues take smaller batches, hence more steps for the same arithmetic.
        size = min(recipe.batch, max(32, count // 4), count)
        self.recipe = recipe
        self.pixels = catalogue.pixels
        self.network = network
        self.place = place
        self.steps_an_epoch = -(-count // size)
        self.steps = max(recipe.epochs * self.steps_an_epoch, recipe.min_steps)
        self.epochs = -(-self.steps // self.steps_an_epoch)
        coded = CodedCatalogue(catalogue)
        self.objective = Objective(network, tokens, coded).to(place)
        self.optimizer = make_optimizer(self.objective, recipe)
        self.schedule = Schedule(
            self.optimizer, steps=self.steps, warmup=recipe.warmup, budget_s=budget_s
        )
        self.average = _average_of(network, recipe)
        self.generator = torch.Generator(device=place).manual_seed(seed)
        self.stream = batches(
            coded,
            size=size,
            second_views=recipe.second_views,
            kind_pairs=recipe.kind_pairs,
            rng=np.random.default_rng(seed),
        )
        self.history: list[dict[str, float]] = []

    def run(self, report: ProgressCallback) -> VisualEncoder:
        self.network.train()
        # Often enough to look alive, seldom enough to cost nothing.
        every = max(1, self.steps // 100)
        while not self.schedule.finished:
            losses = self._step(next(self.stream))
            self.history.append(losses)
            done = self.schedule.done
            if done % every == 0 or self.schedule.finished:
                report(self._progress(done, losses))
        if self.average is not None:
            self.network.load_state_dict(self.average.module.state_dict())
        return self.network.eval()

    def _step(self, batch: Batch) -> dict[str, float]:
        encoder = self.network.image
        pixels = torch.from_numpy(np.array(self.pixels[batch.images])).to(self.place)
        with torch.no_grad():
            white = (1 - encoder.mean) / encoder.std
            images = augment(encoder.normalise(pixels), white=white, generator=self.generator)
            images = self._resize(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.place.type, torch.bfloat16):
            vectors = encoder.embed(images)
        loss = self.objective(vectors, batch)
        if not math.isfinite(float(loss.total.detach())):
            raise TrainingError(
                f"The loss became {float(loss.total.detach())} at step {self.schedule.done + 1}. "
                "Lower the learning rate: --set lr=..."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        parts = {name: float(value) for name, value in loss.parts.items()}
        return {"loss": float(loss.total.detach()), **parts}

    def _resize(self, images: torch.Tensor) -> torch.Tensor:
        """Two thirds of the size for the first steps: more than twice as fast (Howard, 2018)."""
        if self.schedule.share >= self.recipe.small_first:
            return images
        size = images.shape[2] * 2 // 3
        return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)

    def _progress(self, done: int, losses: dict[str, float]) -> Progress:
        recent = [entry["loss"] for entry in self.history[-20:]]
        return Progress(
            stage="train",
            epoch=min(self.epochs, 1 + done // self.steps_an_epoch),
            epochs=self.epochs,
            done=done,
            total=self.steps,
            loss=sum(recent) / len(recent),
            metrics=losses,
            eta_s=self.schedule.remaining_s(),
        )


def _average_of(
    network: VisualEncoder, recipe: Recipe
) -> torch.optim.swa_utils.AveragedModel | None:
    """The exponential moving average of weights and of the norms' statistics."""
    if not recipe.average:
        return None
    decay = recipe.average

    def update(averaged: torch.Tensor, current: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        # Early on the average would remember the random start: the decay grows to its value.
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        return averaged * share + current * (1 - share) if averaged.is_floating_point() else current

    return torch.optim.swa_utils.AveragedModel(network, avg_fn=update, use_buffers=True)


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


class _reproducible:  # noqa: N801  (reads as a statement: `with _reproducible(seed)`)
    """Seeds torch's generators and asks for deterministic kernels, and undoes both at the end."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.states = torch.get_rng_state()
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        torch.manual_seed(self.seed)
        torch.use_deterministic_algorithms(True, warn_only=True)

    def __exit__(self, *_: object) -> None:
        torch.use_deterministic_algorithms(self.deterministic)
        torch.set_rng_state(self.states)
