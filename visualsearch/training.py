"""Catalogue -> examples -> trained, judged, indexed and promoted checkpoint: one training run."""

from __future__ import annotations

import errno
import gc
import logging
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import router, transaction
from django.utils import timezone

from visualsearch import (
    checkpoint_folders,
    evaluation,
    examples,
    indexing,
    neighbours,
    partitions,
    promotion,
    runs,
)
from visualsearch.conf import get_settings
from visualsearch.exceptions import (
    TrainingCancelledError,
    TrainingError,
    TrainingStoppedError,
    TrainingTakenOverError,
    VisualSearchError,
)
from visualsearch.models import Checkpoint, TrainingRun
from visualsearch.run_progress import Listener, RunProgress
from visualsearch.runs import Hold, cancel
from visualsearch.verdict import Verdict

if TYPE_CHECKING:
    from visualsearch.examples import Examples
    from visualsearch.ml.recipes import Recipe
    from visualsearch.ml.report import Report
    from visualsearch.ml.train import Progress, TrainingResult

__all__ = [
    "cancel",
    "perform",
    "promote_now",
    "request_promotion",
    "request_training",
    "resume_now",
    "run_queued",
    "train_now",
]

logger = logging.getLogger(__name__)

STAGES = {
    "prepare": "preparing",
    "features": "reading",
    "train": "training",
    "evaluate": "evaluating",
    "export": "exporting",
}
"""The trainer's names of its stages -> what a run shows."""


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
    run = TrainingRun.objects.filter(pk=run_id).first()
    if run is None:
        raise TrainingError(f"There is no training run {run_id}.")
    if run.state == TrainingRun.State.SUCCEEDED or Checkpoint.objects.filter(run=run).exists():
        raise TrainingError(f"Training run {run_id} has made its checkpoint: start another run.")
    return perform(runs.start(run), promote=promote, listener=listener)


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
            _Training(hold, promote=promote, listener=listener).carry_out()
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


