"""Template tags: the widget never breaks a page, and its templates are the shop's to override."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.template import Context, Template, TemplateSyntaxError
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from shop.models import Product
from tests.colour_catalogue import embed, product, set_neighbours
from visualsearch.models import Checkpoint, SimilarProduct
from visualsearch.tables import deadlines, partitions
from visualsearch.templatetags import visualsearch as templatetags
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

Shop = dict[str, Product]


@pytest.fixture
def shop() -> Shop:
    checkpoint = fake_checkpoint()
    made = {c: product(c, c) for c in ("red", "pink", "blue", "navy")}
    embed(checkpoint, *made.values())
    set_neighbours(checkpoint, made["red"], made["navy"], made["pink"], made["blue"])
    return made


def render(source: str, **values: Any) -> str:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    values = {"request": request} | values
    return Template("{% load visualsearch %}" + source).render(Context(values))


def break_index() -> None:
    """As after a faulty migration: the table of neighbours lacks a column."""
    with connection.cursor() as cursor:
        table = SimilarProduct._meta.db_table
        cursor.execute(f"ALTER TABLE {table} RENAME COLUMN score TO lost")


def test_widget__shows_cards_of_the_shop(shop: Shop) -> None:
    html = render("{% similar_products product limit=2 %}", product=shop["red"])
    assert html.index('href="/products/navy/"') < html.index('href="/products/pink/"')
    assert "/products/blue/" not in html
    assert "Similar products" in html and 'class="card-link"' in html


def test_widget__own_card_where_the_shop_has_none(shop: Shop, settings: Any) -> None:
    import visualsearch

    own = f"{visualsearch.__path__[0]}/templates"
    settings.TEMPLATES = [settings.TEMPLATES[0] | {"APP_DIRS": False, "DIRS": [own]}]
    html = render("{% similar_products product %}", product=shop["red"])
    assert html.count('class="visual-card"') == 3
    assert 'src="/media/products/navy.png"' in html


def test_widget__as_gives_the_hits_and_renders_nothing(shop: Shop) -> None:
    source = (
        "{% similar_products product limit=2 as items %}"
        "{% for hit in items %}{{ hit.product.sku }} {{ hit.score }};{% endfor %}"
    )
    assert render(source, product=shop["red"]) == "navy 0.99;pink 0.98;"


def test_widget__limit_may_be_a_variable(shop: Shop) -> None:
    source = "{% similar_products product limit=n as items %}{{ items|length }}"
    assert render(source, product=shop["red"], n=3) == "3"


def test_widget__asks_two_questions(shop: Shop) -> None:
    with CaptureQueriesContext(connection) as captured:
        render("{% similar_products product limit=3 as items %}", product=shop["red"])
    asked = [query["sql"] for query in captured.captured_queries if " FROM " in query["sql"]]
    assert len(asked) == 2, asked


def test_widget__without_similar_products_is_empty(db: None) -> None:
    assert render("{% similar_products product %}", product=product("alone")).strip() == ""


def test_widget__degraded_says_of_this_kind(db: None) -> None:
    one, _two = product("one"), product("two")
    assert "More of this kind" in render("{% similar_products product %}", product=one)


@pytest.mark.parametrize(
    "values",
    [{}, {"product": None}, {"product": "x"}, {"product": Product()}, {"product": AnonymousUser()}],
)
def test_widget__of_something_else_renders_nothing(
    shop: Shop, values: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert render("a{% similar_products product %}b", **values).strip("ab\n ") == ""


@pytest.mark.parametrize("limit", ["0", "-1", "'x'", "1000000", "nothing"])
def test_widget__impossible_limit_is_logged(
    shop: Shop, limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    html = render(f"a{{% similar_products product limit={limit} %}}b", product=shop["red"])
    assert html == "ab"
    assert "left out" in caplog.text


def test_widget__on_a_broken_index_leaves_the_page_and_the_transaction(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    break_index()
    with caplog.at_level(logging.ERROR):
        assert render("a{% similar_products product %}b", product=shop["red"]) == "ab"
    assert "left out" in caplog.text
    Product.objects.create(sku="written afterwards", name="x", price=1)


def test_widget__waits_no_longer_when_it_has_to_search(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def note(deadline: float) -> dict[str, str]:
        values = limited(deadline)
        limits.append(int(values["statement_timeout"]))
        return values

    limited = deadlines._limits
    monkeypatch.setattr(deadlines, "_limits", note)
    assert "Similar products" in render("{% similar_products product %}", product=shop["red"])
    assert len(limits) >= 3, "the widget's own, the table's and the search's"
    assert max(limits) <= templatetags.WIDGET_MILLISECONDS


def test_widget__without_its_partition_leaves_the_page(shop: Shop) -> None:
    partitions.drop(Checkpoint.objects.get())
    assert render("a{% similar_products product as items %}b", product=shop["red"]) == "ab"
    assert Product.objects.count() == 4


def test_product_page__with_a_broken_index_is_as_it_was_less_the_widget(
    client: Client, shop: Shop
) -> None:
    whole = client.get("/products/red/").content.decode()
    assert "visual-similar" in whole
    break_index()
    response = client.get("/products/red/")
    assert response.status_code == 200
    before, _, rest = whole.partition('<section class="visual-similar"')
    assert response.content.decode().startswith(before[:200])
    assert "visual-similar" not in response.content.decode()
    assert "site-footer" in response.content.decode() and rest


def test_widget__in_a_failed_transaction_renders_nothing(shop: Shop) -> None:
    from django.db import transaction

    with transaction.atomic():
        transaction.set_rollback(True)
        assert render("a{% similar_products product %}b", product=shop["red"]) == "ab"


def test_widget__a_slow_database_is_given_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from visualsearch.search import searching

    def slow(*args: Any, **kwargs: Any) -> Any:
        with deadlines.database().cursor() as cursor:
            cursor.execute("SELECT pg_sleep(20)")

    monkeypatch.setattr(searching, "similar_to", slow)
    assert render("a{% similar_products product %}b", product=shop["red"]) == "ab"
    assert "SearchTimeoutError" in caplog.text


def test_widget__a_card_that_fails_leaves_the_page(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Product) -> str:
        raise RuntimeError("no route")

    monkeypatch.setattr(Product, "get_absolute_url", broken)
    assert render("a{% similar_products product %}b", product=shop["red"]) == "ab"


@pytest.mark.parametrize(
    "tag",
    [
        "{% similar_products %}",
        "{% similar_products as items %}",
        "{% similar_products product many=3 %}",
        "{% similar_products product 3 4 %}",
        "{% similar_products limit=3 %}",
    ],
)
def test_widget__written_wrongly_is_a_template_error(tag: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="similar_products product limit=8"):
        render(tag)


def test_widget__options_are_filters_and_a_heading(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templatetags, "WIDGET_MILLISECONDS", 30_000)  # on a busy machine as well
    shop["pink"].stock = 0
    shop["pink"].save()

    html = render(
        "{% similar_products product limit=5 in_stock=True heading='In stock' %}",
        product=shop["red"],
    )
    every = render("{% similar_products product limit=5 %}", product=shop["red"])

    assert "In stock</h2>" in html and "Similar products" not in html
    assert "/products/pink/" in every and "/products/pink/" not in html


def test_widget__hides_itself_rather_than_show_poor_matches(shop: Shop) -> None:
    checkpoint = Checkpoint.objects.get()
    checkpoint.metrics = {"calibration": {"image": {"scores": [0.0, 1.0], "matches": [0.0, 0.5]}}}
    checkpoint.save()

    html = render("{% similar_products product min_match=0.9 %}", product=shop["red"])

    assert html.strip() == ""


def test_modify_form__suggests_what_the_checkpoint_has_learned(shop: Shop) -> None:
    checkpoint = Checkpoint.objects.get()
    checkpoint.metrics = {"attributes": {"colour": ["red", "blue", "green"]}}
    checkpoint.save()

    html = render("{% visual_modify_form product %}", product=shop["red"])

    assert f"?product={shop['red'].pk}&amp;modify=in%20blue" in html
    assert "in navy" not in html, "it has not learned navy"


def test_search_form__with_and_without_a_photo(shop: Shop) -> None:
    with_photo = render("{% visual_search_form %}", csrf_token="x" * 64)
    assert 'enctype="multipart/form-data"' in with_photo and 'action="/search/"' in with_photo
    assert 'name="csrfmiddlewaretoken"' in with_photo
    for source, values in (
        ("{% visual_search_form photo=False %}", {"csrf_token": "x" * 64}),
        ("{% visual_search_form %}", {}),
    ):
        without = render(source, **values)
        assert "csrf" not in without and 'type="file"' not in without


def test_search_form__twice_on_a_page_has_different_ids(shop: Shop) -> None:
    import re

    html = render("{% visual_search_form %}{% visual_search_form %}", csrf_token="x" * 64)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) >= 6


def test_search_form__escapes_what_was_asked(shop: Shop) -> None:
    request = RequestFactory().get("/", {"q": '"><script>x</script>'})
    assert "<script>x" not in render("{% visual_search_form %}", request=request)


def test_modify_form__names_the_product(shop: Shop) -> None:
    html = render("{% visual_modify_form product %}", product=shop["red"])
    assert f'name="product" value="{shop["red"].pk}"' in html
    assert 'name="modify"' in html and 'method="get"' in html


def test_forms__work_without_a_request(shop: Shop) -> None:
    assert "search" in render("{% visual_search_form %}", request=None)
    assert "modify" in render("{% visual_modify_form product %}", request=None, product=shop["red"])


def test_forms__where_the_urls_are_missing_are_left_out_of_a_live_shop(
    shop: Shop, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ROOT_URLCONF = "visualsearch.api.urls"
    assert render("a{% visual_search_form %}b") == "ab"
    assert "visualsearch.urls" in caplog.text
