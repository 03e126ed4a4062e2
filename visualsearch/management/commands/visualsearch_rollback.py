"""manage.py visualsearch_rollback: go back to the checkpoint that was live before."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch import promotion
from visualsearch.exceptions import VisualSearchError
from visualsearch.models import Checkpoint


class Command(BaseCommand):
    help = "Make the checkpoint live that was live before the present one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would happen")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["dry_run"]:
            target = Checkpoint.objects.rollback_target()
            self.stdout.write(
                f"{target} would be live again." if target else "There is nothing to go back to."
            )
            return
        try:
            target = promotion.rollback()
        except VisualSearchError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Checkpoint {target} is live again.")
