"""TIRG: modifies an image vector by a sentence through a gate and a residual."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TIRG(nn.Module):
    """Text Image Residual Gating (Vo et al., CVPR 2019, arXiv 1812.07119).

        x     = concat(image, text)                                              [B, 2d]
        gate  = sigmoid(Linear(2d→d)(ReLU(BN(x))))                               [B, d]
        resid = Linear(2d→d)(ReLU(Linear(2d→2d)(ReLU(BN'(x)))))                  [B, d]
        f     = a0 · gate ⊙ image + a1 · resid          a learnable, initial 1 and 10

    Query and target are compared as s · f/‖f‖ with a learnable s, initial 4: `scale`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        double = 2 * width
        self.gate = nn.Sequential(nn.BatchNorm1d(double), nn.ReLU(), nn.Linear(double, width))
        self.residual = nn.Sequential(
            nn.BatchNorm1d(double),
            nn.ReLU(),
            nn.Linear(double, double),
            nn.ReLU(),
            nn.Linear(double, width),
        )
        self.weights = nn.Parameter(torch.tensor([1.0, 10.0]))
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Reference and modification, both float [B, width] -> f float [B, width], not unit."""
        both = torch.cat([image, text], dim=1)
        gate = torch.sigmoid(self.gate(both))
        composed: Tensor = self.weights[0] * gate * image + self.weights[1] * self.residual(both)
        return composed


class Sum(nn.Module):
    """Image + text: a composed query without anything to learn, and the baseline of composers."""

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Reference and modification, both float [B, width] -> their sum [B, width], not unit."""
        return image + text
