"""manage.py visualsearch_rollback: another name of `visualsearch_checkpoints rollback`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from visualsearch.management import promoting


class Command(BaseCommand):
    help = "Make the checkpoint live that was live before the present one."

    def add_arguments(self, parser: CommandParser) -> None:
        promoting.add_rollback_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        _, said = promoting.rollback(options)
        self.stdout.write(said)
