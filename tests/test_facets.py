"""Facets: counts by value over everything that matches, agreeing with the total; and explanations."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Count, ExpressionWrapper, F, FloatField

from shop.models import Product
from tests.colour_catalogue import embed, product
from visualsearch.exceptions import QueryError
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint
from visualsearch.search import searching
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db


@pytest.fixture
def checkpoint() -> Checkpoint:
    return fake_checkpoint()


@pytest.fixture
def shop(checkpoint: Checkpoint) -> list[Product]:
    colours = ["red"] * 120 + ["blue"] * 30 + ["green"] * 5 + [""]
    made = [
        product(f"p{n}", colour or "red", price=n + 1, stock=n % 2, category=f"kind{n % 4}")
        for n, colour in enumerate(colours)
    ]
    embed(checkpoint, *made)
    Product.objects.filter(pk=made[-1].pk).update(colour="")
    return made


def counts(results: Any, name: str) -> dict[Any, int]:
    (facet,) = results.facets([name])
    return dict(facet.counts)


def test_counts__are_of_everything_that_matches_not_of_one_page(shop: list[Product]) -> None:
    results = searching.search("red", limit=5)
    assert counts(results, "colour") == {"red": 120, "blue": 30, "green": 5}
    assert list(counts(results, "colour")) == ["red", "blue", "green"], "the most frequent first"
    assert counts(results, "in_stock") == {True: 78, False: 78}
    assert sum(counts(results, "category").values()) == results.total == 156


def test_counts__follow_the_filters(shop: list[Product]) -> None:
    results = searching.search("red", filters={"colour": ["blue", "green"], "price__lte": 130})
    assert counts(results, "colour") == {"blue": 10}
    assert sum(counts(results, "category").values()) == results.total == 10


def test_counts__leave_out_what_may_not_be_seen_and_what_was_asked_about(
    shop: list[Product],
) -> None:
    Product.objects.filter(colour="green").update(published=False)
    assert counts(searching.search("red"), "colour") == {"red": 120, "blue": 30}
    assert counts(searching.search(image=shop[0]), "colour") == {"red": 119, "blue": 30}


def test_counts__agree_with_the_total_while_products_wait_to_be_embedded(
    shop: list[Product],
) -> None:
    product("new", "blue", name="thing")
    results = searching.search("zzz", hybrid=False)
    assert sum(counts(results, "category").values()) == results.total == 156


def test_counts__of_any_queryset_are_of_products(shop: list[Product]) -> None:
    wanted = {"red": 120, "blue": 30, "green": 5}
    for queryset in (
        Product.objects.distinct(),
        Product.objects.order_by("colour", "pk").distinct("colour", "pk"),
        Product.objects.filter(images__isnull=True),
        Product.objects.annotate(number=Count("images")).filter(number=0),
    ):
        results = searching.search("red", queryset=queryset)
        assert counts(results, "colour") == wanted
        names = [facet.name for facet in results.facets(["price", "colour", "category"])]
        assert names == ["price", "colour", "category"]
        assert dict(results.facets(["category", "colour"])[1].counts) == wanted


def test_counts__of_what_the_index_annotates(
    shop: list[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = type(get_index())
    annotated = Product.objects.annotate(
        kind=F("category"), cost=ExpressionWrapper(F("price") * 1, output_field=FloatField())
    )
    monkeypatch.setattr(index, "get_queryset", lambda self: annotated.all())
    monkeypatch.setattr(index, "filter_fields", ("colour", "kind", "cost"))
    for queryset in (None, Product.objects.filter(price__lte=3)):
        results = searching.search("red", queryset=queryset)
        kind, _, cost = results.facets(["kind", "colour", "cost"])
        assert sum(number for _, number in kind.counts) == results.total
        assert {value for value, _ in cost.counts} >= {1.0, 2.0, 3.0}
        assert (cost.least, type(cost.least)) == (1.0, float), "as the ORM gives it"


def test_stats__of_a_price(shop: list[Product]) -> None:
    (facet,) = searching.search("red", filters={"colour": "blue"}).facets(["price"])
    assert (facet.least, facet.most) == ("121.00", "150.00")


def test_counts__without_checkpoint_are_of_what_matches_the_filters(db: None) -> None:
    product("a", "red")
    product("b", "blue")
    assert counts(searching.search("red"), "colour") == {"red": 1, "blue": 1}


def test_nothing_matches__no_counts(shop: list[Product]) -> None:
    for results in (
        searching.search("red", filters={"colour": "none"}),
        searching.search("red", queryset=Product.objects.none()),
    ):
        assert counts(results, "colour") == {}


@pytest.mark.parametrize("names", ["colour", 5, ["stock"], [5], ["colour"] * 11, [None], {"a": 1}])
def test_refusals__name_the_field(shop: list[Product], names: Any) -> None:
    with pytest.raises(QueryError) as caught:
        searching.search("red").facets(names)
    assert caught.value.field == "facets"


# --- explanations -------------------------------------------------------------------------------


def test_explanation__its_parts_add_up_to_the_score(shop: list[Product]) -> None:
    results = searching.search(
        {"blue": 1, "red": -0.3}, positive=[shop[121]], negative=[shop[151]], hybrid=True
    )
    for hit in results[:5]:
        explained = hit.explanation
        assert [part.field for part in explained.parts] == ["positive", "negative", "q", "q"]
        assert sum(part.adds for part in explained.parts) == pytest.approx(hit.score, abs=2e-3)
        assert explained.position == hit.position == 0


def test_explanation__names_shared_attributes_and_the_photo_that_matched(
    shop: list[Product], checkpoint: Checkpoint
) -> None:
    blue = shop[125]
    blue.colour = "yellow"  # what its second photo shows
    embed(checkpoint, blue, position=1)
    hit = searching.search("yellow", hybrid=False)[0]
    assert (hit.product, hit.explanation.position) == (blue, 1)
    like = searching.search(image=shop[0])[0]
    assert like.explanation.shared["colour"] == "red"
    assert "price" not in like.explanation.shared
    assert sum(part.adds for part in like.explanation.parts) == pytest.approx(like.score, abs=2e-3)
