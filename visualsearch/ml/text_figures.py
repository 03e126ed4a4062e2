"""Figures of text queries: titles, whole texts, attributes, kinds and colours."""

from __future__ import annotations

import functools

import numpy as np

from visualsearch.ml import metrics, phrases, queries
from visualsearch.ml.exact_search import TOP, Found
from visualsearch.ml.judge import Judge
from visualsearch.ml.queries import Queries
from visualsearch.ml.report import ENCODER

CALIBRATED = ("attributes", "kind query", "colour query")
"""What shoppers type: a match is a product that is so, not one of that very title."""


def texts(judge: Judge) -> None:
    options = {"limit": judge.limit, "seed": judge.seed}
    first = judge.coded.names[0] if judge.coded.names else ""
    colour = next((name for name in judge.coded.names if phrases.is_colour(name)), "")
    sets = {
        "title": queries.title_queries(judge.coded, among=judge.among, **options),
        "full text": queries.full_text_queries(judge.coded, first, among=judge.among, **options),
        "attributes": queries.attribute_queries(judge.coded, among=judge.among, **options),
        "kind query": queries.value_queries(judge.coded, 0, among=judge.among, **options),
    }
    if colour:
        column = 1 + judge.coded.names.index(colour)
        sets["colour query"] = queries.value_queries(
            judge.coded, column, among=judge.among, **options
        )
    for name, asked in sets.items():
        if len(asked):
            _lines(judge, name, asked)


def _lines(judge: Judge, name: str, asked: Queries) -> None:
    section = f"text{judge.suffix}"
    with judge.timed(section):
        vectors = judge.encoder.encode_text(asked.texts)
        found = judge.gallery.search(vectors, judge.vectors, {"": asked.wanted})[""]
    if name in CALIBRATED and not judge.suffix:
        judge.calibration.add(
            "text",
            judge.gallery,
            vectors,
            judge.vectors,
            asked.wanted,
            units=asked.units,
            seed=judge.seed,
        )
    with judge.timed("figures"):
        add = functools.partial(judge.report.add, section, keys=asked.keys, units=asked.units)
        ranks = found.ranks
        for k in (1, 5, 10):
            metric = f"{name} R@{k}"
            add(metric, ENCODER, metrics.hits_at(ranks, k))
            chance = metrics.chance_hits_at(found.right, len(judge.gallery), k)
            judge.chance(section, metric, chance)
        add(f"{name} MRR", ENCODER, metrics.reciprocal(ranks))
        middle = metrics.estimate(ranks, statistic=lambda v: float(np.median(v)))
        judge.report.add_estimate(section, f"{name} median rank", ENCODER, middle)
        if name not in ("title", "full text"):
            # "Blue dress" has many answers: the share of the ten shown that are right.
            metric = f"{name} P@10"
            add(metric, ENCODER, found.precision)
            judge.chance(section, metric, found.right / len(judge.gallery))
            # Of a value that four products have, four of ten is all there is to find.
            add(f"{name} recall@10", ENCODER, found.recall)
            _of_frequent_values(judge, section, name, asked, found)
    rows = np.arange(len(asked))
    judge.remember(section, name, asked.products, asked.texts, found, rows, with_photo=False)


def _of_frequent_values(
    judge: Judge, section: str, name: str, asked: Queries, found: Found
) -> None:
    """P@10 of the queries that ten products or more answer: the encoder's, not the catalogue's."""
    rows = np.flatnonzero(found.right >= TOP)
    if not len(rows):
        return
    chosen, metric = asked.take(rows), f"{name} P@10 of ten or more"
    judge.report.add(
        section, metric, ENCODER, found.precision[rows], keys=chosen.keys, units=chosen.units
    )
    judge.chance(section, metric, found.right[rows] / len(judge.gallery))
