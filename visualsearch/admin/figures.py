"""A checkpoint's figures as tables: beside the baselines, the image alone, and the live checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from visualsearch.lifecycle import gate
from visualsearch.lifecycle.gate import COMPOSED, ENCODER, Figure

OWN = (ENCODER, COMPOSED)
LIVE = "live"


@dataclass(frozen=True, kw_only=True)
class Cell:
    text: str = "–"
    interval: str = ""
    is_own: bool = False
    is_best: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    metric: str
    cells: tuple[Cell, ...]
    queries: int


@dataclass(frozen=True, kw_only=True)
class Table:
    """One section of the report."""

    title: str
    systems: tuple[str, ...]
    rows: tuple[Row, ...]


def tables(metrics: Mapping[str, Any], *, live: Mapping[str, Any] | None = None) -> list[Table]:
    """Tables of the report in `metrics`, with a column for `live` if that is another one."""
    found = gate.figures(metrics)
    compared = {
        (each.section, each.metric): each
        for each in (gate.figures(live) if live else ())
        if each.system in OWN
    }
    titles = {
        "similar": _("Similar products"),
        "text": _("Text search"),
        "composed": _("Like this but…"),
        "wild": _("Phone photos"),
        "slices": _("Slices of the catalogue"),
    }
    result = []
    for section in dict.fromkeys(each.section for each in found):
        lines = [each for each in found if each.section == section]
        systems = list(dict.fromkeys(each.system for each in lines))
        cells = {(each.metric, each.system): each for each in lines}
        has_live = any(key[0] == section for key in compared)
        rows = []
        for metric in dict.fromkeys(each.metric for each in lines):
            figures = [cells.get((metric, system)) for system in systems]
            if has_live:
                figures.append(compared.get((section, metric)))
            rows.append(_row(metric, figures, is_lower_better="rank" in metric))
        result.append(
            Table(
                title=titles.get(section, section),
                systems=(*systems, *([LIVE] if has_live else [])),
                rows=tuple(rows),
            )
        )
    return result


def key_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The few that a list shows: by section, the checkpoint's own value."""
    wanted = {
        "similar": ("similar", "kind P@10"),
        "text": ("text", "title MRR"),
        "composed": ("composed", "R@10"),
    }
    found: dict[str, float] = {}
    for each in gate.figures(metrics):
        for name, (section, metric) in wanted.items():
            if each.section == section and each.metric.endswith(metric) and each.system in OWN:
                found.setdefault(name, each.value)
    return found


def _row(metric: str, figures: list[Figure | None], *, is_lower_better: bool) -> Row:
    values = [each.value for each in figures if each is not None]
    best = (min if is_lower_better else max)(values) if values else None
    cells = tuple(
        Cell()
        if each is None
        else Cell(
            text=_number(each.value, is_rank=is_lower_better),
            interval=" – ".join(
                _number(end, is_rank=is_lower_better) for end in (each.low, each.high)
            ),
            is_own=number == 0,
            is_best=each.value == best,
        )
        for number, each in enumerate(figures)
    )
    queries = max((each.queries for each in figures if each is not None), default=0)
    return Row(metric=metric, cells=cells, queries=queries)


def _number(value: float, *, is_rank: bool) -> str:
    return f"{value:.1f}" if is_rank else f"{value:.3f}"
