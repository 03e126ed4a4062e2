"""Training runs: asked for, performed to their end, and what becomes of one that fails."""

from __future__ import annotations

import errno
import gc
import logging
import signal
from typing import Any

from django.db import router, transaction

from visualsearch.conf import get_settings
from visualsearch.exceptions import (
    DiskFullError,
    TrainingCancelledError,
    TrainingError,
    TrainingStoppedError,
    TrainingTakenOverError,
    VisualSearchError,
)
from visualsearch.lifecycle import checkpoint_folders, promotion, runs
from visualsearch.lifecycle.hold import Hold
from visualsearch.lifecycle.run_progress import Listener
from visualsearch.lifecycle.runs import cancel
from visualsearch.lifecycle.training_stages import TrainingStages
from visualsearch.models import Checkpoint, TrainingRun

__all__ = [
    "can_be_resumed",
    "cancel",
    "perform",
    "promote_now",
    "request_promotion",
    "request_resumption",
    "request_training",
    "resume_now",
    "run_queued",
    "train_now",
]

logger = logging.getLogger(__name__)


def request_training(
    recipe: str | None = None,
    *,
    epochs: int | None = None,
    seed: int = 0,
    requested_by: Any = None,
) -> TrainingRun:
    """Queue a training run and wake a worker; what is left out comes from the settings.

    Raises TrainingInProgressError while another run is open, TrainingError for bad options.
    """
    run = runs.new_run(recipe, epochs=epochs, seed=seed, requested_by=requested_by)
    runs.enqueue(run)
    return run


def request_promotion(checkpoint: Checkpoint, *, requested_by: Any = None) -> TrainingRun:
    """Queue what is left to do for a checkpoint that has no embeddings: embed, index, promote.

    For one that the gate refused, whose run broke off, or that was pruned. It goes live whatever
    the gate said. Raises TrainingInProgressError, or PromotionError if its files are gone.
    """
    run = _run_to_index(checkpoint, requested_by=requested_by)
    # A worker must not see the run without its checkpoint: it would train another one.
    with transaction.atomic(using=_alias()):
        runs.enqueue(run)
        _attach(checkpoint, run)
    return run


def promote_now(checkpoint: Checkpoint, *, listener: Listener | None = None) -> TrainingRun:
    """As `request_promotion`, in this process; the run as it ended."""
    run = _run_to_index(checkpoint, requested_by=None)
    hold = runs.start(run)
    _attach(checkpoint, run)
    return perform(hold, listener=listener)


def train_now(
    recipe: str | None = None,
    *,
    epochs: int | None = None,
    seed: int = 0,
    promote: bool | None = None,
    listener: Listener | None = None,
) -> TrainingRun:
    """Train in this process, past the queue; the run as it ended.

    Raises TrainingInProgressError while another run is open, TrainingError for bad options.
    """
    hold = runs.start(runs.new_run(recipe, epochs=epochs, seed=seed))
    return perform(hold, promote=promote, listener=listener)


def resume_now(
    run_id: int, *, promote: bool | None = None, listener: Listener | None = None
) -> TrainingRun:
    """Go on, in this process, with a run that was cancelled, stopped or failed; as it ended.

    It goes on from the state it saved last, and begins anew if the catalogue has changed since.
    Raises TrainingInProgressError while a run is open, TrainingError if there is nothing to resume.
    """
    return perform(runs.start(_broken_off(run_id)), promote=promote, listener=listener)


def request_resumption(run_id: int) -> TrainingRun:
    """As `resume_now`, by a worker: the run is queued once more.

    Raises TrainingError as well if nothing of it is left to go on from.
    """
    run = _broken_off(run_id)
    if not run.is_open and not checkpoint_folders.has_state(run_id):
        raise TrainingError(
            f"Nothing that training run {run_id} learned is kept any more: start another run."
        )
    runs.enqueue(run)
    return run


def can_be_resumed(run: TrainingRun) -> bool:
    """Whether the run ended before its time, and left something to go on from."""
    ended = run.state in (TrainingRun.State.CANCELLED, TrainingRun.State.FAILED)
    return (
        ended
        and checkpoint_folders.has_state(run.pk)
        and not Checkpoint.objects.filter(run=run).exists()
    )


def run_queued() -> TrainingRun | None:
    """Perform the run that is queued; None if there is none. This is what a worker calls."""
    hold = runs.claim()
    return None if hold is None else perform(hold, requeue=True)


