"""Combiner: a learned mixture of image and sentence, and what it learns to add to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Combiner(nn.Module):
    """Combiner of CLIP4Cir (Baldrati et al., CVPR 2022, arXiv 2203.08560), for features of width d.

    x     = concat(ReLU(Linear(d→4d)(image)), ReLU(Linear(d→4d)(text)))      [B, 8d]
    λ     = sigmoid(Linear(8d→1)(ReLU(Linear(8d→8d)(x))))                    [B, 1]
    f     = Linear(8d→d)(ReLU(Linear(8d→8d)(x))) + λ · text + (1 − λ) · image
    """

    DROPOUT = 0.5

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read_image = _layer(width, 4 * width, dropout=self.DROPOUT)
        self.read_text = _layer(width, 4 * width, dropout=self.DROPOUT)
        self.residual = nn.Sequential(
            _layer(8 * width, 8 * width, dropout=self.DROPOUT), nn.Linear(8 * width, width)
        )
        self.share = nn.Sequential(
            _layer(8 * width, 8 * width, dropout=self.DROPOUT), nn.Linear(8 * width, 1)
        )

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Reference and modification, both float [B, width] -> f float [B, width], not unit."""
        both = torch.cat([self.read_image(image), self.read_text(text)], dim=1)
        share = torch.sigmoid(self.share(both))
        composed: Tensor = self.residual(both) + share * text + (1 - share) * image
        return composed


def _layer(inputs: int, outputs: int, *, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout))
