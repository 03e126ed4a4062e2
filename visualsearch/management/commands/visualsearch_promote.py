"""manage.py visualsearch_promote: make a checkpoint the live one."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch import promotion, training
from visualsearch.exceptions import PromotionError, VisualSearchError
from visualsearch.management.progress import ProgressLine
from visualsearch.models import Checkpoint, TrainingRun


class Command(BaseCommand):
    help = "Make a checkpoint the live one; without a name the newest that is ready."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("checkpoint", nargs="?", help="a name such as v3")
        parser.add_argument(
            "--force",
            action="store_true",
            help="even if the gate refused it or its embeddings were dropped: they are made again",
        )
        parser.add_argument(
            "--reason",
            default="",
            help="why a refused one is promoted all the same; required then, and kept with it",
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would happen")

    def handle(self, *_args: Any, **options: Any) -> None:
        checkpoint = _find(options["checkpoint"])
        obstacle = promotion.obstacle(checkpoint)
        refused = checkpoint.state == Checkpoint.State.REFUSED
        if options["dry_run"]:
            live = Checkpoint.objects.live()
            text = f"{checkpoint} would replace {live or 'nothing'} as the live checkpoint."
            self.stdout.write(obstacle or (checkpoint.verdict if refused else text))
            return
        overrides = options["force"] and refused
        if overrides and not options["reason"].strip():
            raise CommandError(
                f"Checkpoint {checkpoint} was refused: {checkpoint.verdict} To promote it all the "
                'same, say why: --force --reason "…". It is kept with the checkpoint.'
            )
        try:
            if options["force"] and (refused or obstacle):
                self._index_and_promote(checkpoint)
                if overrides:
                    reason = options["reason"].strip()
                    promotion.record_override(checkpoint, by=_who(), reason=reason)
            else:
                promotion.promote(checkpoint)
        except VisualSearchError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Checkpoint {checkpoint} is live.")

    def _index_and_promote(self, checkpoint: Checkpoint) -> None:
        if checkpoint.state == Checkpoint.State.BUILDING:
            raise PromotionError(f"Checkpoint {checkpoint} is being indexed already.")
        with ProgressLine(self.stdout) as line:
            run = training.promote_now(
                checkpoint,
                listener=lambda step: line.show(
                    step.stage, step.done, step.total, eta=step.eta_seconds
                ),
            )
        if run.state != TrainingRun.State.SUCCEEDED:
            raise PromotionError(run.error)


def _who() -> str:
    """The account that runs the command; a container may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an unnamed account"


def _find(name: str | None) -> Checkpoint:
    if name is None:
        ready = Checkpoint.objects.filter(state=Checkpoint.State.READY).order_by("-created_at")
        if (newest := ready.first()) is None:
            raise CommandError("No checkpoint is ready to be promoted: name one, or train one.")
        return newest
    if (checkpoint := Checkpoint.objects.filter(name=name).first()) is None:
        names = ", ".join(Checkpoint.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"There is no checkpoint {name!r}; there are: {names}.")
    return checkpoint
