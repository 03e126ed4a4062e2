"""Milliseconds of CPU that a search takes, here and in Postgres: they hold on a busy machine too."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def of_backend() -> Callable[[], float]:
    """A clock of the CPU used so far by this process and by the backend of its connection.

    Of the backend only where Linux tells it (/proc/PID/schedstat), on this machine.
    """
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return lambda: time.process_time() * 1000 + of_process(pid)


def of_process(pid: int) -> float:
    """CPU milliseconds of a process of one thread; 0 where that cannot be read."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    except OSError:
        return 0.0
