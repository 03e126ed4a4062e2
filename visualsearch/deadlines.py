"""A cursor for reading whose statements end in time and leave nothing behind."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg.errors
from django.db import ProgrammingError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import OperationalError

from visualsearch.conf import get_settings
from visualsearch.exceptions import NoCheckpointError, SearchTimeoutError
from visualsearch.models import Embedding

_deadline: ContextVar[float] = ContextVar("_deadline", default=math.inf)
"""When the outermost `bounded` block has to be done, by time.monotonic()."""


@contextmanager
def bounded(*, milliseconds: int | None = None) -> Iterator[Any]:
    """A cursor whose statements end after STATEMENT_TIMEOUT_MS; for reading only.

    Inside another one it ends with that at the latest. Settings made inside are undone at the end,
    also in the middle of the shop's own transaction: they are local to a savepoint that is rolled
    back.
    """
    connection = database()
    now = time.monotonic()
    allowed_ms = milliseconds or get_settings().STATEMENT_TIMEOUT_MS
    deadline = min(_deadline.get(), now + allowed_ms / 1000)
    # 0 would be no limit at all.
    timeout = max(1, round(1000 * (deadline - now)))
    outer = _deadline.set(deadline)
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            set_locally(cursor, {"statement_timeout": str(timeout), "jit": "off"})
            yield cursor
            transaction.set_rollback(True, using=connection.alias)
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise SearchTimeoutError(
                "The search took too long and was stopped: narrow it down, or try again later."
            ) from error
        raise
    except ProgrammingError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedTable) and (
            "visualsearch_embedding_c" in str(error)
        ):
            raise NoCheckpointError(
                "The checkpoint was removed while it was being searched: search again."
            ) from error
        raise
    finally:
        _deadline.reset(outer)


def database() -> BaseDatabaseWrapper:
    """The connection that searches read from; a replica if the project's routers say so."""
    return connections[router.db_for_read(Embedding)]


def set_locally(cursor: Any, values: dict[str, str]) -> None:
    """Settings of Postgres for the rest of the transaction or savepoint."""
    calls = ", ".join(["set_config(%s, %s, true)"] * len(values))
    cursor.execute(f"SELECT {calls}", [part for pair in values.items() for part in pair])
