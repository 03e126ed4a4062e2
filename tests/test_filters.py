"""Filters: allow-listed names, typed values, and errors that name what is allowed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from shop.models import Product, ProductImage
from tests.colour_catalogue import product
from visualsearch.exceptions import InvalidFilterError, UnknownFilterError
from visualsearch.indexes import VisualIndex, get_index
from visualsearch.search import filters

HOSTILE = [
    "'; DROP TABLE shop_product; --",
    '" OR 1=1 --',
    "%s %(x)s %%",
    "{0.__class__}",
    "<script>alert(1)</script>",
    "\\",
    "🙂",
    "",
]


class WideIndex(VisualIndex):
    filter_fields = ("category", "stock", "created_at", "images__position", "images")


@pytest.fixture
def shop(db: None) -> list[Product]:
    return [
        product("a", "red", price=10, stock=0),
        product("b", "blue", price=20, stock=5, category="shoes"),
        product("c", "red", price=30, stock=5),
    ]


def found(given: dict[str, Any], index: VisualIndex | None = None) -> list[str]:
    index = index or get_index()
    conditions = filters.parse(index, given)
    products = filters.apply(index, Product.objects.order_by("sku"), conditions)
    return list(products.values_list("sku", flat=True))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"colour": "red"}, ["a", "c"]),
        ({"colour": ["red", "blue"]}, ["a", "b", "c"]),
        ({"colour__in": ["blue"]}, ["b"]),
        ({"colour__in": "blue"}, ["b"]),
        ({"price__lt": 20}, ["a"]),
        ({"price__lte": "20"}, ["a", "b"]),
        ({"price__gt": "19.99", "price__lt": 30.0}, ["b"]),
        ({"price": 30}, ["c"]),
        ({"in_stock": True}, ["b", "c"]),
        ({"in_stock": "false"}, ["a"]),
        ({"in_stock": "1", "colour": "red"}, ["c"]),
        ({"category": "shoes", "colour": "red"}, []),
    ],
)
def test_filter__finds(shop: list[Product], given: dict[str, Any], expected: list[str]) -> None:
    assert found(given) == expected


def test_filter__across_a_to_many_relation_repeats_no_product(shop: list[Product]) -> None:
    for position in range(3):
        ProductImage.objects.create(product=shop[0], original="x.png", position=position)
    index = WideIndex(Product)
    assert found({"images__position__gte": 0}, index) == ["a"]
    key = shop[0].images.first().pk
    assert found({"images": key}, index) == ["a"]
    assert found({"images": key + 1000}, index) == []


def test_filter__by_date_and_time(shop: list[Product]) -> None:
    index = WideIndex(Product)
    assert found({"created_at__gt": "2020-01-01"}, index) == ["a", "b", "c"]
    assert found({"created_at__lt": "2020-01-01T00:00:00Z"}, index) == []


@pytest.mark.parametrize(
    "name",
    [
        "stock",
        "sku",
        "pk",
        "published",
        "price__regex",
        "price__",
        "__price",
        "price__lt__lt",
        "category__lt",
        "in_stock__in",
        "colour__in__lt",
        "images__original",
        "created_at__year",
        "\x00",
        "\ud800",
        "x" * 10_000,
        *HOSTILE,
    ],
)
def test_unknown_name__error_names_the_allowed_ones(name: str) -> None:
    with pytest.raises(UnknownFilterError) as error:
        filters.parse(get_index(), {name: 1})
    assert "category, category__in, colour" in error.value.message
    assert "price__lt" in error.value.message
    assert len(error.value.message) < 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("price", "cheap"),
        ("price", "NaN"),
        ("price__lt", float("nan")),
        ("price__lt", float("inf")),
        ("price__lt", "1e999999"),
        ("price", True),
        ("price", None),
        ("price", {}),
        ("price__lt", [1, 2]),
        ("price__in", []),
        ("price__in", list(range(101))),
        ("price__in", [1, [2]]),
        ("in_stock", "maybe"),
        ("in_stock", 7),
        ("category", "x" * 256),
        ("category", "a\x00b"),
        ("category", "a\ud800b"),
        ("category", None),
        ("category__in", [None]),
    ],
)
def test_invalid_value__names_the_filter(name: str, value: Any) -> None:
    with pytest.raises(InvalidFilterError) as error:
        filters.parse(get_index(), {name: value})
    assert name in error.value.message
    assert error.value.field == name


@pytest.mark.parametrize("value", [10**30, -(10**30), "9" * 40, "1.5", "x"])
def test_whole_number_that_postgres_cannot_hold__is_invalid(value: Any) -> None:
    with pytest.raises(InvalidFilterError):
        filters.parse(WideIndex(Product), {"stock__lt": value})


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_text__is_only_a_value(shop: list[Product], value: str) -> None:
    assert found({"category": value}) == []
    assert Product.objects.count() == 3


def test_large_number_that_fits_no_price__finds_nothing(shop: list[Product]) -> None:
    assert found({"price__gt": Decimal(10) ** 50}) == []


def test_too_many_filters__is_an_error() -> None:
    with pytest.raises(InvalidFilterError, match="at most 20"):
        filters.parse(get_index(), {f"f{n}": 1 for n in range(10_000)})
