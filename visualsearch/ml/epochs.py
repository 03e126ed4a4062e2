"""What a run looks like epoch by epoch: mean loss, mined shares, validation, and when to stop early."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visualsearch.ml.distributed import World
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.tokenizer import Tokenizer
from visualsearch.ml.validation import MRR, Validation

logger = logging.getLogger(__name__)


class Epochs:
    """Sums of the epoch that runs, figures of those that ended, and the best one's weights."""

    def __init__(
        self,
        count: int,
        *,
        validation: Validation | None,
        patience: int,
        tokens: Tokenizer | None,
        place: torch.device,
        world: World,
    ) -> None:
        self.count = count
        self.validation = validation
        # Without figures there is nothing to be patient with.
        self.patience = patience if validation is not None else 0
        self.tokens = tokens
        self.place = place
        self.world = world
        self.told: list[dict[str, float]] = []
        # one entry an epoch: "epoch", "loss", the figures of validation
        self.mining: list[dict[str, float]] = []
        # the shares of easy, semi-hard and hard triplets; empty where none are mined
        self.best_weights: dict[str, Tensor] | None = None
        self._best: float | None = None
        self._since_best = 0
        self._steps = 0
        self._loss = 0.0
        self._shares: dict[str, float] = {}
        self._mined_steps = 0

    @property
    def last(self) -> dict[str, float]:
        """The figures of the last epoch, for the progress; empty during the first."""
        if not self.told:
            return {}
        figures = {k: v for k, v in self.told[-1].items() if k not in ("epoch", "loss")}
        return figures | (self.mining[-1] if self.mining else {})

    @property
    def stopped_early(self) -> bool:
        """Whether validation has not improved for `patience` epochs."""
        return bool(self.patience) and self._since_best >= self.patience

    def add(self, loss: float, shares: Mapping[str, float]) -> None:
        """A step of the epoch that runs."""
        self._steps += 1
        self._loss += loss
        self._mined_steps += bool(shares)
        for name, share in shares.items():
            self._shares[name] = self._shares.get(name, 0.0) + share

    def end(self, network: VisualEncoder) -> None:
        """The epoch is over, and `network` is what it has come to."""
        figures = {"epoch": float(len(self.told) + 1), "loss": self._loss / max(1, self._steps)}
        if self.validation is not None:
            measured: dict[str, float] = {}
            if self.world.is_first:
                measured = self.validation.measure(network, self.tokens, place=self.place)
            # One process decides for all whether to go on.
            measured = self.world.from_first(measured)
            figures |= measured
            if self.patience and MRR in measured:
                self._compare(measured[MRR], network)
        self.told.append(figures)
        if self._mined_steps:
            self.mining.append({k: v / self._mined_steps for k, v in self._shares.items()})
        self._steps, self._loss, self._shares, self._mined_steps = 0, 0.0, {}, 0

    def _compare(self, figure: float, network: VisualEncoder) -> None:
        if self._best is None or figure > self._best:
            self._best, self._since_best = figure, 0
            self.best_weights = {k: v.detach().clone() for k, v in network.state_dict().items()}
            return
        self._since_best += 1
        if self.stopped_early:
            logger.info(
                "Stopped after epoch %d: the %s of %.4f was not surpassed for %d epochs.",
                len(self.told) + 1,
                MRR,
                self._best,
                self.patience,
            )

    def state(self) -> dict[str, Any]:
        """For JSON; the best weights are tensors, and kept beside it."""
        return {
            "told": self.told,
            "mining": self.mining,
            "best": self._best,
            "since_best": self._since_best,
            "sums": [self._steps, self._loss, self._shares, self._mined_steps],
        }

    def restore(self, state: Mapping[str, Any], *, best_weights: dict[str, Tensor] | None) -> None:
        """Undoes `state`."""
        self.told = list(state["told"])
        self.mining = list(state["mining"])
        self._best, self._since_best = state["best"], state["since_best"]
        self._steps, self._loss, self._shares, self._mined_steps = state["sums"]
        self.best_weights = best_weights
