"""A cursor for reading whose statements end in time and leave nothing behind."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import psycopg.errors
from django.db import ProgrammingError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import OperationalError

from visualsearch.conf import get_settings
from visualsearch.exceptions import NoCheckpointError, SearchTimeoutError
from visualsearch.models import Embedding

_PLANNING = {
    # What searches read is in memory, and no arm has to move for it: with the default of 4, Postgres
    # read all of 100,000 products for the 1,300 that have two words.
    "random_page_cost": "1.1",
    # Many short statements of many visitors: starting a helper or a compiler takes as long as most.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # A large table would be read from where another scan happens to be: what is cut off by LIMIT would be
    # different rows each time, and on each page.
    "synchronize_seqscans": "off",
}
_deadline: ContextVar[float] = ContextVar("_deadline", default=math.inf)
"""When the outermost `bounded` block has to be done, by time.monotonic()."""
_bounded_on: ContextVar[str] = ContextVar("_bounded_on", default="")
"""Alias of the connection whose transaction a `bounded` block has begun and will roll back."""


@contextmanager
def bounded(*, milliseconds: int | None = None) -> Iterator[Any]:
    """A cursor whose statements end after STATEMENT_TIMEOUT_MS; for reading only.

    Inside another one it ends with that at the latest. Settings made inside are undone at the end,
    also in the middle of the shop's own transaction: they are local to a savepoint that is rolled
    back.
    """
    connection = database()
    with (
        together(milliseconds=milliseconds) as deadline,
        _told(),
        transaction.atomic(using=connection.alias),
        connection.cursor() as cursor,
    ):
        set_locally(cursor, _limits(deadline))
        outer = _bounded_on.set(connection.alias)
        try:
            yield cursor
        finally:
            _bounded_on.reset(outer)
        transaction.set_rollback(True, using=connection.alias)


@contextmanager
def together(*, milliseconds: int | None = None) -> Iterator[float]:
    """What is read inside has STATEMENT_TIMEOUT_MS for all of it; when that ends, by time.monotonic()."""
    deadline = _earliest(milliseconds)
    outer = _deadline.set(deadline)
    try:
        yield deadline
    finally:
        _deadline.reset(outer)


def read(
    sql: str, parameters: Sequence[Any], *, settings: Mapping[str, str] | None = None
) -> list[tuple[Any, ...]]:
    """The rows of one SELECT, run with `settings` of Postgres and ended as `bounded` ends it.

    Outside a transaction the settings and the statement go to Postgres together, which runs them as
    one transaction of their own: no BEGIN, no ROLLBACK. In a `bounded` block, too, they go together,
    without a savepoint, unless there are `settings` to undo: an error ends that block.
    """
    connection = database()
    given = settings or {}
    # Values that the server binds come one statement at a time.
    bound = getattr(connection.features, "uses_server_side_binding", False)
    is_ours = _bounded_on.get() == connection.alias and not given
    if bound or not (connection.get_autocommit() or is_ours):
        with bounded() as cursor:
            if given:
                set_locally(cursor, given)
            cursor.execute(sql, parameters)
            return cast(list[tuple[Any, ...]], cursor.fetchall())
    limits, values = _set_statement({**_limits(_earliest()), **given})
    with _told(), connection.cursor() as cursor:
        cursor.execute(f"{limits}; {sql}", [*values, *parameters])
        cursor.nextset()
        return cast(list[tuple[Any, ...]], cursor.fetchall())


def write_alone(
    connection: BaseDatabaseWrapper,
    sql: str,
    parameters: Sequence[Any],
    *,
    settings: Mapping[str, str],
) -> None:
    """One statement that writes, outside a transaction: with `settings`, as one of its own.

    All of it goes to Postgres together, as in `read`.
    """
    if getattr(connection.features, "uses_server_side_binding", False):
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            set_locally(cursor, settings)
            cursor.execute(sql, parameters)
        return
    limits, values = _set_statement(settings)
    with connection.cursor() as cursor:
        cursor.execute(f"{limits}; {sql}", [*values, *parameters])


def database() -> BaseDatabaseWrapper:
    """The connection that searches read from; a replica if the project's routers say so."""
    return connections[router.db_for_read(Embedding)]


def set_locally(cursor: Any, values: Mapping[str, str]) -> None:
    """Settings of Postgres for the rest of the transaction or savepoint."""
    cursor.execute(*_set_statement(values))


def _set_statement(values: Mapping[str, str]) -> tuple[str, list[str]]:
    calls = ", ".join(["set_config(%s, %s, true)"] * len(values))
    return f"SELECT {calls}", [part for pair in values.items() for part in pair]


def _earliest(milliseconds: int | None = None) -> float:
    """When a block that may take so long has to be done: the block around it may end before."""
    allowed = milliseconds or get_settings().STATEMENT_TIMEOUT_MS
    return min(_deadline.get(), time.monotonic() + allowed / 1000)


def _limits(deadline: float) -> dict[str, str]:
    # 0 would be no limit at all.
    milliseconds = max(1, round(1000 * (deadline - time.monotonic())))
    return {"statement_timeout": str(milliseconds), **_PLANNING}


@contextmanager
def _told() -> Iterator[None]:
    """Errors of Postgres that have a name of ours."""
    try:
        yield
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
