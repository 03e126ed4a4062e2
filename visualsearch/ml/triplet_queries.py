"""Composed queries that a data set publishes: reads `triplets*.csv` beside the catalogue's table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from visualsearch.exceptions import TrainingError
from visualsearch.ml.catalogue_folder import MAX_CSV_BYTES, open_folder
from visualsearch.ml.coding import ANY, MISSING, CodedCatalogue, Codes
from visualsearch.ml.columns import normal_name, value_of
from visualsearch.ml.modifications import ComposedQueries
from visualsearch.ml.queries import sample

NAME = "published sentences"
"""As the queries are called in the table."""
REFERENCE = ("ref_id", "reference_id", "reference", "candidate")
TARGET = ("target_id", "target")
SENTENCE = ("modification", "sentence", "caption", "text")
DESIGN = ("family", "product_code", "group")


@dataclass(frozen=True, kw_only=True)
class PublishedTriplet:
    """One row: "this product, in another colour, is that one"."""

    reference: str
    target: str
    # ids of products
    sentence: str
    design: str
    # what both are variants of; empty if the file does not say
    attribute: str
    old: str
    new: str
    # what changes, from what to what, by the columns ref_NAME and target_NAME; empty likewise


def read_triplets(path: Path | str) -> list[PublishedTriplet]:
    """The rows of the first `triplets*.csv` of a folder or zip; none where there is no such file.

    Raises TrainingError for a file that lacks reference, target or sentence.
    """
    with open_folder(path) as folder:
        found = [
            name
            for name in folder.names
            if PurePosixPath(name).name.startswith("triplets") and name.endswith(".csv")
        ]
        if not found:
            return []
        name = min(found, key=lambda each: (each.count("/"), each))
        text = folder.read(name, limit=MAX_CSV_BYTES).decode("utf-8-sig", "replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = {normal_name(column): column for column in reader.fieldnames or () if column}
    reference, target, sentence, design = (
        next((columns[each] for each in names if each in columns), None)
        for names in (REFERENCE, TARGET, SENTENCE, DESIGN)
    )
    if not (reference and target and sentence):
        raise TrainingError(
            f"{name} in {path} needs columns {REFERENCE[0]}, {TARGET[0]} and {SENTENCE[0]}; it has "
            f"{', '.join(columns)}."
        )
    names = (each.removeprefix("target_") for each in columns if each.startswith("target_"))
    attribute = next((each for each in names if each != "id" and f"ref_{each}" in columns), "")
    old, new = columns.get(f"ref_{attribute}"), columns.get(f"target_{attribute}")
    return [
        PublishedTriplet(
            reference=value_of(row, reference),
            target=value_of(row, target),
            sentence=value_of(row, sentence),
            design=value_of(row, design),
            attribute=attribute,
            old=value_of(row, old),
            new=value_of(row, new),
        )
        for row in reader
    ]


def file_queries(
    coded: CodedCatalogue,
    triplets: Sequence[PublishedTriplet],
    *,
    limit: int,
    seed: int,
    among: Sequence[int] | None = None,
) -> ComposedQueries:
    """Each reference with each of its sentences once; the queries have `codes` of their own.

    Right is every product of the same design in the asked value; where the file gives no design
    or no value, only the target. Figures are macro-averaged over designs. Rows whose products are
    not in the catalogue, or whose reference is not `among` the chosen ones, are left out.
    """
    items = coded.catalogue.items
    places = {item.id: place for place, item in enumerate(items)}
    allowed = set(range(len(items)) if among is None else among)
    rows = [t for t in triplets if t.reference in places and t.target in places and t.sentence]
    codes, value_codes = _codes(places, rows, len(items))
    first = {(t.reference, t.sentence): t for t in reversed(rows) if places[t.reference] in allowed}
    chosen = sample(first.values(), key=_key, limit=limit, seed=seed)
    wanted = np.full((len(chosen), codes.shape[1]), ANY, dtype=np.int64)
    for row, triplet in enumerate(chosen):
        if triplet.design and triplet.new:
            wanted[row, 0] = codes[places[triplet.target], 0]
            wanted[row, 1] = value_codes[triplet.new]
        else:
            wanted[row, 2] = places[triplet.target]
    labels = [items[places[t.reference]].label for t in chosen]
    return ComposedQueries(
        NAME,
        np.array([places[t.reference] for t in chosen], dtype=np.int64),
        wanted,
        [t.sentence for t in chosen],
        [f"{t.old} {label}".strip().lower() for t, label in zip(chosen, labels, strict=True)],
        [
            f"{t.new or t.sentence} {label}".strip().lower()
            for t, label in zip(chosen, labels, strict=True)
        ],
        [_key(t) for t in chosen],
        [t.design or t.reference for t in chosen],
        codes=codes,
    )


def _key(triplet: PublishedTriplet) -> str:
    return f"{triplet.reference} | {triplet.sentence}"


def _codes(
    places: Mapping[str, int], rows: Sequence[PublishedTriplet], count: int
) -> tuple[Codes, dict[str, int]]:
    """[N, 3]: design and value as the file has them, and the product itself; values' codes."""
    designs: dict[str, int] = {}
    values: dict[str, int] = {}
    codes = np.full((count, 3), MISSING, dtype=np.int64)
    codes[:, 2] = np.arange(count)
    for triplet in rows:
        for identity, value in ((triplet.reference, triplet.old), (triplet.target, triplet.new)):
            place = places[identity]
            if triplet.design:
                codes[place, 0] = designs.setdefault(triplet.design, len(designs))
            if value:
                codes[place, 1] = values.setdefault(value, len(values))
    return codes, values
