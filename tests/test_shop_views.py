"""The shop's pages: grid, filters, product page."""

from __future__ import annotations

import re
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from django.core.cache import cache
from django.template.loader import render_to_string
from django.test import Client
from django.utils import translation

from shop.models import Product, ProductImage

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


def make(sku: str, **fields: Any) -> Product:
    values = {"name": f"Product {sku}", "price": Decimal(20), "stock": 5, "category": "Shirts"}
    product = Product.objects.create(sku=sku, **(values | {"colour": "red"} | fields))
    ProductImage.objects.create(product=product, original=f"products/{sku}.jpg")
    return product


def names(client: Client, query: str) -> set[str]:
    page = client.get(f"/?{query}").context["page"]
    return {product.sku for product in page}


class Inline(HTMLParser):
    """Collects what a strict Content-Security-Policy would block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.found.append(tag)
        self.found += [name for name in given if name == "style" or name.startswith("on")]


def test_home__empty_catalogue_says_how_to_fill_it(client: Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert b"shop_draw --products 600" in response.content


def test_home__shows_published_products_only(client: Client) -> None:
    make("shown")
    make("hidden", published=False)
    assert names(client, "") == {"shown"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("category=Hats", {"c"}),
        ("colour=blue", {"b"}),
        ("min_price=15", {"b", "c"}),
        ("max_price=15", {"a"}),
        ("min_price=15&max_price=25", {"b"}),
        ("min_price=25&max_price=15", {"b"}),
        ("in_stock=on", {"a", "b"}),
        ("category=Hats&in_stock=on", set()),
        ("category=&colour=&min_price=&max_price=", {"a", "b", "c"}),
    ],
)
def test_home__filters(client: Client, query: str, expected: set[str]) -> None:
    make("a", price=Decimal(10))
    make("b", colour="blue", price=Decimal(20))
    make("c", category="Hats", price=Decimal(30), stock=0)
    assert names(client, query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "min_price=cheap",
        "category=Nothing",
        "order=sideways",
        "max_price=-1",
        "page=zero",
        "page=999999999999",
        "page=-1",
        "category=%00",
        "min_price=NaN",
        "min_price=1e400",
        "colour=%27%3B+DROP+TABLE+shop_product",
    ],
)
def test_home__nonsense_is_answered_with_products(client: Client, query: str) -> None:
    make("a")
    response = client.get(f"/?{query}")
    assert response.status_code == 200
    assert "Product a" in response.content.decode()


def test_home__wrong_price_is_explained_and_kept(client: Client) -> None:
    make("a")
    html = client.get("/?min_price=cheap").content.decode()
    assert 'role="alert"' in html and "Enter a number" in html and 'value="cheap"' in html


def test_home__orders_by_price(client: Client) -> None:
    for sku, price in (("a", 30), ("b", 10), ("c", 20)):
        make(sku, price=Decimal(price))
    page = client.get("/?order=price").context["page"]
    assert [product.sku for product in page] == ["b", "c", "a"]
    page = client.get("/?order=-price").context["page"]
    assert [product.sku for product in page] == ["a", "c", "b"]


def test_home__pages_keep_the_filters(client: Client) -> None:
    for i in range(30):
        make(f"p{i:02d}")
    html = client.get("/?colour=red&in_stock=on").content.decode()
    link = re.search(r'rel="next" href="([^"]+)"', html)
    assert link
    second = client.get("/" + link[1].replace("&amp;", "&"))
    assert second.context["page"].number == 2
    assert len(second.context["page"]) == 6
    assert second.context["form"].cleaned_data["colour"] == "red"


def test_home__number_of_queries_does_not_grow_with_products(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    for i in range(24):
        make(f"p{i}")
    with django_assert_max_num_queries(6):
        client.get("/")


def test_home__post_is_not_allowed(client: Client) -> None:
    assert client.post("/").status_code == 405


def test_product__shows_what_it_is(client: Client) -> None:
    make(
        "one",
        description="Soft & warm",
        attributes={"sleeve": "long"},
        price=Decimal("19.90"),
        stock=9,
    )
    html = client.get("/products/one/").content.decode()
    for text in ("Product one", "€19.90", "In stock", "Soft &amp; warm", "Sleeve", "Long"):
        assert text in html


@pytest.mark.parametrize(("stock", "text"), [(0, "Sold out"), (3, "Only 3 left"), (50, "In stock")])
def test_product__says_how_many_are_left(client: Client, stock: int, text: str) -> None:
    make("one", stock=stock)
    assert text in client.get("/products/one/").content.decode()


def test_product__primary_key_leads_to_the_address_with_the_sku(client: Client) -> None:
    product = make("one")
    response = client.get(f"/products/{product.pk}/")
    assert response.status_code == 302
    assert response["Location"] == "/products/one/"


def test_product__sku_of_digits_wins_over_a_primary_key(client: Client) -> None:
    first = make("one")
    second = make(str(first.pk))
    assert client.get(f"/products/{first.pk}/").context["product"] == second


@pytest.mark.parametrize("sku", ["nothing", "%00", "9" * 40, "%F0%9F%98%80", "²", "hidden"])
def test_product__unknown_is_404(client: Client, sku: str) -> None:
    make("hidden", published=False)
    response = client.get(f"/products/{sku}/")
    assert response.status_code == 404


def test_product__what_is_gone_has_the_shops_own_page_while_developing_too(
    client: Client, settings: Any
) -> None:
    settings.DEBUG = True
    page = client.get("/products/nothing/").content.decode()
    assert "does not exist any more" in page and "DEBUG" not in page


@pytest.mark.parametrize(("language", "price"), [("en", "€19.90"), ("de", "19,90\u00a0€")])
def test_product__price_is_written_as_its_readers_write_it(
    client: Client, language: str, price: str
) -> None:
    make("a", price="19.90")
    with translation.override("en"):  # a request leaves its language to the thread
        for address in ("/", "/products/a/"):
            answer = client.get(address, headers={"accept-language": language})
            assert price in answer.content.decode()


def test_product__sku_with_a_slash_has_a_page(client: Client) -> None:
    product = make("a/b c")
    assert client.get(product.get_absolute_url()).status_code == 200


def test_product__offers_other_colours_and_other_cuts(client: Client) -> None:
    short = {"sleeve": "short"}
    one = make("one", style_code="S", attributes=short)
    blue = make("blue", style_code="S", colour="blue", attributes=short)
    long = make("long", style_code="S", attributes={"sleeve": "long"})
    make("hidden", style_code="S", colour="green", attributes=short, published=False)
    make("other", style_code="T")
    context = client.get(one.get_absolute_url()).context
    assert context["colours"] == [one, blue]
    assert context["others"] == [long]


def test_product__without_a_style_has_no_variants(client: Client) -> None:
    make("one")
    make("two")
    context = client.get("/products/one/").context
    assert context["colours"] == context["others"] == []


def test_product__hostile_text_is_escaped(client: Client) -> None:
    make("one", name="<script>alert(1)</script>", attributes={"<b>": "<i>"})
    html = client.get("/products/one/").content.decode()
    assert "<script>alert" not in html and "<i>" not in html


def test_product__attributes_that_are_no_mapping_break_nothing(client: Client) -> None:
    make("one", attributes=["odd"])
    assert client.get("/products/one/").status_code == 200


@pytest.mark.parametrize("address", ["/", "/products/one/", "/products/none/"])
def test_pages__have_no_inline_style_or_script(client: Client, address: str) -> None:
    make("one")
    parser = Inline()
    parser.feed(client.get(address).content.decode())
    assert parser.found == []


def test_visual_card__shows_price_and_sold_out() -> None:
    product = make("one", stock=0, price=Decimal("12.50"))
    html = render_to_string(
        "shop/product_visual_card.html",
        {"product": product, "url": "/products/one/", "title": "One", "image_url": "/media/x.jpg"},
    )
    assert "€12.50" in html and "Sold out" in html and 'src="/media/x.jpg"' in html


def test_all_attributes__fields_come_first_and_win() -> None:
    product = Product(colour="red", attributes={"colour": "green", "sleeve": "long", "empty": ""})
    assert product.all_attributes() == {"colour": "red", "sleeve": "long"}
