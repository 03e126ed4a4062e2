"""The optimiser and its learning rate over a run: warm-up, then cosine, by steps or by the clock."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from visualsearch.ml.objective import Objective
from visualsearch.ml.recipes import Recipe


def make_optimizer(objective: Objective, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD; no weight decay on norms, biases, embeddings' scale and single numbers."""
    trunk = {id(parameter) for parameter in objective.network.image.trunk.parameters()}
    chosen: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in objective.parameters():
        key = (id(parameter) in trunk, parameter.ndim > 1)
        chosen.setdefault(key, []).append(parameter)
    groups = [
        {
            "params": parameters,
            "lr": recipe.lr * (recipe.trunk_lr if in_trunk else 1.0),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (in_trunk, decays), parameters in chosen.items()
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.lr)


class Schedule:
    """Linear warm-up, then cosine to zero over `steps`, or over `budget_s` if that ends sooner."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        steps: int,
        warmup: float,
        budget_s: float | None,
    ) -> None:
        self.optimizer = optimizer
        self.steps = steps
        self.warmup = warmup
        self.budget_s = budget_s
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.done = 0
        self.share = 0.0
        self.started = time.monotonic()
        self._set()

    @property
    def finished(self) -> bool:
        return self.share >= 1.0

    def step(self) -> None:
        self.done += 1
        share = self.done / self.steps
        if self.budget_s is not None:
            share = max(share, (time.monotonic() - self.started) / self.budget_s)
        self.share = min(1.0, share)
        self._set()

    def remaining_s(self) -> float | None:
        """Seconds to go at the present pace; None before the first step."""
        if self.share == 0:
            return None
        return (time.monotonic() - self.started) * (1 - self.share) / self.share

    def _set(self) -> None:
        if self.share < self.warmup:
            # From a twentieth, so that the first step already learns.
            factor = 0.05 + 0.95 * self.share / self.warmup
        else:
            along = (self.share - self.warmup) / (1 - self.warmup)
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, along)))
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
