"""manage.py visualsearch_evaluate: the table of one or more checkpoints on the held-out products."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch import encoding
from visualsearch.conf import get_settings
from visualsearch.exceptions import VisualSearchError
from visualsearch.lifecycle import evaluation, examples
from visualsearch.lifecycle.examples import Examples
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
        parser.add_argument(
            "--compare",
            action="store_true",
            help="two checkpoints, query by query: the change of each figure and its interval",
        )
        parser.add_argument(
            "--html",
            metavar="FILE",
            help="also write one page with figures, worst queries in pictures and a map",
        )
        parser.add_argument(
            "--whole",
            action="store_true",
            help="search texts and composed queries in the whole catalogue as well",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        checkpoints = [_find(name) for name in options["checkpoint"]]
        if not checkpoints:
            live = Checkpoint.objects.live()
            if live is None:
                raise CommandError("No checkpoint is live: name one, or run visualsearch_train.")
            checkpoints = [live]
        from visualsearch.ml import presentation  # brings torch, which `help` needs not

        try:
            if options["compare"]:
                presentation.check_comparison([each.name for each in checkpoints])
            with tempfile.TemporaryDirectory(dir=_disk()) as folder:
                self._evaluate(checkpoints, Path(folder), options)
        except VisualSearchError as error:
            raise CommandError(error.message) from error

    def _evaluate(
        self, checkpoints: list[Checkpoint], folder: Path, options: dict[str, Any]
    ) -> None:
        from visualsearch.ml import presentation

        to_stdout = options["json"] == "-"
        found: list[presentation.Evaluated] = []
        for checkpoint, collected in self._collected(checkpoints, folder):
            report = evaluation.evaluate(checkpoint, collected, whole=options["whole"])
            encoder: Any = encoding.bulk_encoder(checkpoint)
            held = evaluation.held_out(collected)
            found.append(
                presentation.Evaluated(
                    name=checkpoint.name, report=report, encoder=encoder, catalogue=held
                )
            )
            if not to_stdout:
                title = f"{checkpoint} ({checkpoint.recipe}, {checkpoint.state})"
                self.stdout.write(f"\n{title}\n{report.table()}")
        comparison = options["compare"]
        if not to_stdout:
            for table in presentation.tables(found, comparison=comparison):
                self.stdout.write(f"\n{table}")
        if options["json"]:
            figures = evaluation.clean(presentation.as_dict(found, comparison=comparison))
            text = json.dumps(figures, indent=2)
            if to_stdout:
                self.stdout.write(text)
            else:
                Path(options["json"]).write_text(text + "\n", encoding="utf-8")
        if options["html"]:
            presentation.write_html(Path(options["html"]), found)

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
