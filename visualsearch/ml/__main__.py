"""The command line: `python -m visualsearch.ml train | evaluate | export`, without Django."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from visualsearch.exceptions import TrainingStoppedError, VisualSearchError
from visualsearch.ml.catalogue_folder import LoadedFolder, load_folder
from visualsearch.ml.fashion_iq import SPLITS, FashionIQ, load_fashion_iq
from visualsearch.ml.recipes import RECIPES, Recipe, get_recipe, override


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0, or 1 with the reason on stderr."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if os.environ.get("RANK", "0") != "0":  # of several under torchrun, the first one speaks
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        if options.command == "train":
            _train(options)
        elif options.command == "evaluate":
            _evaluate(options)
        else:
            _export(options)
    except TrainingStoppedError as error:
        print(f"{error} Its state is saved: the same command goes on with it.", file=sys.stderr)
        return 128 + signal.SIGTERM
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
    train.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="save the state there, and go on from what is there already",
    )
    train.add_argument(
        "--features", type=Path, metavar="FOLDER", help="keeps a frozen trunk's features for later"
    )
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
    evaluate.add_argument("--html", type=Path, help="write a page with figures and worst queries")
    evaluate.add_argument(
        "--compare", action="store_true", help="two checkpoints, query by query, with intervals"
    )
    evaluate.add_argument(
        "--whole", action="store_true", help="search the whole catalogue for texts as well"
    )

    export = commands.add_parser("export", help="write a checkpoint's ONNX graphs")
    export.add_argument("checkpoint", type=Path, help="the checkpoint's folder")
    export.add_argument("--out", type=Path, help="another folder; into the checkpoint without it")
    return parser


def _add_catalogue(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--catalogue", type=Path, help="folder or zip: CSV + images")
    source.add_argument("--fashion-iq", type=Path, help="folder or zip of Fashion-IQ's annotations")
    parser.add_argument("--images", type=Path, help="Fashion-IQ's images, if not in its folder")
    parser.add_argument("--limit", type=int, help="only so many products (triplets a file)")


def _load_fashion_iq(options: argparse.Namespace, *, size: int, splits: Sequence[str]) -> FashionIQ:
    data = load_fashion_iq(
        options.fashion_iq, images=options.images, size=size, splits=splits, limit=options.limit
    )
    print(f"{len(data.catalogue.items)} images at {size} px\n{data.summary()}")
    return data


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
    fashion_iq: FashionIQ | None = None
    if options.fashion_iq:
        fashion_iq = _load_fashion_iq(options, size=recipe.image_size, splits=SPLITS)
        catalogue = fashion_iq.catalogue
    else:
        catalogue = _load(options, size=recipe.image_size).catalogue
    started = time.monotonic()

    told = ("", 0.0)

    def show(progress: Progress) -> None:
        nonlocal told
        now = time.monotonic()
        if progress.stage == told[0] and progress.done < progress.total and now - told[1] < 1:
            return
        told = (progress.stage, now)
        line = f"{time.monotonic() - started:6.0f} s  {progress.stage:<9}"
        if progress.stage == "train":
            line += (
                f"epoch {progress.epoch}/{progress.epochs}  step {progress.done}/{progress.total}"
            )
            line += f"  loss {progress.loss:.3f}  {progress.eta_s or 0:.0f} s to go"
        elif progress.total > 1:
            line += f"{progress.done}/{progress.total}"
        print(line, flush=True)

    result = train(
        catalogue,
        recipe,
        out=options.out,
        device=options.device,
        seed=options.seed,
        epochs=options.epochs,
        time_budget_s=options.time_budget,
        resume=options.resume,
        features=options.features,
        progress=show,
    )
    print(result.report.table())
    if fashion_iq is not None:
        from visualsearch.ml.fashion_iq_protocol import evaluate_fashion_iq
        from visualsearch.ml.inference import TorchEncoder

        encoder = TorchEncoder(result.folder, device=options.device)
        print(evaluate_fashion_iq(encoder, fashion_iq).table())
    print(f"checkpoint written to {result.folder} in {time.monotonic() - started:.0f} s")


def _evaluate(options: argparse.Namespace) -> None:
    from visualsearch.ml import presentation
    from visualsearch.ml.data import Catalogue, split
    from visualsearch.ml.evaluate import evaluate
    from visualsearch.ml.inference import TorchEncoder
    from visualsearch.ml.triplet_queries import read_triplets

    if options.compare:
        presentation.check_comparison([str(folder) for folder in options.checkpoint])
    found: list[presentation.Evaluated] = []
    by_size: dict[int, Catalogue] = {}
    for folder in options.checkpoint:
        encoder = TorchEncoder(folder, device=options.device)
        size = encoder.image_size
        if options.fashion_iq:
            from visualsearch.ml.fashion_iq_protocol import evaluate_fashion_iq

            data = _load_fashion_iq(options, size=size, splits=("val",))
            catalogue, report = data.catalogue, evaluate_fashion_iq(encoder, data)
        else:
            if size not in by_size:
                by_size[size] = _load(options, size=size).catalogue
            whole = by_size[size]
            catalogue = whole if options.all else split(whole).holdout
            wider = whole if options.whole and not options.all else None
            published = read_triplets(options.catalogue)
            report = evaluate(encoder, catalogue, whole=wider, published=published)
        print(f"{folder}\n{report.table()}")
        found.append(
            presentation.Evaluated(
                name=str(folder), report=report, encoder=encoder, catalogue=catalogue
            )
        )
    for table in presentation.tables(found, comparison=options.compare):
        print(f"\n{table}")
    if options.json:
        figures = presentation.as_dict(found, comparison=options.compare)
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.html:
        presentation.write_html(options.html, found)
        print(f"page written to {options.html}")


def _export(options: argparse.Namespace) -> None:
    from visualsearch.ml import checkpoints
    from visualsearch.ml.export import export_onnx

    network, _, manifest = checkpoints.load(options.checkpoint)
    folder = options.out or options.checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    for name, cosine in export_onnx(network, folder).items():
        print(f"{folder / name}: cosine with the network {cosine}")
    if options.out is None:  # what the manifest does not name is not served
        manifest.write(folder)


def _assignment(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


if __name__ == "__main__":
    sys.exit(main())
