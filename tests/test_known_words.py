"""The words of queries: asked of the database once, and again after a while."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from shop.models import Product
from visualsearch.search import known_words, spelling

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _products() -> None:
    for number, name in enumerate(("Striped dress", "Linen trousers")):
        Product.objects.create(sku=str(number), name=name, price=10)
    spelling.collect()


def test_stems__say_what_products_have_what_begins_and_what_may_be_meant() -> None:
    found = {
        stem.lexeme: (stem.is_known, stem.is_beginning, stem.corrections)
        for stem in known_words.stems(["dresses", "trous", "stripet", "gown"], "english")
    }
    assert found == {
        "dress": (True, True, ()),
        "trous": (False, True, ()),
        "stripet": (False, False, ("stripe",)),
        "gown": (False, False, ()),
    }


def test_stems__of_words_that_were_asked_for_before_ask_nothing() -> None:
    known_words.stems(["striped", "dress"], "english")
    with CaptureQueriesContext(
        connection,
    ) as asked:
        again = known_words.stems(["dress", "striped", "dresses"], "english")
    assert [stem.lexeme for stem in again] == ["dress", "stripe"]
    assert "dresses" in str(asked.captured_queries)
    assert "striped" not in str(asked.captured_queries), "only what is new is looked up"


def test_stems__of_another_language_are_others() -> None:
    assert known_words.stems(["dresses"], "english")[0].lexeme == "dress"
    assert known_words.stems(["dresses"], "simple")[0].lexeme == "dresses"


def test_stems__new_words_are_known_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not known_words.stems(["kimono"], "english")[0].is_known
    Product.objects.create(sku="2", name="Kimono", price=10)
    spelling.collect()
    assert not known_words.stems(["kimono"], "english")[0].is_known
    later = known_words.time.monotonic() + known_words.SECONDS
    monkeypatch.setattr(known_words.time, "monotonic", lambda: later + 1)
    assert known_words.stems(["kimono"], "english")[0].is_known
