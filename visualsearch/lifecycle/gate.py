"""The gate: whether a trained checkpoint may answer shoppers, from its figures and the live one's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visualsearch.lifecycle import regressions
from visualsearch.lifecycle.gate_baselines import beats_chance
from visualsearch.lifecycle.regressions import Loss
from visualsearch.lifecycle.verdict import Check, Verdict

if TYPE_CHECKING:
    from visualsearch.ml.compare import Change

__all__ = ["Check", "Figure", "Verdict", "figures", "judge"]

MAX_MEAN_COSINE = 0.5
"""Vectors of different products that are nearer than this on average have collapsed."""
MIN_EFFECTIVE_RANK = 0.1
"""Share of the dimensions it could use that an encoder has to make use of.

Not .3: by the entropy of the singular values (Roy & Vetterli) good encoders of this app were
measured at .28 and .32 (10,613 real products, 256 numbers) and .41 (drawn shapes), as a catalogue
has fewer independent properties than a vector has numbers. One that kept a sixteenth of its
dimensions has .06, whatever it was before.
"""
MIN_EXPORT_COSINE = 0.999
MIN_OVERLAP = 0.95
"""Share of the ten nearest photos that the exported encoder must find as the network does."""
MAX_LATENCY_RATIO = 1.2
"""How much longer than the live one the exported encoder may take for a query."""
MIN_QUERIES = 20
"""Fewer queries than this say nothing about composed queries or chance."""

MAX_REASONS = 5
"""A sentence for each check would bury the first ones; all of them are kept as checks."""

ENCODER, BASELINE = "encoder", "raw pixels"
COMPOSED, IMAGE_ONLY = "composed", "image-only"

Metrics = Mapping[str, Any]
"""A report of `ml.evaluate` as a dictionary: gallery, health, lines; and export_cosine."""


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


def judge(
    metrics: Metrics, *, live: Metrics | None = None, changes: Sequence[Change] | None = None
) -> Verdict:
    """Judge a checkpoint by its own figures and, if there is one, by the live checkpoint's.

    Both have to be of the same held-out products. `changes` are those from the live one to this,
    paired query by query (`ml.compare.changes`); without them the figures' own intervals have to
    do, which see only far greater losses.
    """
    checks = [*_health(metrics), *_export(metrics)]
    checks += [*_against_pixels(metrics), *_against_chance(metrics), *_composes(metrics)]
    checks += beats_chance(figures(metrics), encoder=ENCODER, chance="chance")
    if live is not None:
        before, now = _own(live), _own(metrics)
        checks += regressions.missing((place[0] for place in before), (p[0] for p in now))
        checks += regressions.tests(_unpaired(before, now) if changes is None else _paired(changes))
    problems = [check.reason for check in checks if not check.passed]
    if len(problems) > MAX_REASONS:
        rest = len(problems) - MAX_REASONS
        problems = [*problems[:MAX_REASONS], f"{rest} more checks were not passed."]
    reason = " ".join(problems) if problems else _praise(metrics, live, checks)
    return Verdict(promote=not problems, reason=reason, checks=tuple(checks))


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


def _health(metrics: Metrics) -> Iterable[Check]:
    health: Mapping[str, Any] = metrics.get("health") or {}
    if not health:
        said = "It was not evaluated, so nothing is known of its vectors."
        yield Check(name="evaluated", passed=False, reason=said)
        return
    finite = bool(health.get("finite"))
    yield _check(
        "finite vectors", finite, "Its vectors have values that are not numbers (NaN or infinite)."
    )
    if finite:
        passed = bool(health.get("unit_norms"))
        yield _check("unit vectors", passed, "Its vectors do not have length 1.")
    cosine = _number(health.get("mean_cosine"))
    yield _check(
        "mean cosine",
        cosine < MAX_MEAN_COSINE,  # NaN is never less
        f"It has collapsed: products have a cosine of {cosine:.2f} on average, "
        f"below {MAX_MEAN_COSINE} is needed.",
        figure=cosine,
        bound=MAX_MEAN_COSINE,
    )
    rank = _number(health.get("effective_rank"))
    yield _check(
        "effective rank",
        rank >= MIN_EFFECTIVE_RANK,
        f"It has collapsed to {rank:.0%} of its dimensions (effective rank), "
        f"{MIN_EFFECTIVE_RANK:.0%} are needed.",
        figure=rank,
        bound=MIN_EFFECTIVE_RANK,
    )
    sound = all(math.isfinite(each.value) for each in figures(metrics) if _has_to_be_finite(each))
    yield _check("finite figures", sound, "Some of its figures are not numbers.")


def _export(metrics: Metrics) -> Iterable[Check]:
    """The exported graphs against the network: on noise, and on held-out photos if measured."""
    for graph, value in (metrics.get("export_cosine") or {}).items():
        cosine = _number(value)
        yield _check(
            f"export of {graph}",
            cosine >= MIN_EXPORT_COSINE,
            f"The exported {graph} differs from the network: cosine {cosine:.4f}.",
            figure=cosine,
            bound=MIN_EXPORT_COSINE,
        )
    measured: Mapping[str, Any] = metrics.get("serving") or {}
    for name, bound, what in (
        ("cosine", MIN_EXPORT_COSINE, "cosine"),
        ("overlap", MIN_OVERLAP, "share of the ten nearest photos"),
    ):
        if name in measured:
            value = _number(measured[name])
            yield _check(
                f"export on photos: {name}",
                value >= bound,
                f"On held-out photos the exported encoder differs from the network: {what} "
                f"{value:.4f}, {bound} is needed. Its preprocessing is the first thing to look at.",
                figure=value,
                bound=bound,
            )
    if measured.get("latency_ratio") is not None:
        ratio = _number(measured["latency_ratio"])
        yield _check(
            "latency",
            ratio <= MAX_LATENCY_RATIO,
            f"A query takes {ratio:.2f} times as long to encode as with the live checkpoint, "
            f"{MAX_LATENCY_RATIO} times is allowed.",
            figure=ratio,
            bound=MAX_LATENCY_RATIO,
        )


def _against_pixels(metrics: Metrics) -> Iterable[Check]:
    """On average over the lines: on one of them, exact copies in another colour for instance,
    comparing pixels can be hard to beat."""
    ours, theirs = _similar(metrics, ENCODER), _similar(metrics, BASELINE)
    if ours and theirs:
        mine, pixels = _mean(ours), _mean(theirs)
        yield _check(
            "better than raw pixels",
            mine >= pixels,
            f"It finds similar products no better than raw pixels do: {mine:.3f} against "
            f"{pixels:.3f} on average.",
            figure=mine,
            bound=pixels,
        )


def _against_chance(metrics: Metrics) -> Iterable[Check]:
    """For reports from before there was a column of chance; else `beats_chance` says it better."""
    found = figures(metrics)
    if any(each.system == "chance" for each in found):
        return
    chance = 10 / max(10, int(metrics.get("gallery") or 0))
    for each in found:
        if (each.section, each.metric) != ("text", "title R@10") or each.queries < MIN_QUERIES:
            continue
        if chance < 0.25:
            yield _check(
                "texts better than chance",
                each.value > 2 * chance,
                f"Texts find their product no better than by chance: R@10 {each.value:.3f}, "
                f"chance is {chance:.3f}.",
                figure=each.value,
                bound=2 * chance,
            )


def _composes(metrics: Metrics) -> Iterable[Check]:
    ours, image = _composed(metrics, COMPOSED), _composed(metrics, IMAGE_ONLY)
    if ours and image and ours.queries >= MIN_QUERIES:
        yield _check(
            "composition uses the words",
            ours.value >= image.value,
            f'"Like this but…" ignores the words: {ours.metric} is {ours.value:.3f} composed and '
            f"{image.value:.3f} by the image alone.",
            figure=ours.value,
            bound=image.value,
        )


def _paired(changes: Sequence[Change]) -> list[Loss]:
    return [
        Loss(
            section=each.section,
            metric=each.metric,
            before=each.before,
            after=each.after,
            change=each.difference.value,
            error=each.difference.error,
            queries=each.difference.queries,
            units=each.difference.units,
        )
        for each in changes
        if each.system in (ENCODER, COMPOSED)
    ]


def _unpaired(
    before: Mapping[tuple[str, str], Figure], now: Mapping[tuple[str, str], Figure]
) -> list[Loss]:
    return [
        Loss(
            section=old.section,
            metric=old.metric,
            before=old.value,
            after=now[place].value,
            change=now[place].value - old.value,
            error=math.hypot(old.error, now[place].error),
            queries=min(old.queries, now[place].queries),
            units=min(old.queries, now[place].queries),
        )
        for place, old in before.items()
        if place in now
    ]


def _praise(metrics: Metrics, live: Metrics | None, checks: Sequence[Check]) -> str:
    parts = [f"Healthy, {len(checks)} checks passed."]
    ours, theirs = _similar(metrics, ENCODER), _similar(metrics, BASELINE)
    if ours and theirs:
        text = f"Similar products {_mean(ours):.3f} on average, raw pixels {_mean(theirs):.3f}"
        pairs = zip(ours, theirs, strict=False)
        behind = [mine.metric for mine, other in pairs if mine.value < other.value]
        parts.append(f"{text} (behind them at {', '.join(behind)})." if behind else f"{text}.")
    composed, image = _composed(metrics, COMPOSED), _composed(metrics, IMAGE_ONLY)
    if composed and image:
        parts.append(
            f"Composed queries: {composed.metric} {composed.value:.3f}, by the image alone "
            f"{image.value:.3f}."
        )
    if live is not None:
        parts.append("Not clearly worse than the live checkpoint on any line.")
    return " ".join(parts)


def _own(metrics: Metrics) -> dict[tuple[str, str], Figure]:
    found = [each for each in figures(metrics) if each.system in (ENCODER, COMPOSED)]
    return {(each.section, each.metric): each for each in found}


def _has_to_be_finite(figure: Figure) -> bool:
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


def _check(
    name: str,
    passed: bool,
    reason: str,
    *,
    figure: float | None = None,
    bound: float | None = None,
) -> Check:
    return Check(
        name=name, passed=passed, figure=figure, bound=bound, reason="" if passed else reason
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
