"""manage.py visualsearch_search: ask the index by words, by a photo, or by both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch.exceptions import VisualSearchError
from visualsearch.search import searching


class Command(BaseCommand):
    help = (
        'Search as a visitor without a login does: visualsearch_search "red dress", '
        '--image photo.jpg, or --image photo.jpg --modify "in blue".'
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text", nargs="?", help="words to search for")
        parser.add_argument("--image", metavar="FILE", help="a photo to search by")
        parser.add_argument("--modify", metavar="TEXT", help="what should differ from the photo")
        parser.add_argument(
            "--strength", type=float, help="how much it should differ: 0 to 2, 1 without"
        )
        parser.add_argument("--limit", type=int, default=10)
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            photo = Path(options["image"]).read_bytes() if options["image"] else None
        except OSError as error:
            raise CommandError(f"{options['image']} cannot be read: {error.strerror}.") from error
        try:
            results = searching.search(
                options["text"],
                image=photo,
                modify=options["modify"],
                strength=options["strength"],
                limit=options["limit"],
            )
            hits = list(results)
        except VisualSearchError as error:
            raise CommandError(error.message) from error
        if options["json"]:
            found = [
                {
                    "id": str(hit.product.pk),
                    "title": hit.index.get_title(hit.product),
                    "score": hit.score,
                }
                for hit in hits
            ]
            answer = {"checkpoint": results.checkpoint, "degraded": results.degraded, "hits": found}
            self.stdout.write(json.dumps(answer, indent=2))
            return
        if results.degraded:
            self.stdout.write(self.style.WARNING("Answered without the network, by words alone."))
        for rank, hit in enumerate(hits, start=1):
            score = f"{hit.score:.3f}" if hit.score is not None else "  –  "
            title = hit.index.get_title(hit.product)
            self.stdout.write(f"{rank:>3}  {score}  {hit.product.pk}  {title}")
        if not hits:
            self.stdout.write("Nothing found.")
