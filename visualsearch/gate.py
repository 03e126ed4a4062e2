"""The gate: whether a trained checkpoint may answer shoppers, from its figures and the live one's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_MEAN_COSINE = 0.5
"""Vectors of different products that are nearer than this on average have collapsed."""
MIN_EFFECTIVE_RANK = 0.1
"""Share of the dimensions it could use that an encoder has to make use of.

Healthy encoders were measured at .28 (10,613 real products) to .41 (drawn shapes).
"""
MIN_EXPORT_COSINE = 0.999
MARGIN = 0.005
"""How much worse than the live checkpoint passes: half a point."""
MIN_QUERIES = 20
"""Fewer queries than this say nothing about composed queries or chance."""

ENCODER, BASELINE = "encoder", "raw pixels"
COMPOSED, IMAGE_ONLY = "composed", "image-only"
SECTIONS = {"text": "text search", "composed": '"like this but…"', "similar": "similar products"}

Metrics = Mapping[str, Any]
"""A report of `ml.evaluate` as a dictionary: gallery, health, lines; and export_cosine."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's decision and why."""

    promote: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table."""

    section: str
    metric: str
    system: str
    value: float
    low: float
    high: float
    queries: int

    @property
    def error(self) -> float:
        """Standard error, from the 95 % interval."""
        return (self.high - self.low) / (2 * 1.96)


def judge(metrics: Metrics, *, live: Metrics | None = None) -> Verdict:
    """Judge a checkpoint by its own figures and, if there is one, by the live checkpoint's.

    Both have to be of the same held-out products.
    """
    problems = [*_unhealthy(metrics), *_below_baseline(metrics), *_at_chance(metrics)]
    problems += _composes_badly(metrics)
    if live is not None:
        problems += _worse_than_live(metrics, live)
    if problems:
        return Verdict(promote=False, reason=" ".join(problems))
    return Verdict(promote=True, reason=_praise(metrics, live))


def figures(metrics: Metrics) -> list[Figure]:
    """The lines of a report; a figure that is null is not a number."""
    names = ("value", "low", "high")
    return [
        Figure(
            section=line["section"],
            metric=line["metric"],
            system=line["system"],
            queries=line["queries"],
            **{name: _number(line[name]) for name in names},
        )
        for line in metrics.get("lines", ())
    ]


def _unhealthy(metrics: Metrics) -> Iterable[str]:
    health: Mapping[str, Any] = metrics.get("health") or {}
    if not health:
        yield "It was not evaluated, so nothing is known of its vectors."
        return
    if not health.get("finite"):
        yield "Its vectors have values that are not numbers (NaN or infinite)."
    elif not health.get("unit_norms"):
        yield "Its vectors do not have length 1."
    cosine = _number(health.get("mean_cosine"))
    if not cosine < MAX_MEAN_COSINE:  # NaN is never less
        yield (
            f"It has collapsed: products have a cosine of {cosine:.2f} on average, "
            f"below {MAX_MEAN_COSINE} is needed."
        )
    rank = _number(health.get("effective_rank"))
    if not rank >= MIN_EFFECTIVE_RANK:
        yield (
            f"It uses only {rank:.0%} of its dimensions (effective rank), "
            f"{MIN_EFFECTIVE_RANK:.0%} are needed."
        )
    for graph, value in (metrics.get("export_cosine") or {}).items():
        if not _number(value) >= MIN_EXPORT_COSINE:
            yield f"The exported {graph} differs from the network: cosine {_number(value):.4f}."
    if any(not math.isfinite(each.value) for each in figures(metrics) if _is_decisive(each)):
        yield "Some of its figures are not numbers."


def _below_baseline(metrics: Metrics) -> Iterable[str]:
    """On average over the lines: on one of them, exact copies in another colour for instance,
    comparing pixels can be hard to beat."""
    ours, theirs = _similar(metrics, ENCODER), _similar(metrics, BASELINE)
    if ours and theirs and not _mean(ours) >= _mean(theirs):
        yield (
            f"It finds similar products no better than raw pixels do: {_mean(ours):.3f} against "
            f"{_mean(theirs):.3f} on average."
        )


def _at_chance(metrics: Metrics) -> Iterable[str]:
    """An encoder that was taught with shuffled texts answers texts by chance."""
    chance = 10 / max(10, int(metrics.get("gallery") or 0))
    for each in figures(metrics):
        if (each.section, each.metric) != ("text", "title R@10") or each.queries < MIN_QUERIES:
            continue
        if chance < 0.25 and not each.value > 2 * chance:
            yield (
                f"Texts find their product no better than by chance: R@10 {each.value:.3f}, "
                f"chance is {chance:.3f}."
            )


def _composes_badly(metrics: Metrics) -> Iterable[str]:
    ours, image = _composed(metrics, COMPOSED), _composed(metrics, IMAGE_ONLY)
    if ours and image and ours.queries >= MIN_QUERIES and not ours.value >= image.value:
        yield (
            f'"Like this but…" ignores the words: {ours.metric} is {ours.value:.3f} composed and '
            f"{image.value:.3f} by the image alone."
        )


def _worse_than_live(metrics: Metrics, live: Metrics) -> Iterable[str]:
    """Compares what both were asked; the intervals say how far two figures lie apart by chance."""
    before, now = _own(live), _own(metrics)
    for section in sorted({section for section, _ in before} - {section for section, _ in now}):
        yield f"It cannot do {SECTIONS.get(section, section)}, which the live checkpoint can."
    for key, old in before.items():
        new = now.get(key)
        if new is None or not _is_decisive(old):
            continue
        chance = 1.96 * math.hypot(new.error, old.error)
        if not new.value - old.value + chance >= -MARGIN:
            yield (
                f"It is clearly worse than the live checkpoint at {old.metric} ({old.section}): "
                f"{new.value:.3f} against {old.value:.3f}."
            )


def _praise(metrics: Metrics, live: Metrics | None) -> str:
    parts = ["Healthy."]
    ours, theirs = _similar(metrics, ENCODER), _similar(metrics, BASELINE)
    if ours and theirs:
        text = f"Similar products {_mean(ours):.3f} on average, raw pixels {_mean(theirs):.3f}"
        pairs = zip(ours, theirs, strict=False)
        behind = [mine.metric for mine, other in pairs if mine.value < other.value]
        parts.append(f"{text} (behind them at {', '.join(behind)})." if behind else f"{text}.")
    composed, image = _composed(metrics, COMPOSED), _composed(metrics, IMAGE_ONLY)
    if composed and image:
        parts.append(
            f"{composed.metric} {composed.value:.3f} composed, {image.value:.3f} by the image alone."
        )
    if live is not None:
        parts.append("Not clearly worse than the live checkpoint on any line.")
    return " ".join(parts)


def _own(metrics: Metrics) -> dict[tuple[str, str], Figure]:
    found = [each for each in figures(metrics) if each.system in (ENCODER, COMPOSED)]
    return {(each.section, each.metric): each for each in found}


def _is_decisive(figure: Figure) -> bool:
    return figure.metric.endswith(("MRR", "P@10", "recall@10", "R@10"))


def _similar(metrics: Metrics, system: str) -> list[Figure]:
    found = [each for each in figures(metrics) if each.section == "similar"]
    return sorted((each for each in found if each.system == system), key=lambda each: each.metric)


def _composed(metrics: Metrics, system: str) -> Figure | None:
    for each in figures(metrics):
        if each.section == "composed" and each.system == system and each.metric.endswith("R@10"):
            return each
    return None


def _mean(found: list[Figure]) -> float:
    return sum(each.value for each in found) / len(found)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
