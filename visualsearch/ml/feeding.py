"""Draws and prepares the next batches in a thread of its own, while the network learns from this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from torch import Tensor

from visualsearch.ml.pairs import Batch

AHEAD = 2
"""Batches that wait, prepared; more would only take memory."""
Prepare = Callable[[int, Batch], Tensor]


@dataclass(frozen=True)
class Fed:
    """What one step learns from."""

    step: int
    # finished steps before it
    batch: Batch
    images: Tensor
    # normalised, varied, on the network's device


class Feeder:
    """Iterates over prepared batches; to be used as a context, at whose end the thread ends.

    `prepare` must depend on nothing but its arguments: how far ahead it runs is a matter of chance.
    What it raises is raised to the reader, in the place of the batch.
    """

    def __init__(
        self, batches: Iterator[Batch], prepare: Prepare, *, first: int, last: int | None = None
    ) -> None:
        self._batches = batches
        self._prepare = prepare
        self._first, self._last = first, last
        self._waiting: queue.Queue[Fed | BaseException] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="feeder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        while self._thread.is_alive():
            # It may be waiting for room.
            while not self._waiting.empty():
                self._waiting.get_nowait()
            self._thread.join(timeout=0.05)

    def __next__(self) -> Fed:
        found = self._waiting.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def __iter__(self) -> Self:
        return self

    def _work(self) -> None:
        try:
            for step, batch in enumerate(self._batches, start=self._first):
                if self._closed.is_set() or step == self._last:
                    break
                self._put(Fed(step, batch, self._prepare(step, batch)))
            self._put(StopIteration())
        except BaseException as error:
            self._put(error)

    def _put(self, found: Fed | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._waiting.put(found, timeout=0.1)
                return
            except queue.Full:
                continue