class _Training:
    """The stages of one run, in their order."""

    def __init__(self, hold: Hold, *, promote: bool | None, listener: Listener | None) -> None:
        self.hold = hold
        self.run = hold.run
        self.progress = RunProgress(hold, listener=listener)
        self.promote = get_settings().PROMOTE_AUTOMATICALLY if promote is None else promote

    def carry_out(self) -> None:
        checkpoint = Checkpoint.objects.filter(run=self.run).first()
        if checkpoint is None:
            checkpoint, verdict = self._make()
            if not verdict.promote:
                logger.warning("Checkpoint %s was refused: %s", checkpoint, verdict.reason)
                self._succeed()
                promotion.prune()
                return
        else:  # a second attempt, by somebody who wants it live
            self._reopen(checkpoint)
            self.promote = True
        self._index(checkpoint)
        self._release(checkpoint)

    def _make(self) -> tuple[Checkpoint, Verdict]:
        """Train and judge: a checkpoint with its files in place, and no embedding yet."""
        recipe = runs.recipe_of(self.run)
        with checkpoint_folders.work_folder() as folder:
            self.progress.enter("collecting")
            found = examples.collect(folder, size=recipe.image_size, progress=self.progress.count)
            result = self._train(found, recipe, folder / "checkpoint")
            self.progress.enter("judging")
            live, before = self._live_report(found, recipe, folder)
            figures = result.metrics | {
                "serving": evaluation.serving(result.folder, found, live=live)
            }
            verdict = evaluation.judge(figures, result.report, live=before)
            metrics = evaluation.clean(figures) | {
                "checks": [check.as_dict() for check in verdict.checks],
                "skipped_images": found.skipped_images,
                "skipped_products": found.skipped_products,
            }
            checkpoint = self._install(result, recipe, metrics, verdict)
        compared: dict[str, Any] = {}
        if live is not None and before is not None:
            compared["live"] = {**evaluation.clean(before.as_dict()), "checkpoint": live.name}
        self.hold.write(metrics=metrics | compared)
        return checkpoint, verdict

    def _train(self, found: Examples, recipe: Recipe, out: Path) -> TrainingResult:
        from visualsearch.ml.train import train

        def report(step: Progress) -> None:
            stage = STAGES.get(step.stage, step.stage)
            if stage != self.progress.stage:
                self.progress.enter(stage, total=step.total)
            if step.stage == "train":
                self.progress.learned(
                    step=step.done,
                    steps=step.total,
                    epoch=step.epoch,
                    epochs=step.epochs,
                    loss=step.loss,
                    metrics=step.metrics,
                    eta_seconds=step.eta_s,
                )
            else:
                self.progress.count(step.done, step.total)

        self.progress.enter("preparing")
        return train(
            found.catalogue,
            recipe,
            out=out,
            device=get_settings().DEVICE,
            seed=self.run.seed,
            epochs=self.run.epochs,
            progress=report,
            resume=checkpoint_folders.state_folder(self.run.pk),
            features=checkpoint_folders.features_folder(),
            # Until the checkpoint is in place, a run that is cut off trains nothing twice.
            keep_state=True,
        )

    def _live_report(
        self, found: Examples, recipe: Recipe, folder: Path
    ) -> tuple[Checkpoint | None, Report | None]:
        """The live checkpoint and what it makes of the same held-out products."""
        live = Checkpoint.objects.live()
        if live is None:
            return None, None
        try:
            if live.image_size != recipe.image_size:
                sized = folder / "live"
                sized.mkdir()
                held_out_only = len(evaluation.held_out(found).items) < len(found.catalogue.items)
                found = examples.collect(sized, size=live.image_size, held_out_only=held_out_only)
            return live, evaluation.evaluate(live, found, with_baselines=False)
        except VisualSearchError as error:
            logger.warning("The live checkpoint %s cannot be compared with: %s", live, error)
            return live, None

    def _install(
        self, result: TrainingResult, recipe: Recipe, metrics: dict[str, Any], verdict: Verdict
    ) -> Checkpoint:
        """Move the files to their place and write the row, if the run is still ours."""
        from visualsearch.ml.manifest import Manifest

        manifest = Manifest.load(result.folder)
        states = Checkpoint.State
        # What "like this but…" may suggest; nothing, where the recipe reads no words.
        learned = manifest.attributes if manifest.text_length else {}
        metrics = metrics | {"attributes": {name: list(known) for name, known in learned.items()}}
        with transaction.atomic(using=_alias()):
            self.hold.lock()
            name = checkpoint_folders.next_name()
            checkpoint = Checkpoint.objects.create(
                name=name,
                folder=name,
                recipe=recipe.name,
                state=states.BUILDING if verdict.promote else states.REFUSED,
                width=manifest.width,
                image_size=manifest.image_size,
                preprocessing=manifest.preprocessing,
                parameters=manifest.parameters,
                metrics=metrics,
                verdict=verdict.reason,
                run=self.run,
            )
            if verdict.promote:
                partitions.create(checkpoint)
            # Last, as no rollback takes it back.
            checkpoint_folders.put_in_place(result.folder, name)
        shutil.rmtree(checkpoint_folders.state_folder(self.run.pk), ignore_errors=True)
        return checkpoint

    def _reopen(self, checkpoint: Checkpoint) -> None:
        promotion.check_files(checkpoint)
        with transaction.atomic(using=_alias()):
            self.hold.lock()
            partitions.create(checkpoint)
            Checkpoint.objects.filter(pk=checkpoint.pk).exclude(state=Checkpoint.State.LIVE).update(
                state=Checkpoint.State.BUILDING
            )
        checkpoint.refresh_from_db()

    def _index(self, checkpoint: Checkpoint) -> None:
        self.progress.enter("embedding")
        indexing.embed_checkpoint(checkpoint, progress=self.progress.count)
        self.progress.enter("indexing")
        partitions.build_ann_index(checkpoint)
        self.progress.enter("neighbours")
        neighbours.compute(checkpoint, progress=self.progress.count)

    def _release(self, checkpoint: Checkpoint) -> None:
        """Make the checkpoint ready, and live if it shall be."""
        if self.promote:
            self.progress.enter("promoting")
            promotion.check_files(checkpoint)
        with transaction.atomic(using=_alias()):
            self.hold.lock()
            Checkpoint.objects.filter(pk=checkpoint.pk).update(state=Checkpoint.State.READY)
            if self.promote:
                promotion.switch(checkpoint, promoted_at=timezone.now())
            self._succeed()
        if self.promote:
            promotion.follow_up(checkpoint)

    def _succeed(self) -> None:
        self.progress.leave()
        self.hold.finish(
            TrainingRun.State.SUCCEEDED,
            stage="",
            timings=self.progress.timings,
            history=self.progress.history,
        )
        logger.info("Training run %d succeeded: %s", self.run.pk, self.progress.timings)


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


def _release(hold: Hold) -> None:
    logger.info("Training run %d is given back: the process that trains has to stop.", hold.run.pk)
    try:
        hold.release()
    except TrainingTakenOverError as error:
        logger.warning("%s", error)


def _give_back_memory() -> None:
    from visualsearch.ml.memory import give_back_memory

    gc.collect()
    give_back_memory()


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        root = get_settings().CHECKPOINT_ROOT
        return f"The disk is full: make room below {root}, and start another run."
    return f"{type(error).__name__}: {error}".strip(": ")


def _alias() -> str:
    return router.db_for_write(TrainingRun)
