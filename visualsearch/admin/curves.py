"""The curves of a training run as numbers for an SVG that the template draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

WIDTH, HEIGHT = 560, 180
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 22
COLOURS = 6
"""Line classes that the style sheet knows."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line: `points` is the attribute of an SVG polyline."""

    name: str
    points: str
    last: float
    style: int


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart with its axes' ends."""

    title: str
    curves: tuple[Curve, ...]
    low: float
    high: float
    first_step: int
    last_step: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def summary(self) -> str:
        """What a screen reader says of it."""
        ends = ", ".join(f"{curve.name} {curve.last:.3g}" for curve in self.curves)
        return _("%(title)s from step %(first)d to %(last)d, at the end: %(ends)s") % {
            "title": self.title,
            "first": self.first_step,
            "last": self.last_step,
            "ends": ends,
        }


def charts(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart of the loss and its parts, and one of the recall where the trainer reported any."""
    names = list(dict.fromkeys(name for point in history for name in point))
    names = [name for name in names if name not in ("step", "epoch", "epochs")]
    recall = [name for name in names if "recall" in name or "R@" in name or "MRR" in name]
    losses = sorted((name for name in names if name not in recall), key=lambda name: name != "loss")
    found = [_chart(_("Loss"), history, losses), _chart(_("Recall"), history, recall, low=0.0)]
    return [chart for chart in found if chart is not None]


def _chart(
    title: str,
    history: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    low: float | None = None,
) -> Chart | None:
    series = {name: _series(history, name) for name in names[:COLOURS]}
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return None
    steps = [step for points in series.values() for step, _ in points]
    values = [value for points in series.values() for _, value in points]
    first, last = min(steps), max(steps)
    bottom, top = min(values) if low is None else low, max(values)
    if top <= bottom:
        top = bottom + 1.0

    def place(step: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / max(1, last - first)
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - bottom) / (top - bottom)
        return f"{x:.1f},{y:.1f}"

    curves = tuple(
        Curve(
            name=name,
            points=" ".join(place(step, value) for step, value in points),
            last=points[-1][1],
            style=number,
        )
        for number, (name, points) in enumerate(series.items(), start=1)
    )
    return Chart(
        title=title, curves=curves, low=bottom, high=top, first_step=int(first), last_step=int(last)
    )


def _series(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    points = []
    for number, point in enumerate(history, start=1):
        value = point.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            points.append((float(point.get("step", number)), float(value)))
    return points
