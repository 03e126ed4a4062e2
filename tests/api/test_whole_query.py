"""Everything that one request may hold, over HTTP: mixed, refused by name, exact with its tokens and events."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from shop.models import Product
from tests.colour_catalogue import embed, photo, product, set_neighbours
from visualsearch.models import Checkpoint, SearchEvent
from visualsearch.queries import query_ids
from visualsearch.search import events
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

SEARCH, RECOMMEND, EVENTS = "/api/search/", "/api/recommend/", "/api/events/"
CURVE = {"scores": [-1.0, 0.0, 1.0], "matches": [0.0, 0.2, 1.0]}
COLOURS = ("red", "pink", "blue", "navy", "green", "black")
Shop = dict[str, Product]


@pytest.fixture(autouse=True)
def _no_throttle(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}


@pytest.fixture
def shop() -> Shop:
    checkpoint = fake_checkpoint(
        metrics={
            "calibration": {kind: CURVE for kind in ("image", "text", "composed")},
            "attributes": {"colour": list(COLOURS), "pattern": ["dots"]},
        }
    )
    made = {c: product(c, c, price=10 * n, pattern="dots") for n, c in enumerate(COLOURS, 1)}
    embed(checkpoint, *made.values())
    return made


def post(client: Client, url: str, body: Any, **extra: Any) -> Any:
    return client.post(url, json.dumps(body), content_type="application/json", **extra)


def skus(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    ids = [hit["id"] for hit in response.json()["hits"]]
    by_key = {each.pk: each.sku for each in Product.objects.all()}
    return [by_key[key] for key in ids]


def problem(response: Any, status: int, code: str, field: str | None = None) -> None:
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    if field is not None:
        assert body["field"] == field, body


# --- answers ------------------------------------------------------------------------------------


def test_everything__in_one_request(client: Client, shop: Shop) -> None:
    body = {
        "q": {"navy": 1, "green": -0.2},
        "image": {"product": shop["red"].pk},
        "modify": "in blue",
        "positive": [{"id": shop["black"].pk, "weight": 0.2}],
        "negative": [shop["pink"].pk],
        "hybrid": {"semantic_ratio": 0.8},
        "filter": {"price__gte": 20},
        "facets": ["colour", "price"],
        "diversity": {"mmr": 0.1, "max_per": {"colour": 1}},
        "min_match": 0.05,
        "limit": 2,
        "explain": True,
    }
    response = post(client, SEARCH, body)
    assert skus(response)[0] in ("navy", "blue")
    answer = response.json()
    assert answer["facets"]["colour"] == [
        {"value": "blue", "count": 1},
        {"value": "green", "count": 1},
        {"value": "navy", "count": 1},
    ]
    assert answer["facet_stats"] == {"price": {"min": "30.00", "max": "50.00"}}
    assert {"red", "pink", "black"}.isdisjoint(skus(response))
    hit = answer["hits"][0]
    fields = [part["field"] for part in hit["explanation"]["parts"]]
    assert fields == ["image", "positive", "negative", "q", "q"]
    assert sum(part["adds"] for part in hit["explanation"]["parts"]) == pytest.approx(
        hit["score"], abs=3e-3
    )
    assert 0 <= hit["match"] <= 1
    assert (answer["degraded"], answer["facet_scope"]) == (False, "filter")


def test_query_string__says_the_same(client: Client, shop: Shop) -> None:
    asked = {
        "q": "dress under 45",
        "positive": f"{shop['navy'].pk},{shop['blue'].pk}",
        "negative": json.dumps([shop["red"].pk]),
        "facets": "colour",
        "diversity": "true",
        "collapse": "duplicates",
        "hybrid": "0.5",
        "min_match": "0.01",
        "explain": "true",
    }
    response = client.get(SEARCH, asked)
    assert skus(response) == ["pink"]
    assert response.json()["understood"] == {"price__lt": "45"}
    assert "explanation" in response.json()["hits"][0]


def test_recommend__positive_and_negative(client: Client, shop: Shop) -> None:
    response = post(
        client, RECOMMEND, {"positive": [shop["blue"].pk], "negative": [shop["red"].pk]}
    )
    found = skus(response)
    assert found[0] in ("navy", "black") and found[-1] == "pink"
    problem(post(client, RECOMMEND, {}), 400, "invalid_query", "positive")
    problem(post(client, RECOMMEND, {"negative": [shop["red"].pk]}), 400, "invalid_query")
    problem(post(client, RECOMMEND, {"positive": [1], "q": "x"}), 400, "invalid_query", "q")


def test_token__pages_through_the_results_of_a_photo(client: Client, shop: Shop) -> None:
    upload = SimpleUploadedFile("a.png", photo("green"), "image/png")
    first = client.post(SEARCH, {"image": upload, "limit": 2})
    token = first.json()["image_token"]
    second = post(client, SEARCH, {"image": {"token": token}, "limit": 2, "offset": 2})
    third = client.get(SEARCH, {"token": token, "limit": 2, "offset": 4})
    assert sorted(skus(first) + skus(second) + skus(third)) == sorted(COLOURS)
    changed = client.get(SEARCH, {"token": token, "modify": "in red"})
    assert skus(changed)[0] == "red"
    problem(client.get(SEARCH, {"token": token[:-3]}), 400, "photo_token", "image")
    fake_checkpoint()
    problem(client.get(SEARCH, {"token": token}), 400, "photo_token", "image")


def test_photo__nothing_of_it_is_kept(client: Client, shop: Shop, data_folder: Any) -> None:
    from django.apps import apps

    def everything() -> Any:
        rows = {model: model._base_manager.count() for model in apps.get_models()}
        return rows, sorted(data_folder.rglob("*")), sorted(cache._cache)  # type: ignore[attr-defined]

    before = everything()
    for _ in range(5):
        upload = SimpleUploadedFile("a.png", photo("green"), "image/png")
        assert client.post(SEARCH, {"image": upload}).status_code == 200
    assert everything() == before


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"q": {"red": 100}}, "q"),
        ({"q": {"red": None}}, "q"),
        ({"q": {}}, "q"),
        ({"q": {str(n): 1 for n in range(9)}}, "q"),
        ({"positive": 5}, "positive"),
        ({"positive": [{"weight": 1}]}, "positive"),
        ({"positive": [{"id": 1, "w": 1}]}, "w"),
        ({"positive": list(range(21))}, "positive"),
        ({"q": "x", "facets": "colour"}, "facets"),
        ({"q": "x", "facets": ["stock"]}, "facets"),
        ({"q": "x", "explain": "perhaps"}, "explain"),
        ({"q": "x", "explain": 1}, "explain"),
        ({"q": "x", "hybrid": []}, "hybrid"),
        ({"q": "x", "min_match": "high"}, "min_match"),
        ({"q": "x", "diversity": {"lambda": 1}}, "diversity"),
        ({"q": "x", "collapse": "all"}, "collapse"),
        ({"image": {"token": "x"}}, "image"),
        ({"image": {"token": 5}}, "image"),
        ({"image": {"url": 5}}, "image"),
        ({"image": {"url": "x"}}, "image"),
        ({"image": {"url": "https://example.com/a.png"}}, "image"),
        ({"image": {"token": "im_x", "product": 1}}, "image"),
    ],
    ids=str,
)
def test_refusals__name_the_field(client: Client, shop: Shop, body: Any, field: str) -> None:
    response = post(client, SEARCH, body)
    assert response.status_code == 400, response.content
    assert response.json()["field"] == field


def test_nan__is_not_json(client: Client, shop: Shop) -> None:
    for text in ('{"q": {"red": NaN}}', '{"q": "x", "min_match": Infinity}'):
        response = client.post(SEARCH, text, content_type="application/json")
        problem(response, 400, "parse_error")
    problem(post(client, SEARCH, {"q": {"red": 1e400}}), 400, "parse_error")
    huge = client.post(SEARCH, '{"q": {"red": 1e400}}', content_type="application/json")
    problem(huge, 400, "invalid_query", "q")


# --- similar products ---------------------------------------------------------------------------


def test_etag__saves_sending_what_the_browser_has(client: Client, shop: Shop) -> None:
    set_neighbours(Checkpoint.objects.get(), shop["red"], shop["navy"], shop["pink"])
    url = f"/api/products/{shop['red'].pk}/similar/?limit=2"
    first = client.get(url)
    assert first["Cache-Control"] == "private, no-cache"
    assert "Cookie" in first["Vary"]
    again = client.get(url, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    weak = client.get(url, headers={"If-None-Match": f'"x", W/{first["ETag"]}'})
    assert weak.status_code == 304
    Product.objects.filter(sku="navy").update(price=1)
    assert client.get(url, headers={"If-None-Match": first["ETag"]}).status_code == 200
    Product.objects.filter(sku="pink").update(published=False)
    changed = client.get(url, headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200 and "pink" not in skus(changed)


def test_similar__min_match_and_fallback(client: Client, shop: Shop) -> None:
    set_neighbours(Checkpoint.objects.get(), shop["red"], *list(shop.values())[1:5])
    url = f"/api/products/{shop['red'].pk}/similar/"
    cut = client.get(url, {"limit": 4, "min_match": 0.98})
    assert skus(cut) == ["pink", "blue"]
    filled = client.get(url, {"limit": 4, "min_match": 0.98, "fallback": "category"})
    assert len(skus(filled)) == 4
    problem(client.get(url, {"fallback": "x"}), 400, "invalid_query", "fallback")
    problem(client.get(url, {"min_match": "2"}), 400, "invalid_query", "min_match")


# --- like this but… -----------------------------------------------------------------------------


def test_modifications__only_what_was_learned_and_can_be_seen(client: Client, shop: Shop) -> None:
    product("odd", "yellow", pattern="stripes")  # neither was learned
    product("hat", "black", category="hats")
    Product.objects.filter(sku="navy").update(published=False)
    Product.objects.filter(sku="green").update(colour="Blue ")
    url = f"/api/products/{shop['red'].pk}/modifications/"
    found = client.get(url).json()["modifications"]
    assert {each["value"].strip().lower() for each in found} <= {"pink", "blue", "black"}
    assert {each["attribute"] for each in found} == {"colour"}, "all have the same pattern"
    for each in found:
        assert each["modify"].startswith("in ") and each["count"] >= 1
        asked = {"product": shop["red"].pk, "modify": each["modify"], "limit": 1}
        assert client.get(SEARCH, asked).json()["total"]["value"] > 0
    Checkpoint.objects.update(metrics={})
    assert client.get(url).json() == {"modifications": []}
    Checkpoint.objects.update(state="retired")
    assert client.get(url).json() == {"modifications": []}


# --- events -------------------------------------------------------------------------------------


def test_events__are_kept_without_the_visitor(client: Client, shop: Shop) -> None:
    query_id = client.get(SEARCH, {"q": "red"}).json()["query_id"]
    event = {
        "query_id": query_id,
        "action_name": "click",
        "object_id": shop["red"].pk,
        "position": 1,
    }
    response = post(client, EVENTS, event)
    assert response.status_code == 201, response.content
    kept = SearchEvent.objects.values().get()
    assert kept.pop("timestamp") and kept.pop("id")
    assert kept == event | {
        "object_id": str(shop["red"].pk),
        "checkpoint": Checkpoint.objects.get().name,
    }
    seen = post(client, EVENTS, {"query_id": query_id, "action_name": "impression"})
    assert seen.status_code == 201


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"query_id": "q_AAAAAAAAAAAA0123456789abcdef"}, 400, "query_id"),
        ({"query_id": 5}, 400, "query_id"),
        ({"query_id": None}, 400, "query_id"),
        ({"action_name": "hover"}, 400, "action_name"),
        ({"action_name": ["click"]}, 400, "action_name"),
        ({"position": 0}, 400, "position"),
        ({"position": "1"}, 400, "position"),
        ({"position": 10**9}, 400, "position"),
        ({"object_id": None}, 400, "object_id"),
        ({"object_id": 10**30}, 404, "product"),
        ({"object_id": {"a": 1}}, 404, "product"),
        ({"object_id": "\x00"}, 400, "object_id"),
        ({"visitor": "kim"}, 400, "visitor"),
    ],
    ids=str,
)
def test_events__refusals(client: Client, shop: Shop, change: Any, status: int, field: str) -> None:
    event = {"query_id": query_ids.make(), "action_name": "click", "object_id": shop["red"].pk}
    response = post(client, EVENTS, event | change)
    assert (response.status_code, response.json()["field"]) == (status, field), response.content
    assert not SearchEvent.objects.exists()


def test_events__need_the_token_when_signed_in(shop: Shop) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("kim"))
    event = {"query_id": query_ids.make(), "action_name": "impression"}
    problem(post(client, EVENTS, event), 403, "permission_denied")
    assert not SearchEvent.objects.exists()


def test_events__are_forgotten_in_time(shop: Shop, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"EVENT_DAYS": 30}
    for days in (0, 29, 31, 400):
        SearchEvent.objects.create(
            query_id="q", action_name="click", timestamp=timezone.now() - timedelta(days=days)
        )
    assert events.forget() == 2
    assert SearchEvent.objects.count() == 2


def test_events__are_counted(client: Client, shop: Shop, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {"events": "3/hour"}}
    cache.clear()
    event = {"query_id": query_ids.make(), "action_name": "impression"}
    assert [post(client, EVENTS, event).status_code for _ in range(5)] == [201] * 3 + [429] * 2
    assert SearchEvent.objects.count() == 3