def perform(
    hold: Hold,
    *,
    promote: bool | None = None,
    listener: Listener | None = None,
    requeue: bool = False,
) -> TrainingRun:
    """Carry a claimed run through to its end, whatever that is; the run as it ended.

    `promote`: whether a checkpoint that passes the gate goes live; None leaves it to the setting.
    A run that fails leaves its reason in `error` and nothing half done behind. `requeue`: one whose
    process is told to stop goes back to the queue, for another worker to go on with.
    """
    run = hold.run
    logger.info("Training run %d starts: recipe %s, seed %d.", run.pk, run.recipe, run.seed)
    try:
        with hold:
            TrainingStages(hold, promote=promote, listener=listener).carry_out()
    except TrainingTakenOverError as error:
        logger.warning("%s", error)
    except TrainingStoppedError as error:
        if requeue:
            _release(hold)
        else:
            reason = f"{error} Go on with it: visualsearch_train --resume {run.pk}"
            _end(hold, TrainingRun.State.FAILED, reason)
        raise SystemExit(128 + signal.SIGTERM) from None
    except TrainingCancelledError as error:
        _end(hold, TrainingRun.State.CANCELLED, error.message)
    except (DiskFullError, OSError) as error:
        reason = _explain(error)
        # One that has its checkpoint is for somebody to decide.
        if requeue and _is_disk_full(error) and not Checkpoint.objects.filter(run=run).exists():
            _release(hold, reason=f"{reason} It goes on by itself when there is room.")
        else:
            logger.warning("Training run %d failed: %s", run.pk, error, exc_info=True)
            _end(hold, TrainingRun.State.FAILED, reason)
    except VisualSearchError as error:
        logger.warning("Training run %d failed: %s", run.pk, error)
        _end(hold, TrainingRun.State.FAILED, error.message)
    except Exception as error:
        logger.exception("Training run %d failed.", run.pk)
        _end(hold, TrainingRun.State.FAILED, _explain(error))
    except BaseException as error:
        reason = f"The process that trained was told to stop ({type(error).__name__})."
        _end(hold, TrainingRun.State.FAILED, f"{reason} Start another run.")
        raise
    finally:
        _give_back_memory()
    run.refresh_from_db()
    return run


def _broken_off(run_id: int) -> TrainingRun:
    """The run, if it has made no checkpoint; TrainingError otherwise."""
    run = TrainingRun.objects.filter(pk=run_id).first()
    if run is None:
        raise TrainingError(f"There is no training run {run_id}.")
    if run.state == TrainingRun.State.SUCCEEDED or Checkpoint.objects.filter(run=run).exists():
        raise TrainingError(f"Training run {run_id} has made its checkpoint: start another run.")
    return run


def _run_to_index(checkpoint: Checkpoint, *, requested_by: Any) -> TrainingRun:
    promotion.check_files(checkpoint)
    run = checkpoint.run or TrainingRun(recipe=checkpoint.recipe)
    run.requested_by = requested_by
    return run


def _attach(checkpoint: Checkpoint, run: TrainingRun) -> None:
    if checkpoint.run_id != run.pk:
        checkpoint.run = run
        checkpoint.save(update_fields=["run"])


def _end(hold: Hold, state: TrainingRun.State, reason: str) -> None:
    """End a run that did not succeed; a checkpoint that was not finished is taken out of the way."""
    try:
        with transaction.atomic(using=_alias()):
            hold.finish(state, error=reason)
            runs.set_aside(hold.run, f"Its training run was not finished: {reason}")
    except TrainingTakenOverError as error:
        logger.warning("%s", error)


def _release(hold: Hold, *, reason: str = "") -> None:
    why = reason or "the process that trains has to stop"
    logger.info("Training run %d is given back: %s", hold.run.pk, why)
    try:
        hold.release(reason=reason)
    except TrainingTakenOverError as error:
        logger.warning("%s", error)


def _give_back_memory() -> None:
    from visualsearch.ml.memory import give_back_memory

    gc.collect()
    give_back_memory()


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, DiskFullError) or getattr(error, "errno", None) == errno.ENOSPC


def _explain(error: Exception) -> str:
    if isinstance(error, VisualSearchError):
        return error.message
    if _is_disk_full(error):
        return f"The disk is full: make room below {get_settings().CHECKPOINT_ROOT}."
    return f"{type(error).__name__}: {error}".strip(": ")


def _alias() -> str:
    return router.db_for_write(TrainingRun)
