"""manage.py visualsearch_evaluate: the table of one or more checkpoints on the held-out products."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch import evaluation, examples
from visualsearch.conf import get_settings
from visualsearch.examples import Examples
from visualsearch.exceptions import VisualSearchError
from visualsearch.management.progress import ProgressLine
from visualsearch.models import Checkpoint


class Command(BaseCommand):
    help = (
        "Print how well checkpoints find similar products, answer texts and composed queries on "
        "products they were not trained on, beside raw pixels and a colour histogram."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "checkpoint", nargs="*", help="names such as v3; without, the live checkpoint"
        )
        parser.add_argument("--json", metavar="FILE", help='also write the figures; "-" for stdout')

    def handle(self, *_args: Any, **options: Any) -> None:
        checkpoints = [_find(name) for name in options["checkpoint"]]
        if not checkpoints:
            live = Checkpoint.objects.live()
            if live is None:
                raise CommandError("No checkpoint is live: name one, or run visualsearch_train.")
            checkpoints = [live]
        to_stdout = options["json"] == "-"
        figures: dict[str, Any] = {}
        try:
            with tempfile.TemporaryDirectory(dir=_disk()) as folder:
                for checkpoint, found in self._collected(checkpoints, Path(folder)):
                    report = evaluation.evaluate(checkpoint, found)
                    figures[checkpoint.name] = evaluation.clean(report.as_dict())
                    if not to_stdout:
                        title = f"{checkpoint} ({checkpoint.recipe}, {checkpoint.state})"
                        self.stdout.write(f"\n{title}\n{report.table()}")
        except VisualSearchError as error:
            raise CommandError(error.message) from error
        if to_stdout:
            self.stdout.write(json.dumps(figures, indent=2))
        elif options["json"]:
            Path(options["json"]).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")

    def _collected(self, checkpoints: list[Checkpoint], folder: Path) -> Any:
        """Each checkpoint with the catalogue at its size; decoded once for each size."""
        by_size: dict[int, Examples] = {}
        with ProgressLine(self.stderr) as line:
            for checkpoint in checkpoints:
                size = checkpoint.image_size
                if size not in by_size:
                    sized = folder / str(size)
                    sized.mkdir()
                    by_size[size] = examples.collect(
                        sized,
                        size=size,
                        progress=lambda done, total: line.show("collecting", done, total),
                    )
                    line.end()
                yield checkpoint, by_size[size]


def _find(name: str) -> Checkpoint:
    checkpoint = Checkpoint.objects.filter(name=name).first()
    if checkpoint is None:
        names = ", ".join(Checkpoint.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"There is no checkpoint {name!r}; there are: {names}.")
    return checkpoint


def _disk() -> Path:
    root = get_settings().CHECKPOINT_ROOT
    root.mkdir(parents=True, exist_ok=True)
    return root
