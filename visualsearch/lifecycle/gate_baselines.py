"""What a checkpoint has to beat though no other is live: chance, wherever it claims to read texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from visualsearch.lifecycle.verdict import Check

TEXT_SETS = ("title", "full text", "attributes")
"""The first one that was asked decides; short queries only where products have no titles."""
CUTOFFS = (10, 5, 1)
MAX_CHANCE = 0.25
"""Of a few products the first ten hold the right one anyway: then the first five, or one, count."""
FACTOR = 1.5
"""Times chance that the figure has to be; its 95 % interval has to lie above chance besides."""
MIN_QUERIES = 5


class Measured(Protocol):
    """A line of the table, as `gate.Figure` is one."""

    @property
    def section(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def system(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def queries(self) -> int: ...


def beats_chance(figures: Sequence[Measured], *, encoder: str, chance: str) -> Iterator[Check]:
    """Whether texts find their products; nothing for an encoder that was asked no texts.

    Catches what health does not: an encoder that was taught other products' texts, or hardly
    taught at all, may spread its vectors as well as a good one.
    """
    lines = {(each.metric, each.system): each for each in figures if each.section == "text"}
    for name in TEXT_SETS:
        usable = [
            (ours, by_chance)
            for k in CUTOFFS
            if (ours := lines.get((f"{name} R@{k}", encoder))) is not None
            and (by_chance := lines.get((f"{name} R@{k}", chance))) is not None
            and ours.queries >= MIN_QUERIES
            and by_chance.value * FACTOR < 1
        ]
        if not usable:
            continue
        ours, by_chance = next((pair for pair in usable if pair[1].value <= MAX_CHANCE), usable[-1])
        bound = FACTOR * by_chance.value
        passed = ours.value >= bound and ours.low > by_chance.value
        yield Check(
            name=f"{ours.metric} beyond chance",
            passed=passed,
            figure=ours.value,
            bound=bound,
            reason=""
            if passed
            else (
                f"Texts do not find their products: {ours.metric} is {ours.value:.3f} (at least "
                f"{ours.low:.3f}), chance is {by_chance.value:.3f}, and {FACTOR} times that is "
                "needed. Look whether photos and texts belong together, and whether the loss fell."
            ),
        )
        return
