"""manage.py visualsearch_checkpoints: list, export, import, promote, roll back and prune checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from visualsearch.exceptions import PromotionError, VisualSearchError
from visualsearch.lifecycle import promotion, transfer
from visualsearch.management import promoting
from visualsearch.management.progress import ProgressLine
from visualsearch.models import Checkpoint, Embedding
from visualsearch.tables import partitions


class Command(BaseCommand):
    help = (
        "The checkpoints of this installation. Exits with 0 if it was done, 1 if it could not be, "
        "3 if the gate's verdict stands in the way."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        def action(name: str, text: str) -> CommandParser:
            added: CommandParser = actions.add_parser(name, help=text, description=text)
            added.add_argument("--json", action="store_true", help="for machines")
            return added

        action("list", "Every checkpoint: its state, its embeddings, the recall of its index.")
        exporting = action("export", "Write a checkpoint's files to one file, for another machine.")
        exporting.add_argument("checkpoint", help="a name such as v3")
        exporting.add_argument("file", nargs="?", help="default: NAME.tar in this folder")
        importing = action("import", "Take a checkpoint over from a file that `export` wrote.")
        importing.add_argument("file")
        importing.add_argument("--name", help="instead of the one it has")
        promoting.add_promote_arguments(action("promote", "Make a checkpoint the live one."))
        promoting.add_rollback_arguments(
            action("rollback", "Make the checkpoint live that was live before the present one.")
        )
        pruning = action("prune", "Drop embeddings and files of checkpoints no one goes back to.")
        pruning.add_argument("checkpoint", nargs="*", help="these; without, all but the newest")
        pruning.add_argument("--keep", type=int, help="how many; default: KEEP_CHECKPOINTS")
        pruning.add_argument("--dry-run", action="store_true", help="only say what would happen")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            answer, text = getattr(self, f"_{options['action']}")(options)
        except VisualSearchError as error:
            raise CommandError(error.message, returncode=1) from error
        self.stdout.write(json.dumps(answer, indent=2, default=str) if options["json"] else text)

    def _list(self, options: dict[str, Any]) -> tuple[Any, str]:
        rows = [_describe(checkpoint) for checkpoint in Checkpoint.objects.all()]
        lines = [
            f"{row['name']:<10} {row['state']:<9} {row['recipe']:<16} "
            f"{row['embeddings']:>9,} embeddings  {row['megabytes']:>8.1f} MB  {_recall(row)}"
            for row in rows
        ]
        return rows, "\n".join(lines) or "There are none: run visualsearch_train."

    def _export(self, options: dict[str, Any]) -> tuple[Any, str]:
        checkpoint = promoting.find(options["checkpoint"])
        path = Path(options["file"] or f"{checkpoint.name}.tar")
        with ProgressLine(self.stderr) as line:
            written = transfer.export_checkpoint(
                checkpoint, path, progress=lambda done, total: line.show("exporting", done, total)
            )
        answer = {"checkpoint": checkpoint.name, "file": str(path), **written}
        return answer, f"{checkpoint} is in {path}, {written['bytes'] / 1e6:.1f} MB."

    def _import(self, options: dict[str, Any]) -> tuple[Any, str]:
        path = Path(options["file"])
        with ProgressLine(self.stderr) as line:
            checkpoint = transfer.import_checkpoint(
                path,
                name=options["name"],
                progress=lambda done, total: line.show("importing", done, total),
            )
        return _describe(checkpoint), (
            f"Imported as {checkpoint}, {checkpoint.get_state_display()}. "
            f"`visualsearch_checkpoints promote {checkpoint}` embeds the catalogue and takes it live."
        )

    def _promote(self, options: dict[str, Any]) -> tuple[Any, str]:
        checkpoint, said = promoting.promote(self, options)
        return promoting.as_dict(checkpoint, said), said

    def _rollback(self, options: dict[str, Any]) -> tuple[Any, str]:
        checkpoint, said = promoting.rollback(options)
        return promoting.as_dict(checkpoint, said), said

    def _prune(self, options: dict[str, Any]) -> tuple[Any, str]:
        keep = options["keep"]
        if keep is not None and keep < 0:
            raise CommandError(f"--keep is {keep}: give 0 or more.", returncode=1)
        named = [promoting.find(name) for name in options["checkpoint"]]
        if options["dry_run"]:
            pruned, verb = named or promotion.prunable(keep=keep), "would be pruned"
        elif named:
            pruned, verb = [each for each in named if _forget(each)], "pruned"
        else:
            pruned, verb = promotion.prune(keep=keep), "pruned"
        names = [checkpoint.name for checkpoint in pruned]
        return {"pruned": names}, f"{', '.join(names) or 'Nothing'} {verb}."


def _forget(checkpoint: Checkpoint) -> bool:
    if not promotion.forget(checkpoint):
        raise PromotionError(f"Checkpoint {checkpoint} is being promoted just now: try again.")
    return True


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    folder = promotion.folder_of(checkpoint)
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    embedded = partitions.exists(checkpoint)
    return {
        "name": checkpoint.name,
        "state": checkpoint.state,
        "recipe": checkpoint.recipe,
        "width": checkpoint.width,
        "created_at": checkpoint.created_at,
        "promoted_at": checkpoint.promoted_at,
        "retired_at": checkpoint.retired_at,
        "verdict": checkpoint.verdict,
        "embeddings": Embedding.objects.filter(checkpoint=checkpoint).count() if embedded else 0,
        "has_ann_index": checkpoint.has_ann_index,
        "recall": checkpoint.recall,
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
    }


def _recall(row: dict[str, Any]) -> str:
    kinds = row["recall"].get("kinds", {})
    return ", ".join(f"{kind} {each['recall']:.3f}" for kind, each in kinds.items())
