"""The stages of a training run: collect, train, judge, embed, index, probe, neighbours, promote."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import router, transaction
from django.utils import timezone

from visualsearch.conf import get_settings
from visualsearch.exceptions import VisualSearchError
from visualsearch.lifecycle import checkpoint_folders, evaluation, examples, promotion, recall, runs
from visualsearch.lifecycle.hold import Hold
from visualsearch.lifecycle.run_progress import Listener, RunProgress
from visualsearch.lifecycle.verdict import Verdict
from visualsearch.models import Checkpoint, SearchWord, TrainingRun
from visualsearch.search import spelling
from visualsearch.tables import partitions
from visualsearch.upkeep import indexing, neighbours

if TYPE_CHECKING:
    from visualsearch.lifecycle.examples import Examples
    from visualsearch.ml.recipes import Recipe
    from visualsearch.ml.report import Report
    from visualsearch.ml.train import Progress, TrainingResult

logger = logging.getLogger(__name__)

STAGES = {
    "prepare": "preparing",
    "features": "reading",
    "train": "training",
    "evaluate": "evaluating",
    "export": "exporting",
}
"""The trainer's names of its stages -> what a run shows."""


class TrainingStages:
    """The stages of one run, in their order."""

    def __init__(self, hold: Hold, *, promote: bool | None, listener: Listener | None) -> None:
        self.hold = hold
        self.run = hold.run
        self.progress = RunProgress(hold, listener=listener)
        self.promote = get_settings().PROMOTE_AUTOMATICALLY if promote is None else promote
        self.placed: Path | None = None
        """Where the checkpoint's files went before its row was certain."""

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
        self.hold.patiently(lambda: self._release(checkpoint))
        if self.promote:
            self.hold.patiently(lambda: promotion.follow_up(checkpoint))

    def _make(self) -> tuple[Checkpoint, Verdict]:
        """Train and judge: a checkpoint with its files in place, and no embedding yet."""
        recipe = runs.recipe_of(self.run)
        with checkpoint_folders.work_folder() as folder:
            self.progress.enter("collecting")
            found = self.hold.patiently(
                lambda: examples.collect(
                    folder, size=recipe.image_size, progress=self.progress.count
                )
            )
            result = self._train(found, recipe, folder / "checkpoint")
            self.progress.enter("judging")
            live, before = self.hold.patiently(lambda: self._live_report(found, recipe, folder))
            figures = result.metrics | {
                "serving": evaluation.serving(result.folder, found, live=live),
                "judged": evaluation.judged(result.folder, found, live=live),
            }
            verdict = evaluation.judge(figures, result.report, live=before)
            metrics = evaluation.clean(figures) | {
                "checks": [check.as_dict() for check in verdict.checks],
                "skipped_images": found.skipped_images,
                "skipped_products": found.skipped_products,
            }
            checkpoint = self.hold.patiently(
                lambda: self._install(result, recipe, metrics, verdict)
            )
        shutil.rmtree(checkpoint_folders.state_folder(self.run.pk), ignore_errors=True)
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
                sized.mkdir(exist_ok=True)
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

        if made := Checkpoint.objects.filter(run=self.run).first():
            return made  # the database went away with the answer to the commit
        if self.placed is not None:  # … or before it
            self.placed.rename(result.folder)
            self.placed = None
        manifest = Manifest.load(result.folder)
        states = Checkpoint.State
        # What "like this but…" may suggest; nothing, where the recipe reads no words.
        learned = manifest.attributes if manifest.text_length else {}
        metrics = metrics | {"attributes": {name: list(known) for name, known in learned.items()}}
        with transaction.atomic(using=router.db_for_write(TrainingRun)):
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
            # Last, as no rollback takes it back.
            self.placed = checkpoint_folders.put_in_place(result.folder, name)
        return checkpoint

    def _reopen(self, checkpoint: Checkpoint) -> None:
        promotion.check_files(checkpoint)
        with transaction.atomic(using=router.db_for_write(TrainingRun)):
            self.hold.lock()
            if checkpoint.state == Checkpoint.State.LIVE:  # searches look there meanwhile
                partitions.create(checkpoint)
            Checkpoint.objects.filter(pk=checkpoint.pk).exclude(state=Checkpoint.State.LIVE).update(
                state=Checkpoint.State.BUILDING
            )
        checkpoint.refresh_from_db()

    def _index(self, checkpoint: Checkpoint) -> None:
        again = self.hold.patiently
        self.progress.enter("embedding")
        again(lambda: indexing.embed_checkpoint(checkpoint, progress=self.progress.count))
        self.progress.enter("indexing")
        again(lambda: partitions.build_ann_index(checkpoint))
        self.progress.enter("probing")
        again(lambda: recall.probe_if_possible(checkpoint))
        self.progress.enter("neighbours")
        again(lambda: neighbours.compute(checkpoint, progress=self.progress.count))
        # A catalogue that was filled today can be searched by misspelt words, too, before the night.
        again(lambda: spelling.collect(using=router.db_for_write(SearchWord)))

    def _release(self, checkpoint: Checkpoint) -> None:
        """Make the checkpoint ready, and live if it shall be."""
        if TrainingRun.objects.filter(pk=self.run.pk, state=TrainingRun.State.SUCCEEDED).exists():
            return  # the database went away with the answer to the commit
        if self.promote:
            self.progress.enter("promoting")
            promotion.check_files(checkpoint)
        with transaction.atomic(using=router.db_for_write(TrainingRun)):
            self.hold.lock()
            Checkpoint.objects.filter(pk=checkpoint.pk).update(state=Checkpoint.State.READY)
            if self.promote:
                promotion.switch(checkpoint, promoted_at=timezone.now())
            self._succeed()

    def _succeed(self) -> None:
        self.progress.leave()
        self.hold.finish(
            TrainingRun.State.SUCCEEDED,
            stage="",
            timings=self.progress.timings,
            history=self.progress.history,
        )
        logger.info("Training run %d succeeded: %s", self.run.pk, self.progress.timings)
