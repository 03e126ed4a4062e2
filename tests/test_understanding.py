"""Price and size words in a sentence become conditions; everything else stays what it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.colour_catalogue import embed, product
from visualsearch import indexes
from visualsearch.search import searching
from visualsearch.search.understanding import understand
from visualsearch.testing import fake_checkpoint


@pytest.mark.parametrize(
    ("text", "rest", "filters"),
    [
        ("red dress under 50", "red dress", {"price__lt": "50"}),
        ("red dress under €50", "red dress", {"price__lt": "50"}),
        ("red dress below 49.90 euros", "red dress", {"price__lt": "49.90"}),
        ("Under £50 red dress", "red dress", {"price__lt": "50"}),
        ("shoes less than 20 dollars", "shoes", {"price__lt": "20"}),
        ("shoes up to 20", "shoes", {"price__lte": "20"}),
        ("shoes max 20", "shoes", {"price__lte": "20"}),
        ("shoes at least 20", "shoes", {"price__gte": "20"}),
        ("coat over 100", "coat", {"price__gt": "100"}),
        ("coat between 50 and 100", "coat", {"price__gte": "50", "price__lte": "100"}),
        ("coat from 50 to 100 eur", "coat", {"price__gte": "50", "price__lte": "100"}),
        ("coat between $50-$100, blue", "coat , blue", {"price__gte": "50", "price__lte": "100"}),
        ("under 50", "", {"price__lt": "50"}),
        # and what is no price
        ("under armour shirt", "under armour shirt", {}),
        ("jeans 501", "jeans 501", {}),
        ("boots under 20 cm", "boots under 20 cm", {}),
        ("toys over 12 years", "toys over 12 years", {}),
        ("wool over 50%", "wool over 50%", {}),
        ("dress from the 1960s", "dress from the 1960s", {}),
        ("chanel no 5", "chanel no 5", {}),
        ("wunder 50", "wunder 50", {}),
        ("under 50x", "under 50x", {}),
        ("cheaper", "cheaper", {}),
        ("", "", {}),
    ],
)
def test_understand__prices(text: str, rest: str, filters: dict[str, str]) -> None:
    found = understand(indexes.get_index(), text)
    assert (found.text, found.filters) == (rest, filters)


def test_understand__without_a_price_in_the_database_words_stay_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = indexes.get_index()
    for path in ("", "get_price", "name", "images__original"):
        monkeypatch.setattr(type(index), "price_field", path)
        assert understand(index, "dress under 50").text == "dress under 50"


def test_understand__sizes_where_the_shop_filters_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    index = indexes.get_index()
    assert understand(index, "coat in size M").text == "coat in size M"
    monkeypatch.setattr(
        type(index), "get_queryset", lambda self: _with_size(self.model.objects.all())
    )
    monkeypatch.setattr(type(index), "filter_fields", ("category", "size"))
    found = understand(index, "coat in size M")
    assert (found.text, found.filters) == ("coat", {"size": "M"})


def _with_size(products: Any) -> Any:
    from django.db.models import F

    return products.annotate(size=F("pattern"))


@pytest.mark.django_db
def test_search__conditions_go_to_sql_and_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [product(f"p{n}", "red", price=10 * n, pattern="sm"[n % 2]) for n in range(1, 7)]
    embed(fake_checkpoint(), *made)
    index = indexes.get_index()

    results = searching.search("red dress under 30")
    assert {hit.product.price for hit in results} == {10, 20}
    assert (results.total, results.understood) == (2, {"price__lt": "30"})
    assert [part.label for part in results[0].explanation.parts] == ["red dress"]

    cheaper = searching.search(image=made[2], modify="cheaper")
    assert {hit.product.price for hit in cheaper} == {10, 20}
    pricier = searching.search(image=made[2], modify="in blue and more expensive")
    assert {hit.product.price for hit in pricier} == {40, 50, 60}

    only = searching.search("over 40")
    assert [hit.product.price for hit in only] == [50, 60]
    assert (only.degraded, only[0].score, only.total) == (False, None, 2)

    monkeypatch.setattr(
        type(index), "get_queryset", lambda self: _with_size(self.model.objects.all())
    )
    monkeypatch.setattr(type(index), "filter_fields", ("size",))
    assert {hit.product.pattern for hit in searching.search("red dress in size M")} == {"m"}
