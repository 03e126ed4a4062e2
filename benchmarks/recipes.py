"""Recipes trained and judged alike on one catalogue: the published systems, or `default` part by part.

python -m benchmarks.recipes --catalogue PATH/hm.zip                      every system
python -m benchmarks.recipes --catalogue PATH/hm.zip --table ablation     default without each part
python -m benchmarks.recipes --catalogue PATH/hm.zip --table additions    default with what came later
python -m benchmarks.recipes --catalogue PATH/hm.zip --trained FOLDER     one checkpoint, trained before

Each row is a process of its own: `python -m visualsearch.ml train` with the fields that the row
names. Rows are written as they come; `--only` repeats some of them and keeps the others, and
`--trunk FOLDER` takes the trunk of a `default` that was trained before instead of training one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.shortened_encoder import ShortenedEncoder
from visualsearch.ml.catalogue_folder import load_folder
from visualsearch.ml.data import split
from visualsearch.ml.evaluate import evaluate
from visualsearch.ml.recipes import get_recipe, override


@dataclass(frozen=True)
class Row:
    """One training: a recipe and the fields of it that are set."""

    name: str
    recipe: str
    fields: tuple[str, ...] = ()
    # as --set takes them
    heads_of: str = ""
    # the row whose trunk is taken as it is, so that only heads are trained


SMALL = ("weights=none", "image_size=64")
# The published systems start from ImageNet weights, which have to be downloaded. Where these are not
# to be had every system learns from the catalogue alone, for as long and from photos as small as
# `default`. Their trunks are too large to get far in that time, so those that read texts come a
# second time, on the trunk that `default` has learned: what differs then is texts, loss and composer.
OURS = ("image_size=64", "trunk=resnet8", "trunk_pool=avg")
SYSTEMS = (
    Row("default", "default"),
    Row("tirg, ResNet-50", "tirg", SMALL),
    Row("tirg, EfficientNet-B0", "tirg", (*SMALL, "trunk=efficientnet_b0")),
    Row("triplet-bigru", "triplet-bigru", SMALL),
    Row("triplet-gru", "triplet-gru", SMALL),
    Row("siamese", "siamese", SMALL),
    Row("pretrained-knn, random weights", "pretrained-knn", SMALL),
    Row("tirg on default's trunk", "tirg", OURS, heads_of="default"),
    Row("triplet-bigru on default's trunk", "triplet-bigru", OURS, heads_of="default"),
    Row("triplet-gru on default's trunk", "triplet-gru", OURS, heads_of="default"),
)
ABLATION = (
    Row("default", "default"),
    Row(
        "without the second stage", "default", ("head_epochs=0", "gradients=false", "colours=false")
    ),
    Row("heads anew", "default", heads_of="default"),
    Row("without oriented gradients", "default", ("gradients=false",), heads_of="default"),
    Row("without the colour histogram", "default", ("colours=false",), heads_of="default"),
    Row("without phone-like views", "default", ("wild_variations=0",), heads_of="default"),
    Row(
        "three times as many phone-like pairs",
        "default",
        ("second_views=0.45", "head_batch=800", "head_epochs=24"),
        heads_of="default",
    ),
    Row("with augmented views", "default", ("variations=2",), heads_of="default"),
    Row("without neighbourhoods", "default", ("neighbour_weight=0",), heads_of="default"),
    Row("without attribute classifiers", "default", ("attribute_weight=0",), heads_of="default"),
    Row("without titles a word apart", "default", ("title_pairs=0",), heads_of="default"),
    Row("one text a step", "default", ("texts=one",), heads_of="default"),
    Row("GRU for convolutions", "default", ("text=gru",), heads_of="default"),
    Row("combiner for TIRG", "default", ("composer=combiner",), heads_of="default"),
    Row("batch 128", "default", ("head_batch=128",), heads_of="default"),
    Row("semi-hard triplets", "default", ("loss=triplet",), heads_of="default"),
)
NAMED = ("value_weight=1", "attribute_weight=0")
# What came after the ablation, on another trunk than its rows: compare these with each other.
ADDITIONS = (
    Row("default", "default"),
    Row("heads anew", "default", heads_of="default"),
    Row("blend for TIRG", "default", ("composer=blend",), heads_of="default"),
    Row("values by their names for classifiers", "default", NAMED, heads_of="default"),
    Row("blend and values", "default", ("composer=blend", *NAMED), heads_of="default"),
    Row(
        "blend, values and scales",
        "default",
        ("composer=blend", *NAMED, "own_scales=true"),
        heads_of="default",
    ),
    Row("values and scales", "default", (*NAMED, "own_scales=true"), heads_of="default"),
    Row("hard negatives", "default", ("hard_negatives=0.5",), heads_of="default"),
    Row("a scale for each loss", "default", ("own_scales=true",), heads_of="default"),
    Row("beginnings of vectors", "default", ("nested_from=64",), heads_of="default"),
)
GALLERY_SEED = 1
"""Of the split that draws a smaller gallery; another than the one that holds products out."""
TABLES = {"systems": SYSTEMS, "ablation": ABLATION, "additions": ADDITIONS}

COLUMNS = (
    ("similar", "kind P@10", "encoder"),
    ("similar", "colour P@10", "encoder"),
    ("similar", "base_colour P@10", "encoder"),
    ("similar", "same group recall@10", "encoder"),
    ("text", "title R@1", "encoder"),
    ("text", "title R@10", "encoder"),
    ("text", "title MRR", "encoder"),
    ("text", "attributes P@10", "encoder"),
    ("wild", "wild photo (background) R@1", "encoder"),
    ("composed", "colour R@1", "composed"),
    ("composed", "colour R@10", "composed"),
    ("composed", "colour R@50", "composed"),
    ("composed", "colour R@10", "image-only"),
    ("composed", "colour R@10", "text-only"),
    ("composed", "colour R@10", "sum"),
)


def run(
    *,
    catalogue: Path,
    table: str,
    only: list[str],
    minutes: float,
    limit: int | None,
    trunk: Path | None,
) -> None:
    """Write results/recipes_TABLE_CATALOGUE.json, and print the table."""
    name = f"recipes_{table}_{catalogue.stem}"
    earlier = record.RESULTS / f"{name}.json"
    rows: dict[str, Any] = {}
    if only and earlier.exists():
        rows = json.loads(earlier.read_text())["figures"]
    wanted = [row for row in TABLES[table] if not only or row.name in only]
    if not trunk:  # heads cannot be trained without the row whose trunk they sit on
        needed = {row.heads_of for row in wanted}
        wanted = [row for row in TABLES[table] if row in wanted or row.name in needed]
    with tempfile.TemporaryDirectory() as folder:
        for row in wanted:
            rows[row.name] = train(
                row, catalogue, minutes=minutes, limit=limit, folder=Path(folder), trunk=trunk
            )
            print(markdown(rows), flush=True)
            record.write(
                name, {each.name: rows[each.name] for each in TABLES[table] if each.name in rows}
            )


def read(
    *,
    catalogue: Path,
    checkpoint: Path,
    gallery: int | None,
    widths: list[int],
    beside: list[Path],
) -> None:
    """Write results/recipes_trained_CATALOGUE.json of a checkpoint that was trained before.

    It is evaluated anew, among the held-out products, in the whole catalogue and, with `gallery`,
    among about so many of the held-out products, drawn by group. `widths`: with so many of the first
    numbers of its vectors, too, in the smallest of these galleries. `beside`: other checkpoints, with
    the figures that their manifests have.
    """
    from visualsearch.ml.inference import TorchEncoder

    row = figures(checkpoint, fields=fields_of(checkpoint))
    name = f"{row['recipe']}, trained before"
    encoder = TorchEncoder(checkpoint)
    everything = load_folder(catalogue, size=encoder.image_size).catalogue
    held = split(everything).holdout
    table = evaluate(encoder, held, whole=everything).as_dict()
    rows = {name: row | {"whole": table["whole"], "lines": table["lines"]}}
    asked = held
    if gallery:
        share = min(1.0, gallery / len(held.items))
        asked = split(held, holdout=share, seed=GALLERY_SEED).holdout
        drawn = evaluate(encoder, asked).as_dict()
        smaller = {"gallery": drawn["gallery"], "lines": drawn["lines"]}
        rows[f"{name}, in a smaller gallery"] = row | smaller
    for width in widths:
        shortened = ShortenedEncoder(encoder, width=width)
        drawn = evaluate(shortened, asked, with_baselines=False).as_dict()
        lines = {"gallery": drawn["gallery"], "lines": drawn["lines"]}
        rows[f"{name}, first {width} numbers"] = row | lines
    for folder in beside:
        rows[f"beside it: {folder.name}"] = figures(folder, fields=fields_of(folder))
    print(markdown(rows))
    record.write(f"recipes_trained_{catalogue.stem}", rows)


def fields_of(checkpoint: Path) -> list[str]:
    """What differs from the recipe as it is, as --set takes it; a weights folder by its name."""
    options = json.loads((checkpoint / "checkpoint.json").read_text())["options"]
    usual = get_recipe(options["name"]).as_dict()
    changed = {name: value for name, value in options.items() if value != usual[name]}
    if changed.get("weights"):
        changed["weights"] = Path(changed["weights"]).name
    return [f"{name}={value}" for name, value in changed.items()]


def train(
    row: Row,
    catalogue: Path,
    *,
    minutes: float,
    limit: int | None,
    folder: Path,
    trunk: Path | None,
) -> dict[str, Any]:
    """Train one row; its figures as the checkpoint's manifest has them."""
    out = folder / row.name
    command = [sys.executable, "-m", "visualsearch.ml", "train", "--catalogue", str(catalogue)]
    command += ["--recipe", row.recipe, "--out", str(out), "--time-budget", str(60 * minutes)]
    command += ["--features", str(folder / "features")]
    for field in (
        *row.fields,
        *(heads(row, trunk or folder / row.heads_of) if row.heads_of else ()),
    ):
        command += ["--set", field]
    if limit is not None:
        command += ["--limit", str(limit)]
    print("$", shlex.join(command[1:]), flush=True)
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return figures(out, fields=row.fields) | {
        "minutes": round((time.monotonic() - started) / 60, 1)
    }


