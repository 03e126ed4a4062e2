"""A trainer's hold on its run: signs of life, and writes that are refused once another has taken it over."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from django.db import (
    InterfaceError,
    OperationalError,
    close_old_connections,
    connections,
    router,
    transaction,
)
from django.db.models.functions import Now

from visualsearch.exceptions import TrainingCancelledError, TrainingTakenOverError
from visualsearch.models import TrainingRun
from visualsearch.signals import training_finished

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

BEAT_SECONDS = 5.0
"""How often a trainer gives a sign of life."""
RETRY_SECONDS = (0.2, 1.0, 3.0, 10.0, 30.0, 60.0)
"""Waits before a step is tried again when the database went away: a restart or a failover takes less."""

State = TrainingRun.State


class Hold:
    """A trainer's hold on the run that it claimed.

    Gives signs of life from a thread of its own while the block lasts. Every write names the
    token that came with the claim: once another process has taken the run over, this one's
    writes are refused, however late it wakes.
    """

    def __init__(self, run: TrainingRun, token: uuid.UUID) -> None:
        self.run = run
        self.token = token
        self._ended = threading.Event()
        self._cancelled = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=BEAT_SECONDS)

    def check(self) -> None:
        """Raise TrainingTakenOverError or TrainingCancelledError if there is reason to; no query."""
        if self._lost.is_set():
            raise self._taken_over()
        if self._cancelled.is_set():
            raise TrainingCancelledError("The training run was cancelled.")

    def write(self, **values: Any) -> None:
        """Update the run, and check: TrainingTakenOverError, TrainingCancelledError."""
        if not self._update(**values):
            self._lost.set()
        self.check()

    def write_if_possible(self, **values: Any) -> None:
        """As `write`, for what may be lost: a database that is away does not end the training."""
        try:
            is_ours = bool(self._mine().update(heartbeat_at=Now(), **values))
        except (OperationalError, InterfaceError) as error:
            self._reconnect(error)
            return
        if not is_ours:
            self._lost.set()
        self.check()

    def release(self, *, reason: str = "") -> None:
        """Give the run back to the queue: another worker goes on where this one stopped.

        With a `reason`, which is shown meanwhile, not before `runs.PAUSE_SECONDS`.
        """
        # The attempt did not end by a fault of the run's.
        attempts = max(0, self.run.attempts - 1)
        values = {"token": None, "eta_seconds": None, "attempts": attempts, "error": reason}
        if not self._update(state=State.QUEUED, **values):
            self._lost.set()
            raise self._taken_over()

    def finish(self, state: TrainingRun.State, **values: Any) -> None:
        """End the run; TrainingTakenOverError if it is no longer ours to end."""
        if not self._update(state=state, eta_seconds=None, finished_at=Now(), **values):
            self._lost.set()
            raise self._taken_over()
        self.run.refresh_from_db()
        transaction.on_commit(
            lambda: training_finished.send_robust(sender=TrainingRun, run=self.run) and None,
            using=_alias(),
        )

    def patiently(self, do: Callable[[], Result]) -> Result:
        """What `do` returns; it is called once more when the database went away meanwhile.

        For stages that go on where they ended: hours of training are not lost to a restart.
        """
        for seconds in RETRY_SECONDS:
            try:
                return do()
            except (OperationalError, InterfaceError) as error:
                if connections[_alias()].in_atomic_block:
                    raise
                self._reconnect(error)
                time.sleep(seconds)
        return do()

    def lock(self) -> None:
        """Keep the run ours until the transaction ends: for steps that others see."""
        asked = self._mine().select_for_update().values_list("cancel_requested", flat=True).first()
        if asked is None:
            self._lost.set()
        elif asked:
            self._cancelled.set()
        self.check()

    def _mine(self) -> Any:
        return TrainingRun.objects.filter(pk=self.run.pk, token=self.token, state=State.RUNNING)

    def _update(self, **values: Any) -> bool:
        return self.patiently(lambda: bool(self._mine().update(heartbeat_at=Now(), **values)))

    def _beat(self) -> None:
        try:
            while not self._ended.wait(BEAT_SECONDS):
                try:
                    close_old_connections()
                    self._mine().update(heartbeat_at=Now())
                    asked = self._mine().values_list("cancel_requested", flat=True).first()
                except (OperationalError, InterfaceError) as error:
                    self._reconnect(error)
                    continue
                if asked is None and not self._ended.is_set():
                    self._lost.set()
                elif asked:
                    self._cancelled.set()
        finally:
            connections[_alias()].close()

    def _reconnect(self, error: Exception) -> None:
        logger.warning("Run %s could not be written, training goes on: %s", self.run.pk, error)
        connection = connections[_alias()]
        if not connection.in_atomic_block:
            connection.close()

    def _taken_over(self) -> TrainingTakenOverError:
        return TrainingTakenOverError(
            f"Training run {self.run.pk} was ended or taken over by another process: "
            "nothing more of this one is kept."
        )


def _alias() -> str:
    return router.db_for_write(TrainingRun)
