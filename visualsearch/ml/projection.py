"""From features to a vector: standardised and projected, or adapted from what they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FLOOR = 0.1
"""Of the mean deviation: what is added to each feature's, so that none that never varies counts."""
BLOCK_NORM = 8.0
"""Root mean square norm of a block of features once standardised."""


class Projection(nn.Module):
    """Features [B, F] to [B, width], not unit; the features' mean and deviation are fixed by `fit`.

    A pretrained trunk's features are all positive and of very different size: without `fit` a
    linear layer spends its first epochs on that. The hidden layer, where there is one, adds to the
    linear projection and starts from zero, so that it cannot do worse than that.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, width: int, *, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, width)
        self.hidden: nn.Module | None = None
        if hidden:
            last = nn.Linear(hidden, width)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            layers = (nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout), last)
            self.hidden = nn.Sequential(*layers)

    @torch.no_grad()
    def fit(self, features: Tensor, *, blocks: Sequence[int] = ()) -> None:
        """Takes mean and deviation from the training set's features, float [N, F].

        `blocks`: how many features each source gives, in order. Each source then counts alike, the
        125 colours as much as the 1,296 gradients.
        """
        done = 0
        for block in features.float().split(list(blocks) or features.shape[1], dim=1):
            mean, deviation = block.mean(dim=0), block.std(dim=0)
            scale = 1 / (deviation + FLOOR * deviation.mean() + 1e-6)
            norm = ((block - mean) * scale).square().sum(dim=1).mean().sqrt()
            place = slice(done, done + block.shape[1])
            done = place.stop
            self.mean[place] = mean
            self.scale[place] = scale * BLOCK_NORM / (norm + 1e-6)

    def forward(self, features: Tensor) -> Tensor:
        standardised = self.dropout((features.float() - self.mean) * self.scale)
        projected: Tensor = self.linear(standardised)
        return projected if self.hidden is None else projected + self.hidden(standardised)


class Adapter(nn.Module):
    """A head on a foundation model's features [B, F] that starts from what they are.

    Unit features plus a hidden layer's correction, which is zero at first (Gao et al., 2021,
    arXiv 2110.04544): untrained, images and texts are as near to each other as the model has them.
    Where `width` is not F, both are projected by the same orthogonal matrix at first.
    """

    def __init__(self, features: int, width: int, *, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear: nn.Module = nn.Identity()
        if width != features:
            self.linear = nn.Linear(features, width, bias=False)
            # The same for the image's and the text's adapter, or they would be strangers.
            generator = torch.Generator().manual_seed(0)
            nn.init.orthogonal_(self.linear.weight, generator=generator)
        self.hidden: nn.Module | None = None
        if hidden:
            last = nn.Linear(hidden, width)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            layers = (nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout), last)
            self.hidden = nn.Sequential(*layers)
        # Of unit features each value is small: a linear layer learns from them as from noise.
        self.size = math.sqrt(features)

    def forward(self, features: Tensor) -> Tensor:
        unit = functional.normalize(features.float(), dim=1)
        projected: Tensor = self.linear(unit)
        if self.hidden is not None:
            projected = projected + self.hidden(unit * self.size)
        return projected
