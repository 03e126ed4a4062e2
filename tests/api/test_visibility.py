"""Endpoint × role × state: what may not be seen is in no hit, count, facet, page, suggestion or error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from shop.models import Product
from tests.colour_catalogue import embed, photo, product, set_neighbours
from visualsearch import indexes
from visualsearch.models import Checkpoint
from visualsearch.search import spelling
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

COLOURS = ("red", "pink", "blue", "navy", "green", "black")
CURVE = {"scores": [-1.0, 1.0], "matches": [0.0, 1.0]}
Shop = dict[str, Product]


@pytest.fixture(autouse=True)
def _rules(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members see what is new; everybody sees what is published; withdrawn products nobody."""
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}

    def visible_to(self: Any, request: Any, queryset: Any) -> Any:
        queryset = queryset.filter(published=True)
        if request is not None and request.user.is_authenticated:
            return queryset
        return queryset.exclude(material="members only")

    index = type(indexes.get_index())
    monkeypatch.setattr(index, "visible_to", visible_to)
    monkeypatch.setattr(index, "get_queryset", lambda self: Product.objects.exclude(stock=999))


@pytest.fixture
def shop() -> Shop:
    checkpoint = fake_checkpoint(
        metrics={
            "calibration": {kind: CURVE for kind in ("image", "text", "composed")},
            "attributes": {"colour": list(COLOURS)},
        }
    )
    made = {c: product(f"SKU{c}", c, price=n, style_code=c) for n, c in enumerate(COLOURS, 1)}
    embed(checkpoint, *made.values())
    for each in made.values():
        others = [other for other in made.values() if other != each]
        set_neighbours(checkpoint, each, *others)
    spelling.collect()
    return made


STATES: dict[str, Callable[[Product], Any]] = {
    "unpublished": lambda p: Product.objects.filter(pk=p.pk).update(published=False),
    "members only": lambda p: Product.objects.filter(pk=p.pk).update(material="members only"),
    "not in the index": lambda p: Product.objects.filter(pk=p.pk).update(stock=999),
    "deleted": lambda p: Product.objects.filter(pk=p.pk).delete(),
}
ROLES = ("nobody", "customer", "staff")


def may_see(state: str, role: str) -> bool:
    return state == "members only" and role != "nobody"


def client_of(role: str) -> Client:
    client = Client()
    if role == "customer":
        client.force_login(User.objects.create_user("kim"))
    if role == "staff":
        client.force_login(User.objects.create_superuser("boss"))
    return client


def post(client: Client, url: str, body: Any) -> Any:
    return client.post(url, json.dumps(body), content_type="application/json")


def questions(client: Client, shop: Shop) -> dict[str, Any]:
    """Every way to ask for products, with everything that is counted."""
    pink = shop["pink"].pk
    search, facets = "/api/search/", ["colour", "price"]
    return {
        "words": post(client, search, {"q": "red dress", "facets": facets, "explain": True}),
        "words alone": post(client, search, {"q": "red", "hybrid": 0, "facets": facets}),
        "misspelt": post(client, search, {"q": "rde drses", "facets": facets}),
        "article number": post(client, search, {"q": "SKUred", "facets": facets}),
        "weights": post(client, search, {"q": {"red": 1, "navy": -0.1}, "facets": facets}),
        "conditions alone": post(client, search, {"q": "under 100", "facets": facets}),
        "varied": post(client, search, {"q": "red", "diversity": True, "facets": facets}),
        "capped": post(
            client, search, {"q": "red", "diversity": {"max_per": {"colour": 1}}, "facets": facets}
        ),
        "collapsed": post(client, search, {"q": "red", "collapse": "group", "facets": facets}),
        "min_match": post(client, search, {"q": "red", "min_match": 0.01, "facets": facets}),
        "photo": client.post(
            search,
            {
                "image": SimpleUploadedFile("a.png", photo("red"), "image/png"),
                "facets": "colour,price",
            },
        ),
        "product": post(client, search, {"image": {"product": pink}, "facets": facets}),
        "modify": post(
            client, search, {"image": {"product": pink}, "modify": "in red", "facets": facets}
        ),
        "recommend": post(client, "/api/recommend/", {"positive": [pink], "facets": facets}),
        "similar": client.get(f"/api/products/{pink}/similar/?limit=20"),
        "from the table": client.get(f"/api/products/{pink}/similar/?limit=1"),
        "filled up": client.get(f"/api/products/{pink}/similar/?limit=9&fallback=category"),
    }


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "untrained"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", STATES)
def test_matrix__hits_totals_facets(shop: Shop, state: str, role: str, trained: bool) -> None:
    red = shop["red"].pk
    if not trained:
        Checkpoint.objects.update(state="retired")
    STATES[state](shop["red"])
    seen = may_see(state, role)
    for name, response in questions(client_of(role), shop).items():
        if name == "photo" and not trained:
            assert response.status_code == 503
            continue
        assert response.status_code == 200, (name, response.content)
        body = response.json()
        ids = [hit["id"] for hit in body["hits"]]
        counts = {each["value"]: each["count"] for each in body["facets"].get("colour", [])}
        if not seen:
            assert red not in ids, name
            assert "red" not in counts, name
            assert "SKUred" not in response.content.decode(), name
            assert body["facet_stats"].get("price", {}).get("min") != "1.00", name
        elif name not in ("from the table", "article number") and trained:
            assert red in ids, name
        if name not in ("from the table",):
            assert body["total"]["value"] == len(ids), name


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", STATES)
def test_matrix__named_directly_it_answers_as_an_unknown_one(
    shop: Shop, state: str, role: str
) -> None:
    client, red = client_of(role), shop["red"].pk
    query_id = client.get("/api/search/", {"q": "pink"}).json()["query_id"]
    STATES[state](shop["red"])

    def answers(key: int) -> list[tuple[int, str]]:
        event = {"query_id": query_id, "action_name": "click", "object_id": key}
        found = [
            client.get(f"/api/products/{key}/similar/"),
            client.get(f"/api/products/{key}/modifications/"),
            client.get("/api/search/", {"product": key}),
            post(client, "/api/search/", {"image": {"product": key}, "modify": "in blue"}),
            post(client, "/api/recommend/", {"positive": [key]}),
            post(client, "/api/recommend/", {"positive": [shop["pink"].pk], "negative": [key]}),
            post(client, "/api/events/", event),
        ]
        return [
            (each.status_code, each.content.decode().replace(str(key), "KEY")) for each in found
        ]

    hidden = answers(red)
    if may_see(state, role):
        assert [status for status, _ in hidden] == [200] * 6 + [201]
    else:
        assert hidden == answers(10**9)
        assert {status for status, _ in hidden} == {404}


