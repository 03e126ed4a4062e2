"""No address can be made to change what it should not, by whoever, with whatever (S12, S13)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from shop.models import Product
from tests.colour_catalogue import embed, photo, product
from visualsearch.api import parsing
from visualsearch.api import urls as api_urls
from visualsearch.models import Checkpoint, SearchEvent, WordSearch
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

KEPT = (SearchEvent, WordSearch)
"""What a visitor may add to: what was searched for, and what became of it."""
METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
HOSTILE = [
    "'; DROP TABLE shop_product; --",
    '") OR 1=1 --',
    "%s %(a)s %",
    "{{7*7}}${7*7}",
    "\\x00\\",
    "a:b & !c | (d",
    "[[[[",
    '{"a": ',
    "🙂\u202e\ufeff",
    "١٢٣",
]


@pytest.fixture(autouse=True)
def _no_throttle(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}


@pytest.fixture
def shop() -> dict[str, Product]:
    fake_checkpoint()
    checkpoint = fake_checkpoint(metrics={"attributes": {"colour": ["red", "blue"]}})
    made = {colour: product(colour, colour) for colour in ("red", "blue", "green")}
    embed(checkpoint, *made.values())
    return made


def addresses(shop: dict[str, Product]) -> list[str]:
    """Every address of the app, keys of things that exist in them."""
    checkpoint = str(Checkpoint.objects.earliest("pk").pk)
    found = ["/search/", "/search/clicked/"]
    for each in api_urls.urlpatterns:
        pattern = str(each.pattern)
        key = str(shop["red"].pk) if pattern.startswith("products/") else checkpoint
        found.append("/api/" + re.sub(r"<str:\w+>", key, pattern))
    assert len(found) >= 15
    return found


def rows() -> dict[Any, list[Any]]:
    return {
        model: sorted(map(repr, model._base_manager.values_list()))
        for model in apps.get_models()
        if model not in KEPT and model._meta.app_label in ("visualsearch", "shop", "auth")
    }


BODIES: list[Any] = [
    {},
    {"q": "red"},
    {"recipe": "default", "epochs": 1},
    {"requests": [{"query": "red"}]},
    {"positive": [1]},
]


def test_anonymous__no_request_to_any_address_changes_anything(shop: dict[str, Product]) -> None:
    before, client = rows(), Client(raise_request_exception=True)
    for address in addresses(shop):
        for method in METHODS:
            for body in BODIES if method in ("post", "put", "patch") else BODIES[:1]:
                response = client.generic(
                    method.upper(), address, json.dumps(body), "application/json"
                )
                assert response.status_code < 500, (method, address, body)
        photo_too = client.post(address, {"image": SimpleUploadedFile("a.png", photo("red"))})
        assert photo_too.status_code < 500, address
    assert rows() == before


def test_signed_in__every_post_needs_the_token(shop: dict[str, Product]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("boss"))
    before = rows()
    refused = []
    for address in addresses(shop):
        response = client.post(address, "{}", content_type="application/json")
        # A click that the search page's own script reports changes nothing but counts.
        if response.status_code not in (405, 404) and not address.endswith("/clicked/"):
            assert response.status_code == 403, (address, response.status_code)
            refused.append(address)
    assert len(refused) >= 8, refused
    assert rows() == before


def test_hostile_strings__in_every_part_of_every_request(
    client: Client, shop: dict[str, Product]
) -> None:
    red = shop["red"].pk
    before = rows()
    for value in HOSTILE:
        asked = [
            client.get("/api/search/", {"q": "red"} | {part: value}) for part in parsing.FLAT_PARTS
        ]
        asked += [client.get("/search/", {"q": "red", part: value}) for part in parsing.FLAT_PARTS]
        bodies: list[tuple[str, Any]] = [
            ("search/", {"q": {value: 1}}),
            ("search/", {"q": "red", "filter": {value: value}}),
            ("search/", {"q": "red", "filter": {"colour": [value]}, "facets": [value]}),
            ("search/", {"q": "red", "filter": {"colour": value}, "facets": ["colour"]}),
            ("search/", {"q": "red", "diversity": {"max_per": {value: 1}}}),
            ("search/", {"image": {"token": "im_" + value}}),
            ("search/", {"image": {"product": red}, "modify": value}),
            ("recommend/", {"positive": [value], "negative": [{"id": value}]}),
            ("events/", {"query_id": value, "action_name": value, "object_id": value}),
            ("1/indexes/*/queries", {"requests": [{"query": value, "facets": [value]}]}),
            ("1/indexes/*/queries", {"requests": [{"facetFilters": [f"colour:{value}"]}]}),
            ("1/indexes/*/queries", {"requests": [{"filters": value, "params": value}]}),
            (
                "1/indexes/*/recommendations",
                {"requests": [{"model": "looking-similar", "objectID": value}]},
            ),
        ]
        asked += [
            client.post("/api/" + path, json.dumps(body), content_type="application/json")
            for path, body in bodies
        ]
        for response in asked:
            assert response.status_code < 500, (value, response.request, response.content[:300])
    assert rows() == before
