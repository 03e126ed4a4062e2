"""What a score means: the share of right hits among those with such a score, by checkpoint and kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from visualsearch.models import Checkpoint

NOT_CALIBRATED = "not_calibrated"
"""Reason of a degraded answer: the live checkpoint was judged before scores were calibrated."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A rising curve from scores (cosines) to matches, 0 to 1; fitted by `ml.calibration`."""

    scores: Sequence[float]
    matches: Sequence[float]

    @classmethod
    def of(cls, checkpoint: Checkpoint, kind: str) -> Self | None:
        """The curve for queries of a kind (image, text or composed); None if none was fitted."""
        stored = checkpoint.metrics.get("calibration")
        return cls.read(stored.get(kind) if isinstance(stored, Mapping) else None)

    @classmethod
    def read(cls, found: Any) -> Self | None:
        """The curve as it is stored; None for what is none."""
        if not isinstance(found, Mapping):
            return None
        scores, matches = found.get("scores") or (), found.get("matches") or ()
        if not scores or len(scores) != len(matches):
            return None
        return cls(scores=scores, matches=matches)

    def match(self, score: float) -> float:
        """The calibrated match of a score."""
        return float(np.interp(score, self.scores, self.matches))

    def score_at(self, match: float) -> float:
        """The least score whose match is at least `match`; infinite if none is."""
        if match <= self.matches[0]:
            return -1.0
        if match > self.matches[-1]:
            return float("inf")
        upper = int(np.searchsorted(self.matches, match))
        low, high = self.matches[upper - 1], self.matches[upper]
        share = (match - low) / (high - low)
        return float(self.scores[upper - 1] + share * (self.scores[upper] - self.scores[upper - 1]))
