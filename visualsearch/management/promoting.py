"""What the commands that promote and roll back do; the old ones are other names of the new ones."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch.exceptions import PromotionError, VisualSearchError
from visualsearch.lifecycle import promotion, training
from visualsearch.management.progress import ProgressLine
from visualsearch.models import Checkpoint, TrainingRun

State = Checkpoint.State
REFUSED = 3
"""Exit status when the gate's verdict stands in the way."""


def add_promote_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "checkpoint", nargs="?", help="a name such as v3; without, the newest that is ready"
    )
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


def add_rollback_arguments(parser: CommandParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")


def tell(command: BaseCommand, done: tuple[Checkpoint | None, str], *, as_json: bool) -> None:
    """Print what `promote` or `rollback` did."""
    checkpoint, said = done
    command.stdout.write(json.dumps(as_dict(checkpoint, said), indent=2) if as_json else said)


def as_dict(checkpoint: Checkpoint | None, said: str) -> dict[str, Any]:
    """The same for machines."""
    return {"live": checkpoint and checkpoint.name, "said": said}


def promote(command: BaseCommand, options: dict[str, Any]) -> tuple[Checkpoint | None, str]:
    """The checkpoint that is live now, and what to say; None where nothing was done."""
    checkpoint = find(options["checkpoint"])
    obstacle = promotion.obstacle(checkpoint)
    refused = checkpoint.state == State.REFUSED
    if options["dry_run"]:
        live = Checkpoint.objects.live()
        text = f"{checkpoint} would replace {live or 'nothing'} as the live checkpoint."
        return None, obstacle or (checkpoint.verdict if refused else text)
    overrides = options["force"] and refused
    if overrides and not options["reason"].strip():
        raise CommandError(
            f"Checkpoint {checkpoint} was refused: {checkpoint.verdict} To promote it all the "
            'same, say why: --force --reason "…". It is kept with the checkpoint.',
            returncode=REFUSED,
        )
    try:
        if checkpoint.state == State.IMPORTED or (options["force"] and (refused or obstacle)):
            _index_and_promote(command, checkpoint)
            if overrides:
                reason = options["reason"].strip()
                promotion.record_override(checkpoint, by=_who(), reason=reason)
        else:
            promotion.promote(checkpoint)
    except VisualSearchError as error:
        raise CommandError(error.message, returncode=REFUSED if refused else 1) from error
    return checkpoint, f"Checkpoint {checkpoint} is live."


def rollback(options: dict[str, Any]) -> tuple[Checkpoint | None, str]:
    """The checkpoint that is live again, and what to say; None where nothing was done."""
    if options["dry_run"]:
        target = Checkpoint.objects.rollback_target()
        said = f"{target} would be live again." if target else "There is nothing to go back to."
        return None, said
    try:
        target = promotion.rollback()
    except VisualSearchError as error:
        raise CommandError(error.message) from error
    return target, f"Checkpoint {target} is live again."


def find(name: str | None) -> Checkpoint:
    """The checkpoint of that name, or the newest that is ready; CommandError if there is none."""
    if name is None:
        ready = Checkpoint.objects.filter(state=State.READY).order_by("-created_at")
        if (newest := ready.first()) is None:
            raise CommandError("No checkpoint is ready to be promoted: name one, or train one.")
        return newest
    if (checkpoint := Checkpoint.objects.filter(name=name).first()) is None:
        names = ", ".join(Checkpoint.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"There is no checkpoint {name!r}; there are: {names}.")
    return checkpoint


def _index_and_promote(command: BaseCommand, checkpoint: Checkpoint) -> None:
    if checkpoint.state == State.BUILDING:
        raise PromotionError(f"Checkpoint {checkpoint} is being indexed already.")
    with ProgressLine(command.stderr) as line:
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