@pytest.mark.parametrize("state", STATES)
def test_matrix__suggestions_do_not_name_it(shop: Shop, state: str) -> None:
    url = f"/api/products/{shop['pink'].pk}/modifications/"
    offered = {each["value"] for each in client_of("nobody").get(url).json()["modifications"]}
    STATES["unpublished"](shop["black"])
    STATES[state](shop["red"])
    found = {each["value"] for each in client_of("nobody").get(url).json()["modifications"]}
    assert offered and {"red", "black"}.isdisjoint(found)


@pytest.mark.parametrize("hybrid", [True, False])
def test_pages__are_as_long_as_the_total_says(shop: Shop, hybrid: bool) -> None:
    STATES["unpublished"](shop["red"])
    seen: list[int] = []
    for offset in range(0, 8, 2):
        body = {"q": "red dress", "limit": 2, "offset": offset, "hybrid": hybrid}
        answer = post(Client(), "/api/search/", body).json()
        assert answer["total"] == {"value": 5, "relation": "eq"}
        seen += [hit["id"] for hit in answer["hits"]]
    assert len(seen) == len(set(seen)) == 5 and shop["red"].pk not in seen


def test_two_visitors__taking_turns_never_see_what_the_other_may(shop: Shop) -> None:
    """Nothing that is remembered between requests (texts, filters' values, ETags) leaks."""
    STATES["members only"](shop["red"])
    member, stranger = client_of("customer"), client_of("nobody")
    url = f"/api/products/{shop['pink'].pk}/similar/?limit=20"
    etag = ""
    for _ in range(3):
        for client, expected in ((member, True), (stranger, False)):
            asked = post(client, "/api/search/", {"q": "red", "facets": ["colour"]}).json()
            assert (shop["red"].pk in [hit["id"] for hit in asked["hits"]]) is expected
            assert ("red" in [v["value"] for v in asked["facets"]["colour"]]) is expected
            similar = client.get(url, headers={"If-None-Match": etag})
            assert similar.status_code == 200, "another visitor's answer is not taken for one's own"
            etag = similar["ETag"]
            page = client.get("/search/", {"q": "red"}).content.decode()
            assert bool(re.search(r"/products/SKUred/", page)) is expected


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("get", "/api/stats/"),
        ("get", "/api/checkpoints/"),
        ("post", "/api/checkpoints/1/promote/"),
        ("post", "/api/checkpoints/rollback/"),
        ("post", "/api/training-runs/"),
        ("get", "/api/training-runs/1/"),
    ],
)
@pytest.mark.parametrize("role", ["nobody", "customer", "clerk"])
def test_staff_endpoints__need_their_own_permission(
    shop: Shop, role: str, method: str, url: str
) -> None:
    client = client_of(role)
    if role == "clerk":
        client.force_login(User.objects.create_user("clerk", is_staff=True))
    before = list(Checkpoint.objects.values())
    response = getattr(client, method)(url, content_type="application/json")
    assert response.status_code == 403
    assert response["Content-Type"] == "application/problem+json"
    assert list(Checkpoint.objects.values()) == before
