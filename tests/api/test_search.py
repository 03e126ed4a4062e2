"""The REST API: its answers, its errors as problem+json, and what a stranger may learn."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from shop.models import Product
from tests.colour_catalogue import embed, photo, product, set_neighbours
from visualsearch import encoding, throttling
from visualsearch.exceptions import EncoderBusyError
from visualsearch.models import Checkpoint
from visualsearch.testing import fake_checkpoint

SEARCH = "/api/search/"
Shop = dict[str, Product]


@pytest.fixture(autouse=True)
def _no_throttle(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}


@pytest.fixture
def shop(db: None) -> Shop:
    checkpoint = fake_checkpoint()
    made = {c: product(c, c) for c in ("red", "pink", "blue", "navy", "green", "black")}
    embed(checkpoint, *made.values())
    return made


def post(client: Client, body: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(SEARCH, data, content_type="application/json")


def upload(data: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile("photo.png", data, content_type="image/png")


def best(response: Any) -> str:
    assert response.status_code == 200, response.content
    return Product.objects.get(pk=response.json()["hits"][0]["id"]).sku


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["detail"] and body["title"] and body["type"]
    return body


# --- answers ------------------------------------------------------------------------------------


def test_answer__has_the_documented_shape(client: Client, shop: Shop) -> None:
    body = client.get(SEARCH, {"q": "green", "limit": 2}).json()
    assert body.pop("processing_time_ms") >= 0
    first, second = body.pop("hits")
    assert body.pop("query_id").startswith("q_")
    assert body == {
        "total": {"value": 6, "relation": "eq"},
        "answering": {"value": 1, "relation": "eq"},
        "facets": {},
        "facet_stats": {},
        "facet_scope": "filter",
        "understood": {},
        "image_token": None,
        "checkpoint": Checkpoint.objects.get().name,
        "degraded": False,
        "degraded_reason": None,
    }
    assert first["id"] == shop["green"].pk and 1 >= first["score"] > second["score"]
    assert first["image"] == {
        "url": "http://testserver/media/products/green.png",
        "position": 0,
    }
    assert first["product"] == {
        "title": "green dress",
        "url": "http://testserver/products/green/",
        "price": "20.00",
        "label": "dresses",
    }


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/xml", "garbage"])
def test_answer__is_json_whatever_the_client_prefers(
    client: Client, shop: Shop, accept: str
) -> None:
    response = client.get(SEARCH, {"q": "green"}, HTTP_ACCEPT=accept)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


def test_every_kind_of_question(client: Client, shop: Shop) -> None:
    red, encoded = shop["red"].pk, base64.b64encode(photo("blue")).decode()
    assert best(post(client, {"q": "green"})) == "green"
    assert best(post(client, {"image": {"product": red}, "modify": "in green"})) == "green"
    assert best(post(client, {"image": {"product": str(red)}, "modify": "in navy"})) == "navy"
    assert best(post(client, {"image": {"base64": encoded}})) == "blue"
    assert best(post(client, {"image": {"base64": f"data:image/png;base64,{encoded}"}})) == "blue"
    assert best(post(client, {"image": {"base64": encoded, "box": [0, 0, 0.5, 1]}})) == "blue"
    assert best(client.post(SEARCH, {"image": upload(photo("blue"))})) == "blue"
    assert best(client.post(SEARCH, {"image": upload(photo("red")), "modify": "green"})) == "green"
    assert best(client.post(SEARCH, {"product": red, "modify": "in green"})) == "green"
    assert best(client.get(SEARCH, {"product": red, "modify": "in green"})) == "green"


def test_strength__in_json_and_as_a_parameter(client: Client, shop: dict[str, Product]) -> None:
    red = shop["red"].pk
    as_it_is = best(post(client, {"image": {"product": red}}))
    asked = {"image": {"product": red}, "modify": "in green"}
    assert best(post(client, asked | {"strength": 0})) == as_it_is != "green"
    assert (
        best(client.get(SEARCH, {"product": red, "modify": "in green", "strength": "0"}))
        == as_it_is
    )
    for wrong in ({**asked, "strength": 3}, {"image": {"product": red}, "strength": 1}):
        refused = post(client, wrong)
        assert refused.status_code == 400 and refused.json()["field"] == "strength"


def test_filters__in_every_notation(client: Client, shop: Shop) -> None:
    Product.objects.filter(sku="navy").update(price=99)
    expected = [shop["navy"].pk]
    for response in (
        post(client, {"q": "red", "filter": {"price__gt": 50}}),
        client.get(SEARCH, {"q": "red", "price__gt": "50"}),
        client.get(SEARCH, {"q": "red", "filter": '{"price__gt": 50}'}),
        client.post(SEARCH, {"image": upload(photo()), "price__gt": "50"}),
        client.get(f"/api/products/{shop['red'].pk}/similar/", {"price__gt": "50"}),
    ):
        assert [hit["id"] for hit in response.json()["hits"]] == expected, response.content
    two = client.get(f"{SEARCH}?q=red&colour=navy&colour=blue").json()
    assert two["total"]["value"] == 2


def test_pages__show_every_hit_once(client: Client, shop: Shop) -> None:
    made = [product(f"n{n}", "red") for n in range(45)]
    embed(Checkpoint.objects.get(), *made)
    seen = [
        hit["id"]
        for offset in range(0, 60, 7)
        for hit in post(client, {"q": "red", "limit": 7, "offset": offset}).json()["hits"]
    ]
    assert sorted(seen) == sorted(Product.objects.values_list("pk", flat=True))


def test_similar__from_the_table(client: Client, shop: Shop) -> None:
    set_neighbours(Checkpoint.objects.get(), shop["red"], shop["navy"], shop["pink"])
    body = client.get(f"/api/products/{shop['red'].pk}/similar/", {"limit": 2}).json()
    assert [hit["id"] for hit in body["hits"]] == [shop["navy"].pk, shop["pink"].pk]
    assert body["total"] == {"value": 2, "relation": "gte"}


@pytest.mark.parametrize("filters", [{}, {"price__gte": "0"}], ids=["all", "filtered"])
def test_similar__of_a_hidden_product_is_as_of_none_however_many_are_stored(
    client: Client, shop: Shop, filters: dict[str, str]
) -> None:
    set_neighbours(Checkpoint.objects.get(), shop["red"], shop["navy"], shop["pink"])
    address = f"/api/products/{shop['red'].pk}/similar/"
    Product.objects.filter(pk=shop["red"].pk).update(published=False)
    for limit in (1, 2, 5):
        response = client.get(address, {"limit": limit} | filters)
        assert_problem(response, 404, "unknown_product")


def test_similar__of_a_product_that_the_filters_leave_out(client: Client, shop: Shop) -> None:
    set_neighbours(Checkpoint.objects.get(), shop["red"], shop["navy"], shop["pink"])
    Product.objects.filter(sku="navy").update(price=99)
    asked = {"limit": 1, "price__gt": "50"}
    body = client.get(f"/api/products/{shop['red'].pk}/similar/", asked).json()
    assert [hit["id"] for hit in body["hits"]] == [shop["navy"].pk]


def test_similar__reads_the_table_and_the_products_and_nothing_else(
    client: Client, shop: Shop
) -> None:
    set_neighbours(Checkpoint.objects.get(), shop["red"], shop["navy"], shop["pink"])
    with CaptureQueriesContext(connection) as captured:
        client.get(f"/api/products/{shop['red'].pk}/similar/", {"limit": 2})
    statements = [
        query["sql"]
        for query in captured.captured_queries
        if query["sql"].startswith(("WITH", "SELECT")) and "set_config" not in query["sql"]
    ]
    assert len(statements) == 2, statements


@pytest.mark.parametrize("name", ["q", "product", "modify", "box", "offset"])
def test_similar__what_it_does_not_read_is_refused_not_ignored(
    client: Client, shop: Shop, name: str
) -> None:
    response = client.get(f"/api/products/{shop['red'].pk}/similar/", {name: "[0]"})
    assert_problem(response, 400, "unknown_filter")


def test_photo_and_product__one_is_not_silently_dropped(client: Client, shop: Shop) -> None:
    both = {"image": upload(photo()), "product": shop["red"].pk}
    assert_problem(client.post(SEARCH, both), 400, "invalid_query")


def test_degraded__says_so(client: Client, db: None) -> None:
    made = product("r", "red")
    body = client.get(SEARCH, {"q": "red"}).json()
    assert (body["degraded"], body["degraded_reason"]) == (True, "no_checkpoint")
    assert (body["checkpoint"], body["hits"][0]["score"]) == (None, None)
    assert body["hits"][0]["id"] == made.pk


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 400, "empty_query", None),
        ({"q": ""}, 400, "empty_query", None),
        ({"q": "x" * 257}, 400, "text_too_long", "q"),
        ({"q": "a\x00"}, 400, "invalid_text", "q"),
        ({"q": "a\ud800"}, 400, "invalid_text", "q"),
        ({"q": 5}, 400, "invalid_text", "q"),
        ({"q": ["x"]}, 400, "invalid_text", "q"),
        ({"q": "x", "modify": "y"}, 400, "invalid_query", "modify"),
        ({"q": "x", "unknown": 1}, 400, "invalid_query", "unknown"),
        ({"q": "x", "limit": 0}, 400, "invalid_limit", "limit"),
        ({"q": "x", "limit": 1e9}, 400, "invalid_limit", "limit"),
        ({"q": "x", "limit": 10**30}, 400, "invalid_limit", "limit"),
        ({"q": "x", "limit": None}, 400, "invalid_limit", "limit"),
        ({"q": "x", "limit": True}, 400, "invalid_limit", "limit"),
        ({"q": "x", "limit": "20"}, 400, "invalid_limit", "limit"),
        ({"q": "x", "offset": 1001}, 400, "invalid_limit", "offset"),
        ({"q": "x", "offset": -1}, 400, "invalid_limit", "offset"),
        ({"q": "x", "filter": {"stock": 1}}, 400, "unknown_filter", "filter"),
        ({"q": "x", "filter": {"price": "x"}}, 400, "invalid_filter", "price"),
        ({"q": "x", "filter": []}, 400, "invalid_filter", "filter"),
        ({"q": "x", "filter": 0}, 400, "invalid_filter", "filter"),
        ({"q": "x", "filter": {str(n): 1 for n in range(10_000)}}, 400, "invalid_filter", "filter"),
        ({"image": "x"}, 400, "invalid_query", "image"),
        ({"image": {"url": "http://169.254.169.254/"}}, 400, "image_url", "image"),
        ({"image": {"box": [0, 0, 1, 1]}}, 400, "invalid_query", "image"),
        ({"image": {"base64": "!!"}}, 400, "image_format", "image"),
        ({"image": {"base64": 5}}, 400, "image_format", "image"),
        ({"image": {"base64": ""}}, 400, "image_format", "image"),
        ({"image": {"base64": "aGVsbG8="}}, 400, "image_format", "image"),
        ({"image": {"product": 1, "base64": ""}}, 400, "invalid_query", "image"),
        ({"image": {"product": True}}, 404, "unknown_product", "product"),
        ({"image": {"product": {}}}, 404, "unknown_product", "product"),
        ({"image": {"product": 10**40}}, 404, "unknown_product", "product"),
        ({"image": {"product": 1.5}}, 404, "unknown_product", "product"),
        ({"image": {"product": "a\x00"}}, 404, "unknown_product", "product"),
        (b"[1]", 400, "parse_error", None),
        (b"{", 400, "parse_error", None),
        (b'{"q": NaN}', 400, "parse_error", None),
        (b"\xff\xfe", 400, "parse_error", None),
        (b"[" * 200_000, 400, "parse_error", None),
        (b"", 400, "empty_query", None),
    ],
)
def test_bad_json__is_a_problem_that_names_the_field(
    client: Client, shop: Shop, body: Any, status: int, code: str, field: str | None
) -> None:
    assert assert_problem(post(client, body), status, code).get("field") == field


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 400, "empty_query"),
        ({"image": "text"}, 400, "empty_query"),
        ({"image": b"no image"}, 400, "image_format"),
        ({"image": photo()[:60]}, 400, None),
        ({"image": b"x" * (9 * 1024 * 1024)}, 413, "image_too_large"),
        ({"image": b"x" * (30 * 1024 * 1024)}, 413, "image_too_large"),
        ({"image": [photo(), photo()]}, 400, "too_many_files"),
        ({"other": photo()}, 400, "too_many_files"),
        ({"image": photo(), "modify": "x" * 257}, 400, "text_too_long"),
        ({"image": photo(), "limit": "x"}, 400, "invalid_limit"),
        ({"image": photo(), "limit": "1e9"}, 400, "invalid_limit"),
        ({"image": photo(), "box": "[1,"}, 400, "invalid_query"),
        ({"image": photo(), "box": "[2, 2, 3, 3]"}, 400, "invalid_query"),
        ({"image": photo(), "foo": "x"}, 400, "unknown_filter"),
    ],
)
def test_bad_upload__is_a_problem(
    client: Client, shop: Shop, fields: dict[str, Any], status: int, code: str | None
) -> None:
    def as_file(value: Any) -> Any:
        if isinstance(value, list):
            return [as_file(each) for each in value]
        return upload(value) if isinstance(value, bytes) else value

    response = client.post(SEARCH, {name: as_file(value) for name, value in fields.items()})
    assert_problem(response, status, code or response.json()["code"])


def test_large_json__is_not_read_whole(client: Client, shop: Shop) -> None:
    large = {"image": {"base64": "A" * (12 * 1024 * 1024)}}
    assert_problem(post(client, large), 413, "image_too_large")


def test_upload_when_signed_in__is_capped_before_the_token_is_looked_for(
    shop: Shop, django_user_model: type[User]
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(django_user_model.objects.create_user("kim"))
    assert_problem(client.post(SEARCH, {"image": upload(photo())}), 403, "permission_denied")
    client = Client()
    client.force_login(django_user_model.objects.get())
    assert best(client.post(SEARCH, {"image": upload(photo("blue"))})) == "blue"
    too_large = client.post(SEARCH, {"image": upload(b"x" * (9 * 1024 * 1024))})
    assert_problem(too_large, 413, "image_too_large")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 415),
        ("application/json; charset=nonsense", 400),
        ("multipart/form-data", 400),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_other_content_types__are_problems(
    client: Client, shop: Shop, content_type: str, status: int
) -> None:
    response = client.generic("POST", SEARCH, b"x=1", content_type)
    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")


def test_other_methods__are_problems(client: Client, shop: Shop) -> None:
    for method in (client.put, client.delete, client.patch):
        assert_problem(method(SEARCH), 405, "method_not_allowed")


HOSTILE = ["'; DROP TABLE shop_product; --", "%s %(a)s", "<script>", "\\x00", "🙂\u202e", "null"]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "name", ["q", "modify", "product", "limit", "offset", "filter", "category", "price__lt", "zzz"]
)
def test_hostile_strings__in_every_parameter(
    client: Client, shop: Shop, name: str, value: str
) -> None:
    for response in (
        client.get(SEARCH, {"q": "red"} | {name: value}),
        client.get(SEARCH, {"q": "red", name + value: "1"}),
        client.post(SEARCH, {"image": upload(photo()), name: value}),
        client.get(f"/api/products/{shop['red'].pk}/similar/", {name: value}),
    ):
        assert response.status_code < 500, response.content
    assert Product.objects.count() == 6


@pytest.mark.parametrize("key", ["x", "0", "-1", "9" * 30, "1.0", "%00", "1%20OR%201=1", "٣"])
def test_similar__of_no_product(client: Client, shop: Shop, key: str) -> None:
    assert_problem(client.get(f"/api/products/{key}/similar/"), 404, "unknown_product")


def test_busy__is_a_503_with_retry_after(
    client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*args: Any, **kwargs: Any) -> Any:
        raise EncoderBusyError("try again.")

    monkeypatch.setattr(encoding, "encode_query_image", busy)
    response = client.post(SEARCH, {"image": upload(photo())})
    assert_problem(response, 503, "encoder_busy")
    assert int(response["Retry-After"]) > 0


def test_photo_without_checkpoint__is_a_503(client: Client, db: None) -> None:
    response = client.post(SEARCH, {"image": upload(photo())})
    assert_problem(response, 503, "no_checkpoint")
    assert response["Retry-After"]


# --- who may see what ---------------------------------------------------------------------------


@pytest.mark.parametrize("staff", [False, True])
def test_hidden_and_unknown_product__answer_alike(
    client: Client, shop: Shop, staff: bool, django_user_model: type[User]
) -> None:
    if staff:
        client.force_login(django_user_model.objects.create_superuser("boss"))
    hidden, unknown = shop["red"].pk, 10**9
    Product.objects.filter(pk=hidden).update(published=False)

    def answers(key: int) -> list[str]:
        responses = (
            client.get(f"/api/products/{key}/similar/"),
            client.get(SEARCH, {"product": key}),
            post(client, {"image": {"product": key}, "modify": "in blue"}),
        )
        for response in responses:
            assert_problem(response, 404, "unknown_product")
        return [response.content.decode().replace(str(key), "KEY") for response in responses]

    assert answers(hidden) == answers(unknown)


def test_hidden_product__is_in_no_hits_and_no_total(client: Client, shop: Shop) -> None:
    set_neighbours(Checkpoint.objects.get(), shop["pink"], shop["red"], shop["navy"])
    Product.objects.filter(sku="red").update(published=False)
    for response in (
        client.get(SEARCH, {"q": "red"}),
        client.get(SEARCH, {"q": "red", "colour": "red"}),
        client.post(SEARCH, {"image": upload(photo("red"))}),
        client.get(f"/api/products/{shop['pink'].pk}/similar/"),
    ):
        body = response.json()
        assert shop["red"].pk not in [hit["id"] for hit in body["hits"]]
        assert body["total"]["value"] == len(body["hits"])


def test_permissions__are_the_projects(
    client: Client, shop: Shop, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rest_framework.permissions import IsAuthenticated

    from visualsearch.api.views import SearchView

    monkeypatch.setattr(SearchView, "permission_classes", [IsAuthenticated])
    assert_problem(client.get(SEARCH, {"q": "red"}), 403, "not_authenticated")


# --- throttles ----------------------------------------------------------------------------------


def test_throttle__counts_exactly_when_fifty_come_at_once(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {"search": "10/day"}}
    cache.clear()
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1")
    admitted: list[bool] = []
    start = threading.Barrier(50)

    def ask() -> None:
        start.wait()
        try:
            throttling.check(request, "search")
            admitted.append(True)
        except throttling.TooManyRequestsError:
            admitted.append(False)

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (admitted.count(True), len(admitted)) == (10, 50)


def test_throttle__is_a_429_with_the_wait_and_scopes_are_apart(
    client: Client, shop: Shop, settings: Any
) -> None:
    rates = {"search": "2/hour", "similar": "3/hour"}
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": rates}
    cache.clear()
    similar = f"/api/products/{shop['red'].pk}/similar/"
    assert [client.get(SEARCH, {"q": "red"}).status_code for _ in "abc"] == [200, 200, 429]
    assert [client.get(similar).status_code for _ in "abcd"] == [200, 200, 200, 429]
    response = client.get(SEARCH, {"q": "red"})
    assert_problem(response, 429, "throttled")
    assert 0 < int(response["Retry-After"]) <= 3601
    spoofed = client.get(SEARCH, {"q": "red"}, HTTP_X_FORWARDED_FOR="9.9.9.9")
    assert spoofed.status_code == 429, "a header that anybody can send must not help"
    assert client.get(SEARCH, {"q": "red"}, REMOTE_ADDR="8.8.8.8").status_code == 200


def test_throttle__a_broken_cache_lets_everybody_in(
    client: Client, shop: Shop, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no cache")

    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {"search": "1/day"}}
    monkeypatch.setattr(throttling.cache, "add", broken)
    assert [client.get(SEARCH, {"q": "red"}).status_code for _ in "ab"] == [200, 200]


# --- health and schema --------------------------------------------------------------------------


def test_health__untrained_ok_and_down(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/api/health/").json() == {"status": "untrained"}
    fake_checkpoint()
    assert client.get("/api/health/").json() == {"status": "ok"}

    def down() -> Any:
        raise DatabaseError("gone")

    monkeypatch.setattr(Checkpoint.objects, "live", down)
    response = client.get("/api/health/")
    assert (response.status_code, response.json()) == (503, {"status": "down"})
