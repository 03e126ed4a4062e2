"""Figures of similar items: of one kind, colour, design; beside the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from visualsearch.ml import metrics, queries
from visualsearch.ml.coding import MISSING, Codes
from visualsearch.ml.exact_search import Found, Vectors
from visualsearch.ml.judge import Judge, Pixels
from visualsearch.ml.queries import Queries
from visualsearch.ml.report import ENCODER

# Attributes reported one by one; a catalogue may have dozens of columns.
MAX_ATTRIBUTES = 4


def similar(judge: Judge, systems: Mapping[str, Callable[[Pixels], Vectors]]) -> None:
    asked = queries.product_queries(
        judge.coded, limit=judge.limit, seed=judge.seed, among=judge.among
    )
    codes = judge.coded.codes[asked.products]
    columns = queries.similar_columns(judge.coded, attributes=MAX_ATTRIBUTES)
    columns["same group"] = [judge.coded.group_column]
    wanted: dict[str, Codes] = {}
    for name, chosen in columns.items():
        wanted[name] = np.tile(judge.coded.nothing(), (len(asked), 1))
        wanted[name][:, chosen] = codes[:, chosen]
    for system in (ENCODER, *systems):
        with judge.timed("similar" if system == ENCODER else "baselines"):
            vectors = judge.vectors
            if system != ENCODER:
                vectors = systems[system](judge.gallery.pixels)
            found = judge.gallery.search(
                vectors[judge.gallery.first[asked.products]],
                vectors,
                wanted,
                excluded=asked.products,
            )
        with judge.timed("figures"):
            if system == ENCODER:
                _calibrate(judge, asked, wanted)
            for name, each in found.items():
                has = (codes[:, columns[name]] != MISSING).all(axis=1)
                _lines(judge, name, system, asked, each, has)


def _calibrate(judge: Judge, asked: Queries, wanted: Mapping[str, Codes]) -> None:
    """Right is what is of the same kind; where none is known, what is of the same design."""
    column = 0 if (judge.coded.codes[:, 0] != MISSING).any() else judge.coded.group_column
    rows = np.flatnonzero(judge.coded.codes[asked.products, column] != MISSING)
    if not len(rows):
        return
    judge.calibration.add(
        "image",
        judge.gallery,
        judge.vectors[judge.gallery.first[asked.products[rows]]],
        judge.vectors,
        wanted["same group" if column else "kind"][rows],
        units=[asked.units[i] for i in rows],
        excluded=asked.products[rows],
        seed=judge.seed,
    )


def _lines(
    judge: Judge, name: str, system: str, asked: Queries, found: Found, has: npt.NDArray[np.bool_]
) -> None:
    group = name == "same group"
    if group:  # a design of one product has nothing to find
        has = has & (found.right > 0)
    rows = np.flatnonzero(has)
    if not len(rows):
        return
    keys, units = [asked.keys[i] for i in rows], [asked.units[i] for i in rows]
    figures = {
        f"{name} recall@10": found.recall,
        f"{name} MRR": metrics.reciprocal(found.ranks),
    }
    if not group:
        figures = {f"{name} P@10": found.precision}
    for metric, values in figures.items():
        judge.report.add("similar", metric, system, values[rows], keys=keys, units=units)
    if system == ENCODER:
        judge.remember("similar", name, asked.products, [], found, rows)
