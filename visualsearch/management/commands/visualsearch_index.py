"""manage.py visualsearch_index: embed what is due, in this process."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch.exceptions import VisualSearchError
from visualsearch.health import sweeping
from visualsearch.management.progress import ProgressLine
from visualsearch.models import Checkpoint, IndexEntry
from visualsearch.upkeep import indexing

SLICE_SECONDS = 5.0
"""After this long the progress is shown again."""


class Command(BaseCommand):
    help = (
        "Embed the products that changed, with the live checkpoint. Workers do the same by "
        "themselves; any number may run beside this. Exits with 1 if products were set aside."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--all",
            action="store_true",
            help="read every photo again; those whose bytes changed are embedded",
        )
        which.add_argument("--retry-failed", action="store_true", help="also what was set aside")
        which.add_argument(
            "--missing", action="store_true", help="first look for what no trigger noticed"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only say how much would be done"
        )
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *_args: Any, **options: Any) -> None:
        if Checkpoint.objects.live() is None:
            raise CommandError(
                "No checkpoint is live, so there is nothing to embed with: run visualsearch_train, "
                "which embeds the whole catalogue."
            )
        if options["dry_run"]:
            self._say_what_would_be_done(options)
            return
        swept: dict[str, int] = {}
        if options["missing"]:
            swept = sweeping.sweep()
            if not options["json"]:
                for name, count in swept.items():
                    self.stdout.write(f"{name}: {count}")
        elif options["all"]:
            IndexEntry.objects.all().reopen()
        elif options["retry_failed"]:
            IndexEntry.objects.filter(status=IndexEntry.Status.FAILED).reopen()
        self._index(swept, as_json=options["json"])

    def _index(self, swept: dict[str, int], *, as_json: bool) -> None:
        total = IndexEntry.objects.due().count()
        sums = {"indexed": 0, "failed": 0, "deferred": 0, "embedded": 0}
        with ProgressLine(self.stderr if as_json else self.stdout) as line:
            while True:
                try:
                    counts = indexing.index_pending(limit_seconds=SLICE_SECONDS)
                except VisualSearchError as error:
                    raise CommandError(error.message) from error
                for name in sums:
                    sums[name] += getattr(counts, name)
                settled = sums["indexed"] + sums["failed"]
                line.show("indexing", settled, max(total, settled))
                # What was put off comes up again later: this command does not wait for it.
                if counts.is_complete or not (counts.indexed or counts.failed or counts.lists):
                    break
        self.stdout.write(
            json.dumps({**sums, "swept": swept}, indent=2)
            if as_json
            else f"{sums['indexed']} products indexed, {sums['embedded']} photos embedded, "
            f"{sums['failed']} set aside, {sums['deferred']} put off."
        )
        if sums["failed"]:
            raise CommandError(
                f"{sums['failed']} products were set aside; visualsearch_status says why.",
                returncode=1,
            )

    def _say_what_would_be_done(self, options: dict[str, Any]) -> None:
        entries = IndexEntry.objects.all()
        due = entries.due().count()
        if options["all"]:
            due = entries.count()
        elif options["retry_failed"]:
            due += entries.filter(status=IndexEntry.Status.FAILED).count()
        said = f"{due} products would be looked at."
        self.stdout.write(json.dumps({"due": due}, indent=2) if options["json"] else said)
