"""The vectors that products had when they were last learned from: what hard negatives are mined in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.feeding import AHEAD
from visualsearch.ml.hard_negatives import Nearest

MIN_STEPS = 4 * (AHEAD + 1)
"""Of a pass. Batches are drawn ahead; in shorter passes what they are drawn by might not be there yet."""


class NotedVectors:
    """The vectors that products had when they were last learned from, and as they stood at two passes' ends.

    A batch of pass p is drawn by the vectors of the end of pass p - 2. Batches are drawn ahead, so the
    first ones of a pass may be drawn before the pass before it has ended, and equal runs must draw alike.
    """

    def __init__(self, coded: CodedCatalogue, *, width: int, steps_a_pass: int) -> None:
        self.titles = coded.codes[:, coded.title_column]
        self.steps_a_pass = steps_a_pass
        self.now = torch.zeros(len(coded.codes), width, dtype=torch.float16)
        self.by_pass: dict[int, Tensor] = {}

    @property
    def used(self) -> bool:
        """Whether the catalogue is large enough for it."""
        return self.steps_a_pass >= MIN_STEPS

    def note(self, products: npt.NDArray[np.int64], vectors: Tensor, *, step: int) -> None:
        """The unit vectors [B, width] of `products` after `step` steps, from 1."""
        self.now[torch.from_numpy(products)] = vectors.detach().to("cpu", torch.float16)
        ended, rest = divmod(step, self.steps_a_pass)
        if not rest:
            self.by_pass = {k: v for k, v in self.by_pass.items() if k >= ended}
            self.by_pass[ended + 1] = self.now.clone()

    def nearest(self, number: int) -> Nearest | None:
        """For the draws of pass `number`, from 0; None for the first two."""
        vectors = self.by_pass.get(number)
        return None if vectors is None else Nearest(vectors.float(), self.titles)

    def state(self) -> Mapping[str, Tensor]:
        """What `restore` needs."""
        return {"now": self.now, **{str(k): each for k, each in self.by_pass.items()}}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Undoes `state`."""
        self.now = tensors["now"].clone()
        self.by_pass = {int(k): each for k, each in tensors.items() if k != "now"}
