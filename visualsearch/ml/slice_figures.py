"""Figures of parts of the catalogue: each kind, and men, women and children."""

from __future__ import annotations

import numpy as np

from visualsearch.ml import queries
from visualsearch.ml.coding import MISSING
from visualsearch.ml.judge import Judge
from visualsearch.ml.report import ENCODER

MIN_SLICE = 100
"""Queries that a slice of the catalogue must have to be reported."""


def slices(judge: Judge) -> None:
    """The figure of the main query set for each kind, and for men, women and children."""
    report, section, metric = judge.report, "text", "title MRR"
    if (section, metric, ENCODER) not in report.per_query:
        section, metric = "similar", "kind P@10"
    whole = report.per_query.get((section, metric, ENCODER))
    if whole is None:
        return
    asked = next(
        each
        for each in report.asked
        if (each.section, each.name) == (section, metric.rpartition(" ")[0])
    )
    columns = {"kind": 0}
    if gender := queries.gender_attribute(judge.coded):
        columns[gender] = 1 + judge.coded.names.index(gender)
    for name, column in columns.items():
        codes = judge.coded.codes[asked.products, column]
        for code in np.unique(codes[codes != MISSING]):
            rows = np.flatnonzero(codes == code)
            if len(rows) < MIN_SLICE:
                continue
            item = judge.coded.catalogue.items[int(asked.products[rows[0]])]
            value = item.attributes.get(name, "") if column else item.label
            report.add(
                "slices",
                f"{metric}, {name} {value}",
                ENCODER,
                whole.values[rows],
                keys=[whole.keys[i] for i in rows],
                units=[whole.units[i] for i in rows],
            )
