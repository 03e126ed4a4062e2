"""Blend: a sentence's own direction added to the image, with TIRG's gate and residual learned on top."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Blend(nn.Module):
    """Arithmetic of directions that learns: a text's own direction, and TIRG's gate and residual.

        x     = concat(image, text)                                              [B, 2d]
        gate  = 2 · sigmoid(Linear(2d→d)(ReLU(BN(x))))                           [B, d]
        resid = Linear(2d→d)(Dropout(ReLU(Linear(2d→2d)(ReLU(BN'(x))))))         [B, d]
        f     = gate ⊙ image + Linear(d→d)(text) + resid

    Starts as image + text, and what depends on both has to earn its place: it is what learns
    single products by heart.
    """

    DROPOUT = 0.3

    def __init__(self, width: int) -> None:
        super().__init__()
        double = 2 * width
        self.gate = nn.Sequential(nn.BatchNorm1d(double), nn.ReLU(), nn.Linear(double, width))
        self.residual = nn.Sequential(
            nn.BatchNorm1d(double),
            nn.ReLU(),
            nn.Linear(double, double),
            nn.ReLU(),
            nn.Dropout(self.DROPOUT),
            nn.Linear(double, width),
        )
        self.direction = nn.Linear(width, width)
        for layer in (self.gate[-1], self.residual[-1]):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.eye_(self.direction.weight)
        nn.init.zeros_(self.direction.bias)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Reference and modification, both float [B, width] -> f float [B, width], not unit."""
        both = torch.cat([image, text], dim=1)
        gate = 2 * torch.sigmoid(self.gate(both))
        composed: Tensor = gate * image + self.direction(text) + self.residual(both)
        return composed
