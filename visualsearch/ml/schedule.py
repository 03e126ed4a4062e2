"""The optimiser and its learning rate over a run: warm-up, then cosine, by steps or by the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from visualsearch.ml.objective import Objective
from visualsearch.ml.recipes import Recipe


def make_optimizer(objective: Objective, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD; no weight decay on norms, biases, embeddings' scale and single numbers."""
    # A pretrained text tower is as little to be forgotten as the image's.
    pretrained = [objective.network.image.trunk, getattr(objective.network.text, "tower", None)]
    trunk = {id(weight) for part in pretrained if part is not None for weight in part.parameters()}
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
    # One pass over the memory instead of a dozen: less than half the time.
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)


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

    def step(self, *, share: Callable[[float], float] | None = None) -> None:
        """One step is done; `share` may correct the share of the run that is over.

        Of several processes each has a clock of its own, and all must go by one.
        """
        self.done += 1
        over = self.done / self.steps
        if self.budget_s is not None:
            over = max(over, (time.monotonic() - self.started) / self.budget_s)
        self.share = min(1.0, over if share is None else share(over))
        self._set()

    def state(self) -> dict[str, float]:
        return {
            "done": self.done,
            "share": self.share,
            "elapsed_s": time.monotonic() - self.started,
        }

    def restore(self, state: Mapping[str, float]) -> None:
        """Undoes `state`: the time in between does not count."""
        self.done, self.share = int(state["done"]), state["share"]
        self.started = time.monotonic() - state["elapsed_s"]
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
