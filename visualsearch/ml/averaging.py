"""The exponential moving average of a network's weights, which finds what a run circles around."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """A copy of the network whose weights, and norms' statistics, follow those that are trained.

    After update n (from 0) it is decay_n · average + (1 − decay_n) · network, where decay_n is
    min(decay, (1 + n) / (10 + n)): early on it would remember the random start for too long.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step towards `network`; the first takes its weights as they are."""
        ours, theirs = self.network.state_dict(), network.state_dict()
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        if self.count:
            share = 1 - min(self.decay, (1 + self.count) / (10 + self.count))
            averaged: list[Tensor] = [ours[name] for name in floats]
            torch._foreach_lerp_(averaged, [theirs[name] for name in floats], share)
            # Counters of batches are no figures to average.
            names = [name for name in ours if not ours[name].is_floating_point()]
        else:
            names = list(ours)
        for name in names:
            ours[name].copy_(theirs[name])
        self.count += 1
