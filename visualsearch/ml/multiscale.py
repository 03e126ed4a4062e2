"""Shallow branches beside a deep trunk: one convolution on the image at a 4th, an 8th of its size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 96


class ShallowScale(nn.Module):
    """The image `2 ** (2 + level)` times smaller, one wide convolution, the largest answers.

    Keeps the colours and patterns that a deep trunk gives up for the kind of thing it sees
    (multi-scale network of Wang et al., CVPR 2014, arXiv 1404.4661; arXiv 1901.03546). At 224 px
    both levels give the 4 x 4 x 96 numbers of the papers:

        224 → 56 → conv 8 x 8, stride 4 → 15 → max 7 x 7, stride 4 → 4
        224 → 28 → conv 8 x 8, stride 4 →  8 → max 3 x 3, stride 2 → 4
    """

    def __init__(self, level: int, *, image_size: int) -> None:
        super().__init__()
        self.factor = 2 ** (2 + level)
        self.convolution = nn.Conv2d(3, CHANNELS, kernel_size=8, stride=4, padding=4)
        pool = (7, 4, 2) if level == 0 else (3, 2, 1)
        self.pool = nn.MaxPool2d(kernel_size=pool[0], stride=pool[1], padding=pool[2])
        with torch.no_grad():
            side = self._map(torch.zeros(1, 3, image_size, image_size)).shape[2]
        self.features = CHANNELS * side**2

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images float [B, 3, S, S] -> float [B, features]."""
        return self._map(images).flatten(1)

    def _map(self, images: Tensor) -> Tensor:
        small = functional.avg_pool2d(images, self.factor)
        answers: Tensor = self.pool(self.convolution(small))
        return answers
