"""What a training run shows of itself: stage, share done, time left, loss curve, seconds by stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from visualsearch.lifecycle.hold import Hold

STAGES = (
    "collecting",
    "preparing",
    "reading",
    "training",
    "evaluating",
    "exporting",
    "judging",
    "embedding",
    "indexing",
    "probing",
    "neighbours",
    "promoting",
)
"""In the order in which a run goes through them."""
WRITE_EVERY_SECONDS = 1.0
HISTORY_POINTS = 300
"""Points of the curves; when there are more, every other one is dropped."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a run stands, as a listener in the same process hears it."""

    stage: str
    done: int = 0
    total: int = 0
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    eta_seconds: float | None = None


Listener = Callable[[Step], None]


class RunProgress:
    """Writes the progress of one run, at most every second; checks for a cancel at every call."""

    def __init__(self, hold: Hold, *, listener: Listener | None = None) -> None:
        self.hold = hold
        self.listener = listener
        # What an earlier attempt at the same run has taken is kept.
        self.timings: dict[str, float] = dict(hold.run.timings)
        self.history: list[dict[str, Any]] = list(hold.run.history)
        self.stage = ""
        self._began = self._written = time.monotonic()

    def enter(self, stage: str, *, total: int = 0) -> None:
        """Begin a stage; the one before it ends."""
        self.leave()
        self.stage = stage
        self._began = time.monotonic()
        self._put(Step(stage=stage, total=total), force=True)

    def leave(self) -> None:
        """Note how long the stage took."""
        if self.stage:
            seconds = time.monotonic() - self._began
            self.timings[self.stage] = round(self.timings.get(self.stage, 0) + seconds, 2)
        self.stage = ""

    def count(self, done: int, total: int) -> None:
        """`done` of `total` of the present stage; the time left follows from the pace so far."""
        elapsed = time.monotonic() - self._began
        left = elapsed / done * (total - done) if done else None
        self._put(Step(stage=self.stage, done=done, total=total, eta_seconds=left))

    def learned(
        self,
        *,
        step: int,
        steps: int,
        epoch: int,
        epochs: int,
        loss: float | None,
        metrics: Mapping[str, float],
        eta_seconds: float | None,
    ) -> None:
        """A point of the curves."""
        point: dict[str, Any] = {"step": step, "epoch": epoch, "epochs": epochs}
        if loss is not None:
            # The parts of the loss come under its own name as well, unsmoothed.
            point |= {name: _short(value) for name, value in metrics.items()}
            point["loss"] = _short(loss)
        # A run that is resumed repeats the steps since its state was saved.
        while self.history and self.history[-1].get("step", 0) >= step:
            self.history.pop()
        self.history.append(point)
        if len(self.history) > HISTORY_POINTS:
            self.history = self.history[::2]  # an odd number: the last stays
        self._put(
            Step(
                stage=self.stage,
                done=step,
                total=steps,
                epoch=epoch,
                epochs=epochs,
                loss=loss,
                eta_seconds=eta_seconds,
            )
        )

    def _put(self, step: Step, *, force: bool = False) -> None:
        self.hold.check()
        now = time.monotonic()
        if self.listener is not None:
            self.listener(step)
        if not force and now - self._written < WRITE_EVERY_SECONDS:
            return
        self._written = now
        values: dict[str, Any] = {
            "stage": step.stage,
            "done": step.done,
            "total": step.total,
            "eta_seconds": step.eta_seconds,
            "timings": self.timings,
            "history": self.history,
        }
        # A new stage is a point of no return, at which the run has to be ours for certain.
        if force:
            self.hold.write(**values)
        else:
            self.hold.write_if_possible(**values)


def in_order(timings: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage as the stages came: a JSON column of Postgres has an order of its own."""
    known = {stage: timings[stage] for stage in STAGES if stage in timings}
    return known | {stage: timings[stage] for stage in timings if stage not in known}


def _short(value: float) -> float | None:
    """For JSON in Postgres, which knows no NaN."""
    return round(float(value), 5) if math.isfinite(value) else None
