"""The table of an evaluation: its figures, and the answer to every single query behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from visualsearch.ml import calibration
from visualsearch.ml.exact_search import Found
from visualsearch.ml.metrics import Estimate, estimate

Floats = npt.NDArray[np.floating]

ENCODER = "encoder"
COMPOSED = "composed"
OWN = (ENCODER, COMPOSED)
"""The systems whose figures are those of the checkpoint."""
CHANCE = "chance"
RAW_PIXELS, COLOUR_HISTOGRAM = "raw pixels", "colour histogram"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure of one system."""

    section: str
    # similar, text, composed, wild, slices; "text (whole)" where all products were searched
    metric: str
    system: str
    estimate: Estimate


@dataclass(frozen=True)
class PerQuery:
    """The values that a figure is the mean of."""

    keys: list[str]
    # which query it was: the same in every evaluation of one catalogue
    values: Floats
    units: list[str]
    # what is resampled
    macro: bool
    # whether the figure is the mean over units, not over queries


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query set and what the encoder found, for looking at single queries."""

    section: str
    name: str
    products: npt.NDArray[np.int64]
    # [Q] whose photo was asked with, or whose text
    texts: list[str]
    # [Q]; none where only a photo was asked with
    with_photo: bool
    found: Found
    photos: npt.NDArray[np.uint8] | None = None
    # [Q, S, S, 3] where the query was another photo than the product's first


@dataclass
class Report:
    """What an evaluation found out."""

    gallery: int
    # products, all of them searched
    lines: list[Line] = field(default_factory=list)
    health: dict[str, float | bool] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    # by part of the evaluation
    whole: int = 0
    # products of the whole catalogue, where that was searched as well
    per_query: dict[tuple[str, str, str], PerQuery] = field(default_factory=dict)
    # (section, metric, system) -> the values behind the figure; not in the JSON
    asked: list[Asked] = field(default_factory=list)
    calibration: dict[str, Any] = field(default_factory=dict)
    # kind of query -> the curve from scores to matches, and how reliable it is
    vectors: npt.NDArray[np.float32] | None = None
    # [N, d] of each product's first photo

    @property
    def values(self) -> dict[tuple[str, str], Floats]:
        """(section, metric) -> the encoder's values, in the order of the queries' keys."""
        return {
            (section, metric): each.values
            for (section, metric, system), each in self.per_query.items()
            if system in OWN
        }

    def value(self, section: str, metric: str, system: str = ENCODER) -> float:
        """One figure; KeyError if the catalogue could not give it."""
        for line in self.lines:
            if (line.section, line.metric, line.system) == (section, metric, system):
                return line.estimate.value
        raise KeyError((section, metric, system))

    def add(
        self,
        section: str,
        metric: str,
        system: str,
        values: Floats,
        *,
        keys: list[str],
        units: list[str],
        macro: bool = False,
    ) -> None:
        """The mean of one value a query."""
        self.per_query[section, metric, system] = PerQuery(keys, np.asarray(values), units, macro)
        self.add_estimate(section, metric, system, estimate(values, units, macro=macro))

    def add_estimate(self, section: str, metric: str, system: str, figure: Estimate) -> None:
        """A figure that is no mean, such as a median, or that has no values to be paired."""
        self.lines.append(Line(section=section, metric=metric, system=system, estimate=figure))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: {"gallery", "health", "lines": [{section, metric, system, value, low, …}]}."""
        return {
            "gallery": self.gallery,
            **({"whole": self.whole} if self.whole else {}),
            "health": self.health,
            **({"calibration": self.calibration} if self.calibration else {}),
            "lines": [
                {
                    "section": line.section,
                    "metric": line.metric,
                    "system": line.system,
                    "value": round(line.estimate.value, 4),
                    "low": round(line.estimate.low, 4),
                    "high": round(line.estimate.high, 4),
                    "queries": line.estimate.queries,
                }
                for line in self.lines
            ],
        }

    def table(self) -> str:
        """The figures as text, a row a metric, a column a system, 95 % intervals in brackets."""
        whole = f" (whole: {self.whole})" if self.whole else ""
        parts = [f"gallery: {self.gallery} products{whole}; 95 % bootstrap intervals in brackets"]
        for section in dict.fromkeys(line.section for line in self.lines):
            lines = [line for line in self.lines if line.section == section]
            systems = list(dict.fromkeys(line.system for line in lines))
            if section == "text":  # the baselines cannot read
                systems += [RAW_PIXELS, COLOUR_HISTOGRAM]
            cells = {(line.metric, line.system): line.estimate for line in lines}
            parts += ["", f"{section:<34}" + "".join(f"{system:>24}" for system in systems)]
            for metric in dict.fromkeys(line.metric for line in lines):
                row = [_cell(cells.get((metric, system))) for system in systems]
                count = max(e.queries for (name, _), e in cells.items() if name == metric)
                parts.append(f"{metric:<34}" + "".join(row) + f"   {count} queries")
        parts += ["", "health: " + ", ".join(f"{k} {v}" for k, v in self.health.items())]
        if self.calibration:
            parts.append(calibration.table(self.calibration))
        if self.seconds:
            took = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
            parts.append(f"time: {took}")
        return "\n".join(parts)


def number(value: float) -> str:
    """Three digits for a share, one for a rank."""
    return f"{value:.1f}" if abs(value) >= 1.5 else f"{value:.3f}"


def _cell(figure: Estimate | None) -> str:
    if figure is None:
        return f"{'–':>24}"
    text = f"{number(figure.value)} [{number(figure.low)}, {number(figure.high)}]"
    return f"{text:>24}"
