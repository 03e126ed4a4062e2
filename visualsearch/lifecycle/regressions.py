"""Tests whether a checkpoint is worse than the live one by more than chance explains.

Two sentences have to hold: "promote only if the lower 95 % bound of the change is at least -0.5
points on every query set and at least 0 on the primary one", and "refuse at most one in twenty
equal retrains". By the letter they exclude each other. An equal retrain changes nothing but chance,
so its interval lies around zero and its lower bound is below 0 nearly always; and a paired interval
on 2,000 queries is about a point wide each way, so on most sets it is below -0.5 as well. What
satisfies both is to turn the burden of proof round and keep the bounds:

- A checkpoint is refused if it is *certainly* below the bound: if the upper end of the change's
  interval is below 0 on the primary set, below -0.5 points on any other.
- So it is if its composition gap is certainly smaller than before, and if a slice of 100 queries
  or more lost over three points and certainly something.

"Certainly" has two parts. Some thirty comparisons are made at once, so each may refuse an equal
retrain with a probability of only .05 / 30 (Bonferroni). And the interval of a change covers the
choice of queries, not that of the seed: two seeds of one recipe differ by some tenths of a point
however many queries are asked. That is RETRAIN_NOISE, and it is added to the standard error.
Bad checkpoints lose ten points and more, far beyond either; the price is that a true loss of one
or two points may pass. `visualsearch_evaluate --compare` shows such a loss.

A further query set, such as judgements collected from people, takes part as soon as its lines are
in the report: sets are found by section and metric, nothing here lists them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from visualsearch.lifecycle.verdict import Check

PRIMARY = (("text", "title MRR"), ("similar", "kind P@10"), ("similar", "same group MRR"))
"""The set that may not lose anything: the first of these that both checkpoints were asked."""
MARGIN = 0.005
"""Half a point."""
SLICE_MARGIN = 0.03
FALSE_ALARMS = 0.05
"""Share of equal retrains that may be refused."""
RETRAIN_NOISE = 0.005
"""Standard deviation of a figure's change between two seeds, beyond the choice of queries.

Measured on linear encoders fitted to resamples of one catalogue (tests/ml/linear_encoders.py):
0 to 1.3 points by figure, .5 on average; with it they refuse each other in 0 to 4 % of cases,
without it in 3 to 8 %.
"""
MIN_QUERIES, MIN_UNITS = 8, 6
"""Fewer queries, or designs among them, say nothing even of a great loss."""
MIN_SLICE = 100
NAMES = {"text": "text search", "composed": '"like this but…"', "similar": "similar products"}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The change of one figure, as far as a test needs it."""

    section: str
    metric: str
    before: float
    after: float
    change: float
    error: float
    """Standard error of the change."""
    queries: int
    units: int
    """Independent ones among the queries: designs, or queries."""


def tests(losses: Sequence[Loss]) -> list[Check]:
    """A check for each figure that decides; what has too few queries is left out."""
    asked = [each for each in losses if _decides(each)]
    primary = next((place for place in PRIMARY for each in asked if _place(each) == place), None)
    return [_test(each, comparisons=len(asked), primary=primary) for each in asked]


def _test(loss: Loss, *, comparisons: int, primary: tuple[str, str] | None) -> Check:
    certain = _quantile(FALSE_ALARMS / comparisons, units=loss.units)
    best = loss.change + certain * math.hypot(loss.error, RETRAIN_NOISE)
    is_primary = _place(loss) == primary
    bound = 0.0 if is_primary or _is_gap(loss) or loss.section == "slices" else -MARGIN
    failed = not best >= bound
    if loss.section == "slices":
        failed = failed and loss.change < -SLICE_MARGIN
    name = f"{loss.metric} ({loss.section})"
    where = ", the primary set" if is_primary else ""
    said = (
        f"It is clearly worse than the live checkpoint at {name}{where}: {loss.after:.3f} against "
        f"{loss.before:.3f}; the change is {loss.change:+.3f} on {loss.queries} queries, and at "
        f"best {best:+.3f}."
    )
    return Check(
        name=name, passed=not failed, figure=best, bound=bound, reason=said if failed else ""
    )


def missing(before: Iterable[str], after: Iterable[str]) -> Iterable[Check]:
    """What the live checkpoint can do and this one cannot, by the sections of their figures."""
    for section in sorted((set(before) - set(after)) & set(NAMES)):
        what = NAMES[section]
        said = f"It cannot do {what}, which the live checkpoint can."
        yield Check(name=f"can do {what}", passed=False, reason=said)


def _decides(loss: Loss) -> bool:
    """Rank of the first right answer; for kinds and colours, with dozens of them, precision."""
    if loss.section == "slices":
        return loss.queries >= MIN_SLICE
    metric = loss.metric
    if loss.section == "similar":
        decisive = metric.endswith("P@10") or metric == "same group MRR"
    else:
        decisive = metric.endswith("MRR") or _is_gap(loss)
        # What checkpoints of before there was an MRR of composed queries have.
        decisive |= loss.section == "composed" and metric.endswith("R@10")
    enough = loss.queries >= MIN_QUERIES and loss.units >= MIN_UNITS
    return decisive and enough and "(whole)" not in loss.section


def _is_gap(loss: Loss) -> bool:
    return loss.metric.endswith(" gap")


def _place(loss: Loss) -> tuple[str, str]:
    return loss.section, loss.metric


def _quantile(alarms: float, *, units: int) -> float:
    """Upper quantile of Student's t, by its expansion in 1/ν (Abramowitz & Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(1 - alarms)
    freedom = max(1, units - 1)
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return z + first + second if math.isfinite(z) else z
