"""manage.py visualsearch_train: one training run in this process, from catalogue to live checkpoint."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch.exceptions import VisualSearchError
from visualsearch.lifecycle import training
from visualsearch.lifecycle.run_progress import Step, in_order
from visualsearch.management.progress import ProgressLine, duration
from visualsearch.models import Checkpoint, TrainingRun


class Command(BaseCommand):
    help = (
        "Train a checkpoint on the catalogue, judge it, embed the catalogue with it and promote it. "
        "Exits with 0 if it went live or is ready to, 1 if the run failed, 3 if it was refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--recipe", help="instead of the RECIPE setting")
        parser.add_argument("--epochs", type=int, help="instead of what the recipe finds right")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument(
            "--no-promote", action="store_true", help="leave it ready to be promoted by hand"
        )
        parser.add_argument(
            "--resume", type=int, metavar="RUN", help="go on with a run that was cut off"
        )
        parser.add_argument("--json", action="store_true", help="print the run as JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        line = ProgressLine(self.stderr if options["json"] else self.stdout)

        def listen(step: Step) -> None:
            words = [f"epoch {step.epoch}/{step.epochs}"] if step.epochs else []
            words += [f"loss {step.loss:.3f}"] if step.loss is not None else []
            line.show(step.stage, step.done, step.total, eta=step.eta_seconds, note=" ".join(words))

        try:
            with line:
                promote = False if options["no_promote"] else None
                if options["resume"] is not None:
                    run = training.resume_now(options["resume"], promote=promote, listener=listen)
                else:
                    run = training.train_now(
                        options["recipe"],
                        epochs=options["epochs"],
                        seed=options["seed"],
                        promote=promote,
                        listener=listen,
                    )
        except VisualSearchError as error:
            raise CommandError(error.message) from error
        checkpoint = Checkpoint.objects.filter(run=run).first()
        if options["json"]:
            self.stdout.write(json.dumps(_as_dict(run, checkpoint), indent=2))
        else:
            self._tell(run, checkpoint)
        if run.state != TrainingRun.State.SUCCEEDED or checkpoint is None:
            raise CommandError(f"Run {run.pk} {run.get_state_display()}: {run.error}", returncode=1)
        if checkpoint.state == Checkpoint.State.REFUSED:
            raise CommandError(
                f"Checkpoint {checkpoint} was refused: {checkpoint.verdict}", returncode=3
            )

    def _tell(self, run: TrainingRun, checkpoint: Checkpoint | None) -> None:
        for stage, seconds in in_order(run.timings).items():
            self.stdout.write(f"  {stage:<12}{duration(seconds):>12}")
        if checkpoint is not None:
            self.stdout.write(
                f"Checkpoint {checkpoint} is {checkpoint.get_state_display()}. {checkpoint.verdict}"
            )


def _as_dict(run: TrainingRun, checkpoint: Checkpoint | None) -> dict[str, Any]:
    return {
        "run": run.pk,
        "state": run.state,
        "error": run.error,
        "recipe": run.recipe,
        "seed": run.seed,
        "timings": in_order(run.timings),
        "metrics": run.metrics,
        "checkpoint": checkpoint and checkpoint.name,
        "checkpoint_state": checkpoint and checkpoint.state,
        "verdict": checkpoint and checkpoint.verdict,
    }
