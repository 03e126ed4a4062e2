"""manage.py visualsearch_rollback: another name of `visualsearch_checkpoints rollback`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from visualsearch.management import promoting


class Command(BaseCommand):
    help = "Make the checkpoint live that was live before the present one."

    def add_arguments(self, parser: CommandParser) -> None:
        promoting.add_rollback_arguments(parser)
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *_args: Any, **options: Any) -> None:
        promoting.tell(self, promoting.rollback(options), as_json=options["json"])
