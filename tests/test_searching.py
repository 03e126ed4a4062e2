"""Searching: the four kinds of question, what visitors may see, paging, and lesser answers."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Count, Prefetch, Value
from django.test.utils import CaptureQueriesContext

from shop.models import Product, ProductImage
from tests import colour_catalogue
from tests.colour_catalogue import embed, photo, product, set_neighbours
from visualsearch import encoding
from visualsearch.exceptions import (
    EmptyQueryError,
    EncoderBusyError,
    EncoderUnavailableError,
    ImageError,
    ImageTooLargeError,
    InvalidLimitError,
    InvalidTextError,
    NoCheckpointError,
    QueryError,
    TextTooLongError,
    UnknownFilterError,
    VisualSearchError,
)
from visualsearch.models import Checkpoint, SimilarProduct
from visualsearch.queries.query import Query
from visualsearch.search import query_vector, searching
from visualsearch.tables import judgements
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

Shop = dict[str, Product]


@pytest.fixture
def checkpoint() -> Checkpoint:
    return fake_checkpoint()


@pytest.fixture
def shop(checkpoint: Checkpoint) -> Shop:
    colours = ("red", "pink", "blue", "navy", "green", "black", "white", "yellow")
    made = {colour: product(colour, colour, price=10 * n) for n, colour in enumerate(colours, 1)}
    embed(checkpoint, *made.values())
    return made


def skus(results: Any) -> list[str]:
    return [hit.product.sku for hit in results]


def selects(captured: CaptureQueriesContext) -> list[str]:
    return [q["sql"] for q in captured.captured_queries if q["sql"].startswith(("SELECT", "WITH"))]


# --- the four kinds of question -----------------------------------------------------------------


def test_text__finds_the_colour_it_names(shop: Shop, checkpoint: Checkpoint) -> None:
    results = searching.search("green")
    assert results[0].product == shop["green"]
    assert len(results) == results.total == 8
    assert (results.degraded, results.checkpoint) == (False, checkpoint.name)
    assert 0 < results[0].score <= 1


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_photo__as_bytes_or_as_file(shop: Shop, format: str) -> None:
    data = photo("blue", format=format)
    assert searching.search(image=data)[0].product == shop["blue"]
    assert searching.search(image=io.BytesIO(data))[0].product == shop["blue"]


def test_product_as_image__is_not_its_own_result(shop: Shop) -> None:
    results = searching.search(image=shop["blue"])
    assert shop["blue"].sku not in skus(results)
    assert len(results) == 7


def test_modify__changes_the_image(shop: Shop) -> None:
    assert searching.search(image=shop["red"], modify="in green")[0].product == shop["green"]
    assert searching.search(image=photo("red"), modify="in navy")[0].product == shop["navy"]


def test_text_with_image__both_count(shop: Shop) -> None:
    found = skus(searching.search("blue", image=photo("red")))
    assert set(found[:2]) == {"red", "blue"}


def test_box__looks_at_a_part_of_the_photo(shop: Shop) -> None:
    from PIL import Image

    both = Image.new("RGB", (200, 100), colour_catalogue.COLOURS["red"])
    both.paste(colour_catalogue.COLOURS["green"], (100, 0, 200, 100))
    buffer = io.BytesIO()
    both.save(buffer, "PNG")
    right = searching.search(image=buffer.getvalue(), box=(0.55, 0.0, 1.0, 1.0))
    assert right[0].product == shop["green"]


# --- similar products ---------------------------------------------------------------------------


def test_similar_to__reads_the_table_in_two_queries(shop: Shop, checkpoint: Checkpoint) -> None:
    set_neighbours(checkpoint, shop["red"], shop["navy"], shop["pink"], shop["green"])
    with CaptureQueriesContext(connection) as captured:
        results = searching.similar_to(shop["red"], limit=2)
        assert skus(results) == ["navy", "pink"]
    limits, *asked = selects(captured)
    assert "statement_timeout" in captured.captured_queries[1]["sql"] + limits
    assert len(asked) == 2, asked
    assert results.checkpoint == checkpoint.name
    assert results[0].image_url == "/media/products/navy.png"


def test_similar_to__filters_join_in_the_table(shop: Shop, checkpoint: Checkpoint) -> None:
    set_neighbours(checkpoint, shop["red"], shop["navy"], shop["pink"], shop["green"])
    cheap = Product.objects.filter(price__gte=30)
    assert skus(searching.similar_to(shop["red"], queryset=cheap, limit=2)) == ["navy", "green"]


@pytest.mark.parametrize("limit", [1, 3, 5, 8, 100])
def test_similar_to__too_few_in_the_table_are_searched_for(
    shop: Shop, checkpoint: Checkpoint, limit: int
) -> None:
    set_neighbours(checkpoint, shop["red"], shop["navy"])
    results = searching.similar_to(shop["red"], limit=limit)
    assert len(list(results)) == len(results) == min(limit, 7)
    assert "red" not in skus(results)


def test_similar_to__searched_for_by_every_photo_as_the_table_is_made(
    shop: Shop, checkpoint: Checkpoint
) -> None:
    shop["red"].colour = "green"  # what its second photo shows
    embed(checkpoint, shop["red"], position=1)
    found = list(searching.similar_to(shop["red"], limit=2))
    assert found[0].product == shop["green"]
    assert found[0].score == pytest.approx(1.0, abs=0.01)


def test_similar_to__neighbours_of_another_checkpoint_are_not_read(
    shop: Shop, checkpoint: Checkpoint
) -> None:
    retired = fake_checkpoint(live=False)
    set_neighbours(retired, shop["red"], shop["yellow"])
    assert skus(searching.similar_to(shop["red"], limit=1)) == ["black"]


def test_similar_to__not_indexed_yet_gives_its_kind_and_says_so(shop: Shop) -> None:
    new = product("new", "red")
    product("shoe", "red", category="shoes")
    results = searching.similar_to(new, limit=20)
    assert (results.degraded, results.reason, results.checkpoint) == (True, "not_indexed", None)
    assert skus(results) == list(shop)
    assert results[0].score is None


def test_similar_to__without_checkpoint_gives_its_kind_and_says_so(db: None) -> None:
    one, two = product("one"), product("two")
    results = searching.similar_to(one)
    assert ([hit.product for hit in results], results.reason) == ([two], "no_checkpoint")


def test_similar_to__without_checkpoint_asks_little_and_heeds_bans(db: None) -> None:
    one, *others = (product(f"p{number}") for number in range(12))
    product("hidden", published=False)
    product("shoe", category="shoes")
    judgements.judge(one, others[2], "ban")
    ProductImage.objects.create(product=others[0], original="a.png")
    with CaptureQueriesContext(connection) as captured:
        hits = list(searching.similar_to(one, limit=4))
        shown = [hit.image_url for hit in hits]

    assert [hit.product for hit in hits] == [others[0], others[1], others[3], others[4]]
    assert shown == ["/media/a.png", "", "", ""]
    # The neighbours that are not there, others of its kind, they themselves and their photos.
    read = [each["sql"] for each in captured if " FROM " in each["sql"]]
    assert len(read) == 4, read


def test_similar_to__deleted_products_leave_the_table(shop: Shop, checkpoint: Checkpoint) -> None:
    set_neighbours(checkpoint, shop["red"], shop["navy"], shop["pink"])
    Product.objects.filter(pk=shop["navy"].pk).delete()
    assert skus(searching.similar_to(shop["red"], limit=1)) == ["pink"]
    assert not SimilarProduct.objects.filter(target_id=shop["navy"].pk).exists()


# --- the shop's own querysets -------------------------------------------------------------------


def test_queryset__brings_its_annotations_and_relations(shop: Shop) -> None:
    ProductImage.objects.create(product=shop["green"], original="a.png")
    queryset = Product.objects.annotate(photos=Count("images"), mark=Value("x")).prefetch_related(
        Prefetch("images", queryset=ProductImage.objects.filter(position=0))
    )
    hits = searching.search("green", queryset=queryset)[:3]
    assert (hits[0].product.photos, hits[0].product.mark) == (1, "x")
    with CaptureQueriesContext(connection) as captured:
        assert len(hits[0].product.images.all()) == 1
    assert len(captured) == 0


@pytest.mark.parametrize(
    ("name", "queryset", "expected"),
    [
        ("filtered", lambda: Product.objects.filter(price__lte=30), {"red", "pink", "blue"}),
        ("sliced", lambda: Product.objects.order_by("-price")[:2], {"white", "yellow"}),
        ("distinct", lambda: Product.objects.filter(price=30).distinct(), {"blue"}),
        (
            "distinct on",
            lambda: Product.objects.order_by("category", "price").distinct("category"),
            {"red"},
        ),
        (
            "union",
            lambda: Product.objects.filter(sku="red").union(Product.objects.filter(sku="navy")),
            {"red", "navy"},
        ),
        (
            "aggregated",
            lambda: Product.objects.annotate(n=Count("images")).filter(n=0, price__lt=20),
            {"red"},
        ),
        (
            "joined",
            lambda: Product.objects.filter(images__position__lt=5),
            {"green"},
        ),
        ("empty", lambda: Product.objects.none(), set()),
        ("empty list", lambda: Product.objects.filter(pk__in=[]), set()),
    ],
)
def test_queryset__of_any_form(shop: Shop, name: str, queryset: Any, expected: set[str]) -> None:
    for position in range(3):  # a join that repeats the product
        ProductImage.objects.create(product=shop["green"], original="a.png", position=position)
    results = searching.search("green", queryset=queryset())
    assert sorted(skus(results)) == sorted(expected)
    assert results.total == len(expected)
    assert sorted(
        skus(searching.similar_to(shop["black"], queryset=queryset(), limit=8))
    ) == sorted(expected)


def test_queryset__of_something_else_is_a_type_error(shop: Shop) -> None:
    with pytest.raises(TypeError, match=r"shop\.ProductImage"):
        searching.search("green", queryset=ProductImage.objects.all())
    with pytest.raises(TypeError, match="values"):
        searching.search("green", queryset=Product.objects.values("pk"))


# --- visibility ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["text", "photo", "product", "similar", "table", "degraded"])
@pytest.mark.parametrize(
    "queryset", [None, Product.objects.all(), Product.objects.order_by("pk")[:100]]
)
def test_hidden_product__is_in_no_answer_and_no_count(
    shop: Shop, checkpoint: Checkpoint, how: str, queryset: Any
) -> None:
    if queryset is not None:
        queryset = queryset.all() if not queryset.query.is_sliced else queryset._chain()
    set_neighbours(checkpoint, shop["pink"], shop["red"], shop["navy"])
    Product.objects.filter(sku="red").update(published=False)
    if how == "degraded":
        Checkpoint.objects.update(state="retired")
    ask: dict[str, Any] = {
        "text": lambda: searching.search("red", queryset=queryset),
        "degraded": lambda: searching.search("red dress", queryset=queryset),
        "photo": lambda: searching.search(image=photo("red"), queryset=queryset),
        "product": lambda: searching.search(image=shop["pink"], queryset=queryset),
        "similar": lambda: searching.similar_to(shop["pink"], queryset=queryset, limit=20),
        "table": lambda: searching.similar_to(shop["pink"], queryset=queryset, limit=1),
    }
    results = ask[how]()
    expected = {"text": 7, "degraded": 7, "photo": 7, "product": 6, "similar": 6, "table": 1}
    assert "red" not in skus(results)
    assert results.total == len(results) == expected[how]


def test_hidden_while_paging__is_left_out(shop: Shop) -> None:
    results = searching.search("red")
    assert len(results) == 8
    Product.objects.filter(sku="red").update(published=False)
    assert len(results[:8]) == 7


def test_similar_to__where_nothing_is_trained_it_is_told_by_the_statement_that_answers(
    shop: Shop, checkpoint: Checkpoint
) -> None:
    twin = product("twin", "red", category="hats")
    other = product("other", "blue", category="hats")
    set_neighbours(checkpoint, twin, shop["green"])
    Checkpoint.objects.update(state=Checkpoint.State.RETIRED)

    first = searching.similar_to(twin)
    with CaptureQueriesContext(connection) as captured:
        again = searching.similar_to(twin)
        assert skus(again) == skus(first) == [other.sku]
    assert not any("visualsearch_similarproduct" in sql for sql in selects(captured))

    Checkpoint.objects.update(state=Checkpoint.State.LIVE)
    assert skus(searching.similar_to(twin, limit=1)) == ["green"]
    with CaptureQueriesContext(connection) as captured:
        assert skus(searching.similar_to(twin, limit=1)) == ["green"]
    assert "visualsearch_similarproduct" in selects(captured)[1], "asked first again"


# --- results ------------------------------------------------------------------------------------


def test_results__are_lazy(shop: Shop) -> None:
    results = searching.search("green")
    with CaptureQueriesContext(connection) as captured:
        len(results)
        assert skus(results[:3])[0] == "green"
        assert results[0].product.sku == "green"
    loads = [sql for sql in selects(captured) if sql.startswith('SELECT "shop_product"."id", ')]
    assert len(loads) == 1


def test_results__work_with_djangos_paginator(checkpoint: Checkpoint) -> None:
    made = [product(f"p{n}", "red") for n in range(45)]
    embed(checkpoint, *made)
    paginator = Paginator(searching.search("red"), 10)
    assert (paginator.count, paginator.num_pages) == (45, 5)
    pages = [hit.product.pk for page in paginator for hit in page]
    assert pages == [each.pk for each in made], "equal scores: in the order of the keys"


def test_results__slices_like_a_list(shop: Shop) -> None:
    results = searching.search("green", limit=5)
    everything = list(results)
    assert len(everything) == len(results) == 5
    assert results[-1] == everything[-1]
    assert results[1:3] == everything[1:3]
    assert results[::2] == everything[::2]
    assert results[3:1] == results[50:60] == []
    with pytest.raises(IndexError):
        results[5]


def test_several_photos__one_hit(shop: Shop, checkpoint: Checkpoint) -> None:
    for position in (1, 2):
        embed(checkpoint, shop["red"], position=position)
    found = skus(searching.search(image=photo("red")))
    assert found[0] == "red"
    assert len(found) == len(set(found)) == 8


# --- lesser answers -----------------------------------------------------------------------------


def test_text_without_checkpoint__is_answered_by_words(db: None) -> None:
    red, blue = product("r", "red"), product("b", "blue", description="with a red belt")
    product("g", "green", name="green scarf", category="scarves")
    results = searching.search("red dress")
    assert (results.degraded, results.reason, results.checkpoint) == (True, "no_checkpoint", None)
    assert {hit.product for hit in results} == {red, blue}
    assert skus(searching.search("nothing-like-that scarf")) == ["g"], "any of the words"
    assert skus(searching.search("scar")) == ["g"], "a part of a word"
    assert skus(searching.search("qqqq")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dresses", {"r", "b"}),
        ("the red dress", {"r", "b"}),
        ("dress -belt", {"r"}),
        ('"red dress"', {"r"}),
        ("scarf or belt", {"b", "g"}),
        ("berries", {"g"}),
        ("red t-shirt", {"r", "b"}),
    ],
)
def test_text_without_checkpoint__words_in_other_forms_and_operators(
    db: None, text: str, expected: set[str]
) -> None:
    product("r", "red")
    product("b", "blue", description="with a red belt")
    product("g", "green", name="green scarf", description="a berry on it", category="scarves")
    assert set(skus(searching.search(text))) == expected


@pytest.mark.parametrize(
    "text", ["'\"\\ & | ! ( ) :* <->", "%_%", "🙂", "a" * 256, "-", "💥 " * 60]
)
def test_text_without_checkpoint__hostile_words_are_no_error(db: None, text: str) -> None:
    product("r", "red")
    assert list(searching.search(text)) == []


def test_text_with_broken_encoder__is_answered_by_words(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise EncoderUnavailableError("no such file: train again.")

    monkeypatch.setattr(encoding, "encode_query_text", broken)
    results = searching.search("green")
    assert (skus(results), results.reason) == (["green"], "encoder_unavailable")


def test_strength__leads_from_the_image_to_the_change_and_beyond(
    shop: Shop, checkpoint: Checkpoint
) -> None:
    def likeness(strength: float) -> float:
        """How much what is looked for still resembles the image that was given."""
        query = Query.of(image=shop["red"], modify="in green", strength=strength)
        return float(query_vector.encode(query, checkpoint).vector @ image)

    image = query_vector.encode(Query.of(image=shop["red"]), checkpoint).vector[0]
    assert likeness(0) == pytest.approx(1, abs=1e-3)
    assert 1 > likeness(0.5) > likeness(1) > likeness(1.5) > likeness(2)
    best = [searching.search(image=shop["red"], modify="in green", strength=s)[0] for s in (0, 1)]
    assert best[0].product != shop["green"] and best[1].product == shop["green"]


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), "1", True])
def test_strength__is_a_number_from_0_to_2(shop: Shop, strength: Any) -> None:
    with pytest.raises(QueryError, match="from 0 to 2") as refused:
        searching.search(image=shop["red"], modify="in green", strength=strength)
    assert refused.value.field == "strength"


def test_strength__of_nothing_is_refused(shop: Shop) -> None:
    with pytest.raises(QueryError, match="no change"):
        searching.search(image=shop["red"], strength=0.5)


def test_modify_with_broken_encoder__searches_by_the_image_and_says_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise EncoderUnavailableError("reads no text.")

    monkeypatch.setattr(encoding, "compose_query", broken)
    results = searching.search(image=shop["red"], modify="in green")
    assert (skus(results)[0], results.reason) == ("black", "encoder_unavailable")


def test_modify_without_checkpoint__words_among_its_kind(db: None) -> None:
    red = product("r", "red")
    product("g", "green")
    product("scarf", "green", category="scarves")
    results = searching.search(image=red, modify="green")
    assert (skus(results), results.degraded) == (["g"], True)


def test_photo_without_checkpoint__is_an_error_that_says_what_to_do(db: None) -> None:
    with pytest.raises(NoCheckpointError, match="by words"):
        searching.search(image=photo())


def test_busy_encoder__words_are_answered_without_it_and_photos_are_told_to_wait(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*args: Any, **kwargs: Any) -> Any:
        raise EncoderBusyError("try again.")

    monkeypatch.setattr(encoding, "encode_query_text", busy)
    monkeypatch.setattr(encoding, "encode_query_image", busy)
    results = searching.search("green")
    assert (skus(results), results.reason) == (["green"], "encoder_busy")
    with pytest.raises(EncoderBusyError):
        searching.search(image=photo("green"))


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, EmptyQueryError),
        ({"text": " \t\n "}, EmptyQueryError),
        ({"text": "x" * 257}, TextTooLongError),
        ({"text": "a\x00b"}, InvalidTextError),
        ({"text": "a\ud800b"}, InvalidTextError),
        ({"text": 5}, InvalidTextError),
        ({"text": "x", "modify": "in red"}, QueryError),
        ({"text": "x", "box": (0, 0, 1, 1)}, QueryError),
        ({"text": "x", "limit": 0}, InvalidLimitError),
        ({"text": "x", "limit": 10**9}, InvalidLimitError),
        ({"text": "x", "limit": float("nan")}, InvalidLimitError),
        ({"text": "x", "limit": True}, InvalidLimitError),
        ({"text": "x", "limit": "5"}, InvalidLimitError),
        ({"text": "x", "filters": {"stock": 5}}, UnknownFilterError),
        ({"image": b""}, ImageError),
        ({"image": b"not an image at all"}, ImageError),
        ({"image": b"x" * (8 * 1024 * 1024 + 1)}, ImageTooLargeError),
        ({"image": photo(), "box": (0, 0, float("nan"), 1)}, QueryError),
        ({"image": photo(), "box": "abcd"}, QueryError),
        ({"image": photo(), "box": (0.5, 0.5, 0.5, 0.5)}, QueryError),
    ],
)
def test_bad_input__has_its_own_error(
    shop: Shop, arguments: dict[str, Any], error: type[VisualSearchError]
) -> None:
    with pytest.raises(error) as caught:
        searching.search(**arguments)
    assert caught.value.status < 500
    assert caught.value.message


def test_text__is_normalised(shop: Shop) -> None:
    assert searching.search("  gre\u0065n \n dress ")[0].product == shop["green"]


def test_image_of_a_wrong_type__is_a_type_error(shop: Shop) -> None:
    for image in (ProductImage(), "path.png", io.StringIO("x")):
        with pytest.raises(TypeError):
            searching.search(image=image)


def test_empty_shop__answers_with_nothing(checkpoint: Checkpoint) -> None:
    assert list(searching.search("red")) == list(searching.search(image=photo())) == []


def test_web_process__never_imports_torch() -> None:
    script = (
        "import sys, django; django.setup()\n"
        "import visualsearch.views, visualsearch.api.urls, visualsearch.search.searching\n"
        "import visualsearch.templatetags.visualsearch, shop.urls, shop.wsgi\n"
        "loaded = {'torch', 'torchvision', 'onnx'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parent.parent,
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
