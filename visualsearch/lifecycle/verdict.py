"""The gate's decision, check by check, as it is kept in rows and shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    figure: float | None = None
    """What was measured; None where it is a yes or no."""
    bound: float | None = None
    """What it was held against."""
    reason: str = ""
    """A sentence for the owner: why it was not passed, or why it was left out."""

    def as_dict(self) -> dict[str, Any]:
        """For a JSON column, which takes no NaN."""
        return {
            "name": self.name,
            "passed": self.passed,
            "figure": _finite(self.figure),
            "bound": _finite(self.bound),
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's decision and why."""

    promote: bool
    reason: str
    checks: Sequence[Check] = ()


def _finite(value: float | None) -> float | None:
    return round(value, 5) if value is not None and math.isfinite(value) else None
