"""PostgreSQL that crashes, ends its connections and comes back, and how to wait for it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from django.db import Error, connection, connections


def patiently(do: Callable[[], Any], *, within: float = 120) -> Any:
    """What `do` returns, once the database answers."""
    deadline = time.monotonic() + within
    while True:
        try:
            return do()
        except Error:
            assert time.monotonic() < deadline, "PostgreSQL did not come back"
            connections.close_all()
            time.sleep(0.1)


def crash_postgres(*, is_ours: bool) -> None:
    """kill -9 of a server process: all others end, and the server recovers from its log."""
    with connection.cursor() as cursor:
        if not is_ours:  # the next best on a machine that is not this one
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        cursor.execute("SELECT pg_backend_pid()")
        os.kill(cursor.fetchone()[0], signal.SIGKILL)
    connection.close()


def end_backends() -> None:
    """All connections are ended, as by an administrator or a failover of a proxy."""
    with contextlib.suppress(Error), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database()"
        )
    connection.close()


def set_durable(*, on: bool) -> None:
    """The servers of the tests do not wait for the log: this has a commit that was answered hold."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    what = "SET synchronous_commit = on" if on else "RESET synchronous_commit"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} {what}")
    connection.close()
