"""Searches end in time, and what they set is undone."""

from __future__ import annotations

from typing import Any

import pytest

from shop.models import Product
from visualsearch import deadlines
from visualsearch.exceptions import SearchTimeoutError

pytestmark = pytest.mark.django_db


def test_timeout__is_an_error_with_a_code_and_the_transaction_goes_on(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"STATEMENT_TIMEOUT_MS": 20}
    with pytest.raises(SearchTimeoutError), deadlines.bounded() as cursor:
        cursor.execute("SELECT pg_sleep(5)")
    assert Product.objects.count() == 0


def test_timeout__inside_another_one_ends_with_it(settings: Any) -> None:
    def timeout(cursor: Any) -> int:
        cursor.execute("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
        return int(cursor.fetchone()[0])

    settings.VISUALSEARCH = settings.VISUALSEARCH | {"STATEMENT_TIMEOUT_MS": 5000}
    with deadlines.bounded(milliseconds=300) as cursor:
        with deadlines.bounded() as inner:
            assert 1 <= timeout(inner) <= 300
        assert 1 <= timeout(cursor) <= 300
    with deadlines.bounded() as cursor:
        assert 4900 <= timeout(cursor) <= 5000
