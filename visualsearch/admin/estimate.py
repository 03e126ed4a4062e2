"""How long Retrain is going to take: measured on this shop's own runs, scaled to the catalogue of today."""

from __future__ import annotations

from dataclasses import dataclass

from visualsearch.models import Checkpoint, Embedding, TrainingRun

LOOKED_AT = 50
"""Runs that are looked at, the newest first."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one recipe is expected to take."""

    recipe: str
    seconds: float
    per_epoch: float | None
    """Seconds of one epoch of its training; None where the run kept no curve."""
    run: TrainingRun
    """The run it was measured on."""


def estimates(*, photos: int) -> list[Estimate]:
    """One for each recipe of which a run has succeeded; nothing is guessed for the others."""
    found: dict[str, Estimate] = {}
    runs = TrainingRun.objects.filter(state=TrainingRun.State.SUCCEEDED)
    for run in runs.select_related("checkpoint")[:LOOKED_AT]:
        # A run that only embedded an old checkpoint says nothing about training.
        if run.recipe in found or not run.timings.get("training"):
            continue
        then = _photos_of(run)
        scale = photos / then if then and photos else 1.0
        last = run.history[-1] if run.history else {}
        epochs = last.get("epochs")
        found[run.recipe] = Estimate(
            recipe=run.recipe,
            seconds=scale * sum(run.timings.values()),
            per_epoch=scale * run.timings["training"] / epochs if epochs else None,
            run=run,
        )
    return list(found.values())


def _photos_of(run: TrainingRun) -> int:
    """Photos that the run's checkpoint has embedded; 0 if it has none any more."""
    checkpoint: Checkpoint | None = getattr(run, "checkpoint", None)
    return Embedding.objects.filter(checkpoint=checkpoint).count() if checkpoint else 0
