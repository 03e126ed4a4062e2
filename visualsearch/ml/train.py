"""Trains an encoder on a catalogue, judges it on held-out groups and writes its checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from visualsearch.exceptions import TrainingError
from visualsearch.ml import checkpoints, phrases, tokenizer
from visualsearch.ml.data import Catalogue, attribute_values, check_enough, split
from visualsearch.ml.distributed import World, local_device, processes
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.evaluate import Report, evaluate
from visualsearch.ml.export import export_onnx
from visualsearch.ml.foundation_tokens import tower_tokenizer
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.loop import Progress, ProgressCallback
from visualsearch.ml.manifest import Manifest
from visualsearch.ml.memory import keep_memory
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.resume import SAVE_EVERY_S, StateFolder, fingerprint
from visualsearch.ml.stages import fit_network
from visualsearch.ml.stopping import Stop, stopped_by_signals
from visualsearch.ml.tokenizer import TOKENIZER_NAME, Tokenizer
from visualsearch.ml.validation import set_aside
from visualsearch.photos.images import PREPROCESSING

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
    resume: Path | str | None = None,
    save_every_s: float = SAVE_EVERY_S,
    features: Path | None = None,
    keep_state: bool = False,
) -> TrainingResult:
    """Trains `recipe` on `catalogue` and writes the finished checkpoint to the folder `out`.

    Same catalogue, recipe, seed, device and number of threads: the same weights, bit for bit. Not
    so with `time_budget_s`, which ends the training loop by the clock (the schedule is shortened to
    fit, not cut off). `epochs` overrides the recipe's.

    `resume`: the folder of the run's state, written every `save_every_s` seconds and when the run
    is cancelled or its process is told to stop (then TrainingStoppedError is raised), and deleted
    at its end unless `keep_state`. A state that is there already, of the same catalogue, recipe and seed, is gone on
    from, and gives the same weights as a run that was never interrupted.

    `features`: the folder where a frozen trunk's features are kept from run to run.

    Under torchrun the processes share each batch; the first one reports, evaluates and writes.
    Raises NotEnoughDataError, TrainingError, and whatever `progress` raises.
    """
    check_enough(catalogue, reads_text=recipe.text != "none")
    if catalogue.image_size != recipe.image_size:
        raise TrainingError(
            f"The catalogue's pixels are {catalogue.image_size} px, recipe {recipe.name!r} reads "
            f"{recipe.image_size}. Load the catalogue at that size."
        )
    if epochs is not None and epochs < 1:
        raise TrainingError(f"epochs={epochs} trains nothing; give at least 1.")
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=epochs, min_steps=0)
    place = local_device(checkpoints.pick_device(device))
    with processes(place) as world:
        report = progress if progress is not None and world.is_first else _silent
        report(Progress(stage="prepare", epoch=0, epochs=recipe.epochs, done=0, total=1))
        keep_memory()
        parts = split(catalogue)
        enough = min(len(parts.holdout.items), len(parts.train.items)) >= MIN_HOLDOUT
        kept, held = (parts.train, parts.holdout) if enough else (catalogue, catalogue)
        started = time.monotonic()
        fitted = _fit(
            kept,
            recipe,
            place=place,
            seed=seed,
            time_budget_s=time_budget_s,
            report=report,
            folder=Path(resume) if resume is not None else None,
            save_every_s=save_every_s,
            features=features,
            world=world,
        )
        metrics: dict[str, Any] = {
            "holdout": (
                "groups" if enough else "none: too few products, figures are of training data"
            ),
            "train_products": len(kept.items),
            "steps": len(fitted.history),
            "train_seconds": round(time.monotonic() - started, 1),
            "final_loss": fitted.history[-1]["loss"] if fitted.history else None,
            **fitted.metrics,
        }
        result: TrainingResult | None = None
        if world.is_first:
            result = _finish(
                fitted, recipe, held, metrics, attribute_values(kept), Path(out), place, report
            )
            if fitted.states is not None and not keep_state:
                fitted.states.remove()
        # The others wait here, so that none leaves while the first may still need it.
        result = world.from_first(result)
        assert result is not None
        return result


def _finish(
    fitted: _Fitted,
    recipe: Recipe,
    held: Catalogue,
    metrics: dict[str, Any],
    attributes: dict[str, list[str]],
    out: Path,
    place: torch.device,
    report: ProgressCallback,
) -> TrainingResult:
    """Judges the network, exports it and writes the checkpoint."""
    network, tokens = fitted.network, fitted.tokens
    recipe = network.recipe  # with what its trunk has decided: width, length of texts
    report(Progress(stage="evaluate", epoch=recipe.epochs, epochs=recipe.epochs, done=0, total=1))
    table = evaluate(TorchEncoder.of(network, tokens, device=place), held)
    metrics = {**table.as_dict(), **metrics}
    report(Progress(stage="export", epoch=recipe.epochs, epochs=recipe.epochs, done=0, total=1))
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
            attributes=attributes,
            metrics=metrics,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ).write(folder)
    report(Progress(stage="export", epoch=recipe.epochs, epochs=recipe.epochs, done=1, total=1))
    return TrainingResult(out, metrics, fitted.history, table)


def _silent(_: Progress) -> None:
    """The report of processes that have nobody to report to."""


@dataclass(frozen=True)
class _Fitted:
    """A trained network and what is known of its training."""

    network: VisualEncoder
    tokens: Tokenizer | None
    history: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    states: StateFolder | None = None


def _fit(
    catalogue: Catalogue,
    recipe: Recipe,
    *,
    place: torch.device,
    seed: int,
    time_budget_s: float | None,
    report: ProgressCallback,
    folder: Path | None,
    save_every_s: float,
    features: Path | None,
    world: World,
) -> _Fitted:
    with _reproducible(seed):
        tokens = None
        if recipe.text != "none":
            tokens = _tokenizer(catalogue, recipe)
        network = VisualEncoder(
            recipe,
            vocabulary_size=tokens.vocabulary_size if tokens else 0,
            weights=recipe.weights,
        ).to(place)
        if recipe.optimizer == "none":
            return _Fitted(network.eval(), tokens)
        network = network.to(memory_format=torch.channels_last)
        states = None
        if folder is not None:
            known = fingerprint(catalogue, recipe, seed=seed, tokens=tokens)
            states = StateFolder(
                folder, fingerprint=known, every_s=save_every_s, writes=world.is_first
            )
        learned, validation = set_aside(catalogue, recipe)
        with contextlib.ExitStack() as stack:
            stop: Stop = lambda: None  # noqa: E731
            if states is not None and world.is_first:
                stop = stack.enter_context(stopped_by_signals())
            loop = fit_network(
                learned,
                network,
                tokens,
                report=report,
                features=features,
                place=place,
                seed=seed,
                budget_s=time_budget_s,
                validation=validation,
                states=states,
                world=world,
                stop=stop,
            )
        metrics: dict[str, Any] = {"epochs": loop.epochs.told}
        if loop.epochs.mining:
            metrics["mining"] = loop.epochs.mining
        if validation is not None:
            metrics["validation_products"] = len(validation.items)
        return _Fitted(network.eval(), tokens, loop.history, metrics, states)


def _tokenizer(catalogue: Catalogue, recipe: Recipe) -> Tokenizer:
    """Learned from the catalogue, or the one that a pretrained text tower was trained with."""
    if recipe.text == "tower":
        return tower_tokenizer(recipe)
    return tokenizer.train(
        _vocabulary_texts(catalogue),
        vocabulary_size=recipe.vocabulary_size,
        text_length=recipe.text_length,
    )


def _vocabulary_texts(catalogue: Catalogue) -> Iterator[str]:
    """What the tokenizer learns from: the catalogue's words, and those of modifications."""
    for item in catalogue.items:
        yield from item.texts
        if item.label:
            yield item.label
        yield from item.attributes.values()
    for triplet in catalogue.triplets:
        yield from triplet.sentences
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
