"""manage.py visualsearch_status: how much is indexed, what is live, what is under way."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from visualsearch.health import status
from visualsearch.management.progress import duration
from visualsearch.models import Checkpoint, IndexEntry, TrainingRun

FAILED_SHOWN = 10


class Command(BaseCommand):
    help = (
        "Say how much of the catalogue is indexed, which checkpoint is live and what is under way."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for machines")
        parser.add_argument(
            "--no-workers", action="store_true", help="do not ask the broker which workers answer"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        found = collect(ask_workers=not options["no_workers"])
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2, default=str))
            return
        live, run = found["live"], found["run"]
        self.stdout.write(
            f"products    {found['products']}: {found['indexed']} indexed, "
            f"{found['pending']} pending, {found['failed']} failed"
        )
        self.stdout.write(f"coverage    {100 * found['coverage']:.1f} %")
        if found["pending"]:
            self.stdout.write(f"oldest      {duration(found['oldest_pending_seconds'])} ago")
            self.stdout.write(f"pace        {_describe_pace(found)}")
        self.stdout.write(
            f"live        {live['name']} ({live['recipe']}), {found['embeddings']} embeddings"
            if live
            else "live        none: run visualsearch_train, or Retrain in the admin"
        )
        self.stdout.write(f"training    {_describe(run) if run else 'nothing under way'}")
        if "workers" in found:
            names = found["workers"]
            told = "the broker does not answer" if names is None else ", ".join(names) or "none"
            self.stdout.write(f"workers     {told}")
        if found["is_stuck"]:
            self.stdout.write(
                self.style.WARNING("Nobody works on what is pending: is an embed worker running?")
            )
        for failed in found["failures"]:
            self.stdout.write(f"  failed    {failed['product']}: {failed['error']}")


def collect(*, ask_workers: bool) -> dict[str, Any]:
    """Everything the command says, for JSON."""
    covered = status.coverage()
    live, run = Checkpoint.objects.live(), status.open_run()
    failures = IndexEntry.objects.filter(status=IndexEntry.Status.FAILED).order_by("product_id")
    found: dict[str, Any] = {
        "products": covered.products,
        "indexed": covered.indexed,
        "pending": covered.pending,
        "failed": covered.failed,
        "coverage": round(covered.share, 4),
        "embeddings": covered.embeddings,
        "products_per_second": round(covered.per_second, 2),
        "eta_seconds": covered.eta_seconds and round(covered.eta_seconds),
        "oldest_pending_seconds": round(covered.oldest_pending_seconds, 1),
        "last_indexed": covered.last_indexed,
        "is_stuck": covered.is_stuck,
        "live": live and {"name": live.name, "recipe": live.recipe, "since": live.promoted_at},
        "run": run and _run(run),
        "failures": [
            {"product": str(entry.product_id), "code": entry.error_code, "error": entry.error}
            for entry in failures[:FAILED_SHOWN]
        ],
    }
    if ask_workers:
        found["workers"] = status.workers()
    return found


def _run(run: TrainingRun) -> dict[str, Any]:
    names = ("pk", "recipe", "state", "stage", "done", "total", "eta_seconds", "heartbeat_at")
    return {name: getattr(run, name) for name in names}


def _describe_pace(found: dict[str, Any]) -> str:
    if found["eta_seconds"] is None:
        return "nothing was indexed in the last minutes"
    pace = f"{found['products_per_second']:.1f} products/s"
    return f"{pace}, about {duration(found['eta_seconds'])} left"


def _describe(run: dict[str, Any]) -> str:
    words = [f"run {run['pk']} ({run['recipe']}) {run['state']}"]
    if run["stage"]:
        words.append(f"{run['stage']} {run['done']}/{run['total']}")
    if run["eta_seconds"] is not None:
        words.append(f"{duration(run['eta_seconds'])} left of this stage")
    return ", ".join(words)
