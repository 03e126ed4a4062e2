"""manage.py visualsearch_promote: another name of `visualsearch_checkpoints promote`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from visualsearch.management import promoting


class Command(BaseCommand):
    help = "Make a checkpoint the live one; without a name the newest that is ready."

    def add_arguments(self, parser: CommandParser) -> None:
        promoting.add_promote_arguments(parser)
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *_args: Any, **options: Any) -> None:
        promoting.tell(self, promoting.promote(self, options), as_json=options["json"])
