"""Compares evaluations of one catalogue query by query: what changed, and whether by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from visualsearch.exceptions import TrainingError
from visualsearch.ml.metrics import Difference, paired
from visualsearch.ml.report import OWN, RAW_PIXELS, PerQuery, Report, number

BASELINES = (RAW_PIXELS, "colour histogram")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of two checkpoints on the queries that both were asked."""

    section: str
    metric: str
    system: str
    before: float
    after: float
    difference: Difference
    # after - before, paired

    @property
    def is_significant(self) -> bool:
        """Whether the 95 % interval leaves zero out."""
        return self.difference.low > 0 or self.difference.high < 0


def changes(before: Report, after: Report) -> list[Change]:
    """All figures that both reports have, baselines left out, in the order of `after`.

    Queries are paired by their keys; what only one of the two was asked is left out. Raises
    TrainingError for reports of different catalogues, which have no query in common.
    """
    found = []
    for place, new in after.per_query.items():
        section, metric, system = place
        old = before.per_query.get(place)
        if old is None or system in BASELINES:
            continue
        rows = _common(old, new)
        if not len(rows):
            continue
        units = [new.units[i] for i in rows[:, 1]]
        values = old.values[rows[:, 0]], new.values[rows[:, 1]]
        difference = paired(*values, units, macro=new.macro)
        found.append(
            Change(
                section=section,
                metric=metric,
                system=system,
                before=_value(before, place),
                after=_value(after, place),
                difference=difference,
            )
        )
    if after.per_query and not found:
        raise TrainingError(
            "The two evaluations have no query in common: evaluate both on the same catalogue."
        )
    return found


def difference_table(found: list[Change], *, names: tuple[str, str]) -> str:
    """A row a figure: both values, the change, its 95 % interval, and * where that excludes 0."""
    width = max(14, *(len(name) + 2 for name in names))
    heads = "".join(f"{name:>{width}}" for name in names)
    head = f"{'':<52}{heads}{'change':>10}  95 % interval, paired"
    lines = [head]
    section = ""
    for each in found:
        if each.section != section:
            section = each.section
            lines += ["", section]
        name = each.metric if each.system in OWN else f"{each.metric} ({each.system})"
        change = each.difference
        mark = " *" if each.is_significant else ""
        lines.append(
            f"{name:<52}{number(each.before):>{width}}{number(each.after):>{width}}"
            f"{change.value:>+10.3f}  [{change.low:+.3f}, {change.high:+.3f}]{mark}   {change.queries} queries"
        )
    marked = sum(each.is_significant for each in found)
    lines += ["", f"* {marked} of {len(found)} changes are beyond chance (one in twenty would be)."]
    return "\n".join(lines)


def joint_table(reports: Mapping[str, Report]) -> str:
    """One table of several checkpoints: their own figures and, once, the baselines' beside them."""
    first = next(iter(reports.values()))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, report in reports.items():
        for line in report.lines:
            if line.system in OWN or (line.system in BASELINES and report is first):
                column = name if line.system in OWN else line.system
                figure = line.estimate
                text = f"{number(figure.value)} [{number(figure.low)}, {number(figure.high)}]"
                cells.setdefault((line.section, line.metric), {})[column] = text
    columns = [*reports, *(name for name in BASELINES if any(name in c for c in cells.values()))]
    width = max(24, *(len(name) + 2 for name in columns))
    lines = [f"gallery: {first.gallery} products; 95 % bootstrap intervals in brackets"]
    section = ""
    for (part, metric), row in cells.items():
        if part != section:
            section = part
            lines += ["", f"{part:<34}" + "".join(f"{name:>{width}}" for name in columns)]
        values = (row.get(name, "–") for name in columns)
        lines.append(f"{metric:<34}" + "".join(f"{value:>{width}}" for value in values))
    return "\n".join(lines)


def as_dicts(found: list[Change]) -> list[dict[str, object]]:
    """For JSON."""
    return [
        {
            "section": each.section,
            "metric": each.metric,
            "system": each.system,
            "before": round(each.before, 4),
            "after": round(each.after, 4),
            "change": round(each.difference.value, 4),
            "low": round(each.difference.low, 4),
            "high": round(each.difference.high, 4),
            "queries": each.difference.queries,
        }
        for each in found
    ]


def _common(old: PerQuery, new: PerQuery) -> np.ndarray:
    """int [Q, 2]: rows of the same query in both."""
    places = {key: row for row, key in enumerate(old.keys)}
    pairs = [(places[key], row) for row, key in enumerate(new.keys) if key in places]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _value(report: Report, place: tuple[str, str, str]) -> float:
    return report.value(*place)
