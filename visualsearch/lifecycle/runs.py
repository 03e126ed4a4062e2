"""The training runs as rows: request, claim, cancel, give up; one open at a time, whoever asks."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import (
    IntegrityError,
    router,
    transaction,
)
from django.db.models import F, Q
from django.db.models.functions import Now

from visualsearch.conf import get_settings
from visualsearch.exceptions import (
    TablesBusyError,
    TrainingError,
    TrainingInProgressError,
)
from visualsearch.lifecycle.hold import Hold
from visualsearch.models import Checkpoint, TrainingRun
from visualsearch.querysets import HEARTBEAT_SECONDS
from visualsearch.tables import partitions
from visualsearch.upkeep import doorbell

if TYPE_CHECKING:
    from visualsearch.ml.recipes import Recipe

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 60
"""A run that waits for room on the disk is tried again after so long."""
MAX_ATTEMPTS = 3
"""Workers that may take up a run one after the other; a run that ends them all is given up."""
ONE_OPEN_RUN = "visualsearch_one_open_run"
"""The constraint that makes a second open run impossible."""

State = TrainingRun.State
_FRESH: dict[str, Any] = {
    "state": State.QUEUED,
    "stage": "",
    "done": 0,
    "total": 0,
    "eta_seconds": None,
    "error": "",
    "cancel_requested": False,
    "token": None,
    "attempts": 0,
    "heartbeat_at": None,
    "finished_at": None,
}


def new_run(
    recipe: str | None = None,
    *,
    epochs: int | None = None,
    seed: int = 0,
    requested_by: Any = None,
) -> TrainingRun:
    """A run that is not saved yet, its options checked; what is left out comes from the settings.

    Raises TrainingError for a recipe or a number that does not exist.
    """
    from visualsearch.ml.recipes import get_recipe

    settings = get_settings()
    run = TrainingRun(
        recipe=get_recipe(recipe or settings.RECIPE).name,
        epochs=settings.TRAINING_EPOCHS if epochs is None else epochs,
        seed=seed,
        requested_by=requested_by,
    )
    try:
        run.clean_fields()
    except ValidationError as error:
        faults = "; ".join(
            f"{name}: {' '.join(messages)}" for name, messages in error.message_dict.items()
        )
        raise TrainingError(f"A training run cannot be started like this: {faults}") from error
    return run


def recipe_of(run: TrainingRun) -> Recipe:
    """The recipe a run trains by: the settings' own with RECIPE_FIELDS, another as it is.

    Raises TrainingError for a recipe or fields that do not exist.
    """
    from visualsearch.ml.recipes import get_recipe, override

    settings = get_settings()
    recipe = get_recipe(run.recipe)
    return override(recipe, settings.RECIPE_FIELDS) if run.recipe == settings.RECIPE else recipe


def enqueue(run: TrainingRun) -> None:
    """Save `run` as queued, and wake a worker once that is committed.

    Raises TrainingInProgressError while another run is open: the database decides, so that of any
    number of clicks at the same time one wins.
    """
    fail_abandoned()
    _save_open(run)
    transaction.on_commit(lambda: doorbell.ring("train"), using=_alias())


def start(run: TrainingRun) -> Hold:
    """Save `run` as running in this process, past the queue; raises as `enqueue` does."""
    fail_abandoned()
    with transaction.atomic(using=_alias()):
        _save_open(run)
        hold = _take(run)
    assert hold is not None  # nobody else has seen the row
    return hold


def claim() -> Hold | None:
    """Take the queued run, or one whose worker died; of any number of workers one gets it."""
    if (hold := _take_over()) is not None:
        return hold
    fail_abandoned()
    rested = Q(error="") | Q(heartbeat_at__lt=Now() - timedelta(seconds=PAUSE_SECONDS))
    run = TrainingRun.objects.filter(rested, state=State.QUEUED).order_by("created_at").first()
    return None if run is None else _take(run)


def cancel(run: TrainingRun) -> bool:
    """Ask an open run to end; False if it had ended already.

    One that is still queued ends at once, one that is running within a few seconds.
    """
    fail_abandoned()  # a trainer that is dead would never notice
    this = TrainingRun.objects.filter(pk=run.pk)
    ended = this.filter(state=State.QUEUED).update(
        state=State.CANCELLED, cancel_requested=True, finished_at=Now()
    )
    asked = ended or this.filter(state=State.RUNNING).update(cancel_requested=True)
    run.refresh_from_db()
    return bool(asked)


def fail_abandoned() -> int:
    """Mark runs whose trainer has gone silent as failed, so that a new one can begin."""
    failed = 0
    for run in TrainingRun.objects.abandoned():
        with transaction.atomic(using=_alias()):
            still = TrainingRun.objects.abandoned().filter(pk=run.pk, token=run.token)
            taken = still.update(
                state=State.FAILED,
                eta_seconds=None,
                finished_at=Now(),
                error=(
                    f"The worker that trained gave no sign of life for {HEARTBEAT_SECONDS} "
                    "seconds and is taken for dead. Look into its log (out of memory?), see that "
                    "a worker for the queue 'train' runs, and start another run. The live "
                    f"checkpoint was not touched. Attempts: {run.attempts}."
                ),
            )
            if taken:
                failed += 1
                set_aside(run, "Its training run ended before it was indexed.")
                logger.warning("Training run %d was abandoned by its trainer.", run.pk)
    return failed


def set_aside(run: TrainingRun, reason: str) -> None:
    """Take the run's half-indexed checkpoint out of the way; its files stay for a later attempt."""
    for checkpoint in Checkpoint.objects.filter(run=run, state=Checkpoint.State.BUILDING):
        try:
            partitions.drop(checkpoint)
        except TablesBusyError as error:  # what is left of it is dropped when it is pruned
            logger.warning("The embeddings of checkpoint %s stay: %s", checkpoint, error)
        Checkpoint.objects.filter(pk=checkpoint.pk, state=Checkpoint.State.BUILDING).update(
            state=Checkpoint.State.REFUSED, verdict=reason
        )


