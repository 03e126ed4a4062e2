"""The batches of a run as a function of its seed and the step, so that it resumes where it stopped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from visualsearch.ml.pairs import Batch


def step_seed(seed: int, step: int, *, rank: int = 0) -> int:
    """A number for the generators of one step: the same whatever happened before it."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(2, np.uint32)
    # 63 bits: torch takes no more than a signed integer holds.
    return (int(state[0]) << 31) | int(state[1] >> 1)


class Stream:
    """Batches without end, in passes over the catalogue; every pass has a generator of its own.
    `draw` is told the number of the pass, too.

    A generator cannot be stored half used. So nothing of it is: the pass that a step belongs to is
    begun anew from (seed, pass), and the batches before the step are drawn and forgotten.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator, int], Iterator[Batch]],
        *,
        seed: int,
        steps_a_pass: int,
    ) -> None:
        self.draw = draw
        self.seed = seed
        self.steps_a_pass = max(1, steps_a_pass)

    def after(self, step: int) -> Iterator[Batch]:
        """The batch of the step that follows `step` finished ones, and all after it."""
        first, skipped = divmod(step, self.steps_a_pass)
        for number in itertools.count(first):
            batches = self.draw(np.random.default_rng((self.seed, number)), number)
            yield from itertools.islice(batches, skipped, self.steps_a_pass)
            skipped = 0
