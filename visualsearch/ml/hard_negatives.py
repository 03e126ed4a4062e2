"""Which products the network takes for each other, by the vectors they had a pass ago."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visualsearch.ml.coding import MISSING

COMPANY = 7
"""At most so many of a product's nearest are drawn beside it."""
SAME = 0.95
"""Cosine from which two photos count as one product's: such a negative may well be right."""


class Nearest:
    """Who is near whom among vectors [N, width]."""

    def __init__(self, vectors: Tensor, titles: npt.NDArray[np.int64]) -> None:
        self.vectors, self.titles = vectors, titles

    def of(self, products: Sequence[int]) -> Iterator[list[int]]:
        """For each product those that are nearest to it, the nearest first, none of its own title."""
        some = torch.from_numpy(np.array(products, dtype=np.int64))
        scores = self.vectors[some] @ self.vectors.T
        scores[scores > SAME] = -1.0
        count = min(4 * COMPANY, len(self.vectors))
        for product, row in zip(products, scores.topk(count, dim=1).indices.tolist(), strict=True):
            own = self.titles[product]
            yield [i for i in row if i != product and (own == MISSING or self.titles[i] != own)]