def figures(checkpoint: Path, *, fields: Sequence[str]) -> dict[str, Any]:
    """A row of the table, as the manifest of a trained checkpoint has it."""
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    metrics = manifest["metrics"]
    return {
        "recipe": manifest["recipe"],
        "commit": record.commit(),  # rows may be of several runs
        "set": list(fields),
        "parameters": manifest["parameters"],
        "minutes": round(metrics["train_seconds"] / 60, 1),
        "training_minutes": round(metrics["train_seconds"] / 60, 1),
        "steps": metrics["steps"],
        "final_loss": metrics["final_loss"],
        "gallery": metrics["gallery"],
        "lines": metrics["lines"],
        "mining": metrics.get("mining", []),
    }


def heads(row: Row, trunk: Path) -> list[str]:
    """The fields that train the row's recipe on a trunk as it is: as its second stage, if it has one."""
    recipe = override(get_recipe(row.recipe), dict(field.split("=") for field in row.fields))
    fields = [f"weights={trunk.resolve()}", "frozen=true", "wild_views=0", "small_first=0"]
    if recipe.head_epochs:
        fields += ["min_steps=0", f"epochs={recipe.head_epochs}", f"batch={recipe.head_batch}"]
    return fields


def markdown(rows: dict[str, Any]) -> str:
    """The figures as a table, 95 % intervals in brackets, a row a training."""
    found = {
        name: {(line["section"], line["metric"], line["system"]): line for line in row["lines"]}
        for name, row in rows.items()
    }
    columns = [c for c in COLUMNS if any(c in lines for lines in found.values())]
    titles = [
        f"{metric} ({system})" if section == "composed" else metric
        for section, metric, system in columns
    ]
    lines = ["| | " + " | ".join([*titles, "minutes", "parameters"]) + " |"]
    lines.append("|---" * (len(titles) + 3) + "|")
    for name, row in rows.items():
        cells = [
            f"{line['value']:.3f} [{line['low']:.3f}, {line['high']:.3f}]" if line else "–"
            for line in (found[name].get(column) for column in columns)
        ]
        cells += [f"{row['minutes']}", f"{row['parameters'] / 1e6:.1f} M"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalogue", type=Path, required=True, help="folder or zip: CSV + images")
    parser.add_argument("--table", choices=TABLES, default="systems")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="as named")
    parser.add_argument(
        "--minutes", type=float, default=10, help="at most so long for a trunk's training loop"
    )
    parser.add_argument("--limit", type=int, help="only so many products")
    parser.add_argument("--trunk", type=Path, metavar="FOLDER", help="a trained `default`")
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help="take its figures instead")
    parser.add_argument(
        "--gallery", type=int, metavar="N", help="with --trained: also among so many products"
    )
    parser.add_argument(
        "--first",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="with --trained: also with the first N numbers of its vectors alone",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="with --trained: another checkpoint, with the figures it was trained with",
    )
    given = vars(parser.parse_args())
    gallery, beside, widths = given.pop("gallery"), given.pop("beside"), given.pop("first")
    if trained := given.pop("trained"):
        read(
            catalogue=given["catalogue"],
            checkpoint=trained,
            gallery=gallery,
            widths=widths,
            beside=beside,
        )
    else:
        run(**given)
