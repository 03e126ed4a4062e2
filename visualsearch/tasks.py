"""Celery entry points, one call each: what a shop's workers run in the background."""

from __future__ import annotations

from celery import shared_task

from visualsearch.health import sweeping
from visualsearch.lifecycle import recall
from visualsearch.models import Checkpoint
from visualsearch.upkeep import doorbell, indexing, pacing, shutting_down

INDEX_SECONDS = 10.0
"""A call ends by itself after about this long, so that other tasks have their turn; when the worker
shuts down, after the batch at hand."""


@shared_task(name="visualsearch.index_pending", ignore_result=True)
def index_pending() -> None:
    """Embed the products that changed; rings again if there are more than fit into one call."""
    with shutting_down.asked_to_end() as is_asked_to_end:
        counts = indexing.index_pending(
            limit_seconds=INDEX_SECONDS, is_asked_to_end=is_asked_to_end
        )
    if not counts.is_complete:
        doorbell.ring("embed")


@shared_task(name="visualsearch.run_queued_training", ignore_result=True)
def run_queued_training() -> None:
    """Perform the training run that is queued, if there is one."""
    from visualsearch.lifecycle import training  # only a worker that trains needs to load it

    pacing.introduce()
    training.run_queued()


@shared_task(name="visualsearch.sweep", ignore_result=True)
def sweep(*, rehash: bool = False) -> None:
    """Find and repair what no trigger saw."""
    pacing.introduce()
    sweeping.sweep(rehash=rehash)


@shared_task(name="visualsearch.probe_recall", ignore_result=True)
def probe_recall() -> None:
    """Measure what the live checkpoint's index still finds after the day's edits; warn below .95."""
    pacing.introduce()
    if live := Checkpoint.objects.live():
        recall.probe_if_possible(live)