def _save_open(run: TrainingRun) -> None:
    try:
        with transaction.atomic(using=_alias()):
            # One that is saved already is taken up again: not while somebody is at it.
            before = TrainingRun.objects.select_for_update().filter(pk=run.pk).first()
            if before is not None and before.is_open:
                raise TrainingInProgressError(_describe_open())
            for name, value in _FRESH.items():
                setattr(run, name, value)
            run.save()
    except IntegrityError as error:
        if ONE_OPEN_RUN not in str(error):
            raise
        raise TrainingInProgressError(_describe_open()) from error


def _describe_open() -> str:
    run = TrainingRun.objects.open().first()
    if run is None:
        return "A training run was open until just now: try again."
    return (
        f"Training run {run.pk} (recipe {run.recipe}) is {run.get_state_display()}: "
        "wait for it, or cancel it first."
    )


def _take_over() -> Hold | None:
    """Take a run whose trainer has gone silent, and resume it from the state that it saved.

    Not one that made its checkpoint: what is left of that is for somebody to decide, who sees it
    refused and why. Not one that is to be cancelled, or that ended as many workers as it may.
    """
    for run in TrainingRun.objects.abandoned().filter(
        cancel_requested=False, attempts__lt=MAX_ATTEMPTS
    ):
        if Checkpoint.objects.filter(run=run).exists():
            continue
        token = uuid.uuid4()
        still = TrainingRun.objects.abandoned().filter(pk=run.pk, token=run.token)
        if still.update(token=token, heartbeat_at=Now(), attempts=F("attempts") + 1):
            run.refresh_from_db()
            logger.warning(
                "Training run %d lost its worker; attempt %d goes on where it stopped.",
                run.pk,
                run.attempts,
            )
            return Hold(run, token)
    return None


def _take(run: TrainingRun) -> Hold | None:
    token = uuid.uuid4()
    taken = TrainingRun.objects.filter(pk=run.pk, state=State.QUEUED).update(
        state=State.RUNNING,
        token=token,
        attempts=F("attempts") + 1,
        started_at=Now(),
        heartbeat_at=Now(),
        finished_at=None,
        error="",
    )
    if not taken:
        return None
    run.refresh_from_db()
    return Hold(run, token)


def _alias() -> str:
    return router.db_for_write(TrainingRun)
