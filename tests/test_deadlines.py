"""Searches end in time, and what they set is undone."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from shop.models import Product
from visualsearch.exceptions import SearchTimeoutError
from visualsearch.tables import deadlines

pytestmark = pytest.mark.django_db

TIMEOUT = "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"


def test_timeout__is_an_error_with_a_code_and_the_transaction_goes_on(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"STATEMENT_TIMEOUT_MS": 20}
    with pytest.raises(SearchTimeoutError), deadlines.bounded() as cursor:
        cursor.execute("SELECT pg_sleep(5)")
    assert Product.objects.count() == 0


def test_timeout__inside_another_one_ends_with_it(settings: Any) -> None:
    def timeout(cursor: Any) -> int:
        cursor.execute(TIMEOUT)
        return int(cursor.fetchone()[0])

    settings.VISUALSEARCH = settings.VISUALSEARCH | {"STATEMENT_TIMEOUT_MS": 5000}
    with deadlines.bounded(milliseconds=300) as cursor:
        with deadlines.bounded() as inner:
            assert 1 <= timeout(inner) <= 300
        assert 1 <= timeout(cursor) <= 300
    with deadlines.bounded() as cursor:
        assert 4900 <= timeout(cursor) <= 5000


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in the shop's transaction"])
@pytest.mark.django_db(transaction=True)
def test_read__is_one_statement_with_a_limit_that_is_gone_afterwards(
    inside: bool, settings: Any
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"STATEMENT_TIMEOUT_MS": 4321}

    with transaction.atomic() if inside else contextlib.nullcontext():
        ((during, given),) = deadlines.read(f"SELECT ({TIMEOUT}), %s", ["100 %; it's"])
        with connection.cursor() as cursor:
            cursor.execute(TIMEOUT)
            (after,) = cursor.fetchone()

    assert 4300 <= during <= 4321
    assert given == "100 %; it's"
    assert after != during


@pytest.mark.django_db(transaction=True)
def test_read__that_takes_too_long_is_an_error_with_a_code_and_the_connection_goes_on(
    settings: Any,
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"STATEMENT_TIMEOUT_MS": 20}
    with pytest.raises(SearchTimeoutError):
        deadlines.read("SELECT pg_sleep(%s)", [5])
    assert Product.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_read__works_where_the_server_binds_the_values() -> None:
    options = connection.settings_dict["OPTIONS"]
    options["server_side_binding"] = True
    connection.close()
    connection.features.__dict__.pop("uses_server_side_binding", None)
    try:
        assert deadlines.read("SELECT %s::int + 1", [1]) == [(2,)]
    finally:
        del options["server_side_binding"]
        connection.close()
        connection.features.__dict__.pop("uses_server_side_binding", None)


@pytest.mark.django_db(transaction=True)
def test_read__leaves_nothing_in_a_transaction_that_the_shop_opened_by_hand() -> None:
    transaction.set_autocommit(False)
    try:
        deadlines.read("SELECT %s", [1])
        with connection.cursor() as cursor:
            cursor.execute(TIMEOUT)
            assert cursor.fetchone() == (0,)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.django_db(transaction=True)
def test_read__ends_with_the_block_around_it() -> None:
    ends = time.monotonic() + 0.2
    waiting = deadlines._deadline.set(ends)
    try:
        ((during,),) = deadlines.read(TIMEOUT, [])
    finally:
        deadlines._deadline.reset(waiting)
    assert 1 <= during <= 200


def test_read__in_a_bounded_block_needs_no_savepoint() -> None:
    with (
        deadlines.bounded(milliseconds=2000) as cursor,
        CaptureQueriesContext(connection) as captured,
    ):
        ((during,),) = deadlines.read(TIMEOUT, [])
        with pytest.raises(SearchTimeoutError), deadlines.bounded(milliseconds=20) as inner:
            inner.execute("SELECT pg_sleep(5)")
        cursor.execute(TIMEOUT)  # what has a savepoint of its own fails alone
    assert 0 < during <= 2000
    assert "SAVEPOINT" not in captured.captured_queries[0]["sql"]
    assert captured.captured_queries[1]["sql"].startswith("SAVEPOINT")


def test_read__in_a_bounded_block_leaves_no_setting_to_what_follows() -> None:
    memory = "SELECT current_setting('work_mem')"
    with deadlines.bounded():
        (before,), (during,), (after,) = (
            deadlines.read(memory, [], settings=given)[0]
            for given in (None, {"work_mem": "7MB"}, None)
        )
    assert during == "7MB"
    assert before == after != during
