"""The command line: `python -m visualsearch.ml train | evaluate | export`, without Django."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from visualsearch.exceptions import VisualSearchError
from visualsearch.ml.catalogue_folder import LoadedFolder, load_folder
from visualsearch.ml.recipes import RECIPES, Recipe, get_recipe, override


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0, or 1 with the reason on stderr."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if options.command == "train":
            _train(options)
        elif options.command == "evaluate":
            _evaluate(options)
        else:
            _export(options)
    except VisualSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m visualsearch.ml", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a recipe on a catalogue")
    _add_catalogue(train)
    train.add_argument("--recipe", default="default", help=", ".join(RECIPES))
    train.add_argument("--out", required=True, type=Path, help="the checkpoint folder to write")
    train.add_argument("--epochs", type=int, help="instead of the recipe's")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="auto", help="auto, cpu or cuda")
    train.add_argument("--time-budget", type=float, metavar="SECONDS", help="of the training loop")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another field of the recipe, as trunk=resnet18 or weights=/path/vgg16.pth",
    )

    evaluate = commands.add_parser("evaluate", help="print the table for checkpoints")
    _add_catalogue(evaluate)
    evaluate.add_argument("--checkpoint", required=True, type=Path, action="append")
    evaluate.add_argument("--device", default="auto", help="auto, cpu or cuda")
    evaluate.add_argument(
        "--all", action="store_true", help="all products, not the held-out groups"
    )
    evaluate.add_argument("--json", type=Path, help="write the figures to this file as well")

    export = commands.add_parser("export", help="write a checkpoint's ONNX graphs to a folder")
    export.add_argument("--checkpoint", required=True, type=Path)
    export.add_argument("--out", required=True, type=Path)
    return parser


def _add_catalogue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--catalogue", required=True, type=Path, help="folder or zip: CSV + images")
    parser.add_argument("--limit", type=int, help="only so many products")


def _load(options: argparse.Namespace, *, size: int) -> LoadedFolder:
    started = time.monotonic()
    loaded = load_folder(options.catalogue, size=size, limit=options.limit)
    print(
        f"{len(loaded.catalogue.items)} products, {len(loaded.catalogue.pixels)} photos at {size} px "
        f"in {time.monotonic() - started:.0f} s; {len(loaded.bad_rows)} rows skipped"
    )
    for row in loaded.bad_rows[:10]:
        print(f"  line {row.line} ({row.id or 'no id'}): {row.reason}")
    return loaded


def _train(options: argparse.Namespace) -> None:
    from visualsearch.ml.train import Progress, train

    recipe: Recipe = get_recipe(options.recipe)
    recipe = override(recipe, dict(_assignment(text) for text in options.set))
    catalogue = _load(options, size=recipe.image_size).catalogue
    started = time.monotonic()

    def show(progress: Progress) -> None:
        line = f"{time.monotonic() - started:6.0f} s  {progress.stage:<9}"
        if progress.stage == "train":
            line += (
                f"epoch {progress.epoch}/{progress.epochs}  step {progress.done}/{progress.total}"
            )
            line += f"  loss {progress.loss:.3f}  {progress.eta_s or 0:.0f} s to go"
        print(line, flush=True)

    result = train(
        catalogue,
        recipe,
        out=options.out,
        device=options.device,
        seed=options.seed,
        epochs=options.epochs,
        time_budget_s=options.time_budget,
        progress=show,
    )
    print(result.report.table())
    print(f"checkpoint written to {result.folder} in {time.monotonic() - started:.0f} s")


def _evaluate(options: argparse.Namespace) -> None:
    from visualsearch.ml.data import split
    from visualsearch.ml.evaluate import evaluate
    from visualsearch.ml.inference import TorchEncoder

    figures = {}
    for folder in options.checkpoint:
        encoder = TorchEncoder(folder, device=options.device)
        catalogue = _load(options, size=encoder.image_size).catalogue
        if not options.all:
            catalogue = split(catalogue).holdout
        report = evaluate(encoder, catalogue)
        print(f"{folder}\n{report.table()}")
        figures[str(folder)] = report.as_dict()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _export(options: argparse.Namespace) -> None:
    from visualsearch.ml import checkpoints
    from visualsearch.ml.export import export_onnx

    network, _, _ = checkpoints.load(options.checkpoint)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, cosine in export_onnx(network, options.out).items():
        print(f"{options.out / name}: cosine with the network {cosine}")


def _assignment(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


if __name__ == "__main__":
    sys.exit(main())
