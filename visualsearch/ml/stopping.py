"""Lets a signal end a run between two steps, once its state is saved, instead of anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from visualsearch.exceptions import TrainingStoppedError

Stop = Callable[[], TrainingStoppedError | None]


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """While it lasts, SIGTERM and Ctrl-C only have the function that it gives return an error.

    So does SIGUSR2, where somebody has set a handler for it: a worker that shuts down asks its
    children with it. A second Ctrl-C interrupts at once. Signals that the process ignores stay
    ignored, and a thread other than the main one, where Python has no signals, changes nothing.
    """
    seen: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        seen.append(number)

    def stop() -> TrainingStoppedError | None:
        if not seen:
            return None
        name = signal.Signals(seen[0]).name
        return TrainingStoppedError(f"The process that trained was told to stop ({name}).")

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            handler = signal.getsignal(number)
            is_unset = number == signal.SIGUSR2 and handler == signal.SIG_DFL
            if handler is not None and handler != signal.SIG_IGN and not is_unset:
                before[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
