"""Lets a worker that shuts down end its child's work after the batch at hand, instead of after its time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """While it lasts, SIGUSR2 only has the function that it gives return True.

    A worker that shuts down asks its children with it, which have set a handler (workers.celery);
    where nobody has, or in a thread other than the main one, nothing is changed.
    """
    asked = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    before = signal.getsignal(signal.SIGUSR2)
    is_heard = threading.current_thread() is threading.main_thread() and callable(before)
    if is_heard:
        signal.signal(signal.SIGUSR2, note)
    try:
        yield asked.is_set
    finally:
        if is_heard:
            signal.signal(signal.SIGUSR2, before)
