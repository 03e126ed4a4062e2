"""Wakes the workers, best effort: never makes the caller wait, never fails.

The work itself is a row in Postgres, and workers look for it every few seconds anyway. Ringing
only shortens the wait, so it happens on a thread of its own: a broker that is down, slow or
frozen costs a shopper's or an editor's request nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time

logger = logging.getLogger(__name__)

REST_SECONDS = 0.5
"""Between two rings of one process: a bulk import does not fill the broker while no worker runs."""
TASKS = {"embed": "visualsearch.index_pending", "train": "visualsearch.run_queued_training"}

_waiting: set[str] = set()
_changed = threading.Condition()
_thread: threading.Thread | None = None


def ring(bell: str) -> None:
    """Wake the workers of one kind of work, "embed" or "train"; returns at once.

    Rings that come while one is under way are made into one.
    """
    if bell not in TASKS:
        raise ValueError(f"There is no bell {bell!r}; there are {sorted(TASKS)}.")
    with _changed:
        _waiting.add(bell)
        _start_thread()
        _changed.notify()


def _start_thread() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_serve, name="visualsearch-doorbell", daemon=True)
        _thread.start()


def _start_afresh() -> None:
    """In a forked child: the thread is not there, and the lock may be held by nobody."""
    global _thread, _changed
    _thread, _changed = None, threading.Condition()
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def _serve() -> None:
    while True:
        with _changed:
            while not _waiting:
                _changed.wait()
            bells = sorted(_waiting)
            _waiting.clear()
        for bell in bells:
            _send(bell)
        time.sleep(REST_SECONDS)


def _send(bell: str) -> None:
    try:
        from celery import current_app

        current_app.send_task(TASKS[bell], ignore_result=True, expires=60, retry=False)
    except Exception as error:
        logger.info("Could not wake the %s workers, they will look by themselves: %s", bell, error)
