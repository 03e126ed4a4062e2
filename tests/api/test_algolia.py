"""Front ends that speak Algolia's shapes are answered from the shop's own tables, under its own rules."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.cache import cache
from django.test import Client

from shop.models import Product
from tests.colour_catalogue import embed, product, set_neighbours
from visualsearch import indexes
from visualsearch.models import WordSearch
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

QUERIES = "/api/1/indexes/*/queries"
RECOMMENDATIONS = "/api/1/indexes/*/recommendations"
COLOURS = ("red", "pink", "blue", "navy", "green", "black")
CURVE = {"scores": [-1.0, 0.0, 1.0], "matches": [0.0, 0.2, 1.0]}
Shop = dict[str, Product]


@pytest.fixture(autouse=True)
def _no_throttle(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}


@pytest.fixture
def shop() -> Shop:
    checkpoint = fake_checkpoint(metrics={"calibration": {"image": CURVE, "text": CURVE}})
    made = {c: product(c, c, price=10 * n) for n, c in enumerate(COLOURS, 1)}
    embed(checkpoint, *made.values())
    set_neighbours(checkpoint, made["red"], *(made[c] for c in COLOURS[1:]))
    return made


def post(client: Client, url: str, *requests: Any, **extra: Any) -> Any:
    body = json.dumps({"requests": list(requests)})
    return client.post(url, body, **({"content_type": "application/json"} | extra))


def ask(client: Client, *params: Any) -> list[dict[str, Any]]:
    response = post(client, QUERIES, *({"indexName": "products", "params": p} for p in params))
    assert response.status_code == 200, response.content
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def titles(result: dict[str, Any]) -> list[str]:
    by_key = {str(each.pk): each.sku for each in Product.objects.all()}
    return [by_key[hit["objectID"]] for hit in result["hits"]]


# --- queries ------------------------------------------------------------------------------------


def test_answer__has_what_instantsearch_reads(client: Client, shop: Shop) -> None:
    params = {"query": "red", "hitsPerPage": 4, "page": 1, "facets": ["colour", "price"]}
    (result,) = ask(client, params)

    assert set(result) >= {"hits", "nbHits", "page", "nbPages", "hitsPerPage", "processingTimeMS"}
    assert (result["nbHits"], result["nbPages"], result["page"], result["hitsPerPage"]) == (
        6,
        2,
        1,
        4,
    )
    assert (result["query"], result["index"], result["exhaustiveNbHits"]) == (
        "red",
        "products",
        True,
    )
    assert result["facets"]["colour"] == dict.fromkeys(COLOURS, 1)
    assert result["facets"]["price"]["10.00"] == 1
    assert result["facets_stats"] == {"price": {"min": 10.0, "max": 60.0}}
    assert result["degraded"] is False and result["queryID"].startswith("q_")
    (first, _) = result["hits"]
    assert isinstance(first["objectID"], str) and isinstance(first["price"], float)
    assert first["title"] == first["_highlightResult"]["title"]["value"] != ""
    assert first["url"].startswith("http://testserver/") and first["image"].startswith("http://")
    assert 0 <= first["_score"] <= 100


def test_parameters__as_an_object_a_query_string_or_beside_the_name(
    client: Client, shop: Shop
) -> None:
    parameters = {
        "query": "red",
        "hitsPerPage": 3,
        "facetFilters": [["colour:red", "colour:pink", "colour:blue"]],
        "numericFilters": ["price>=10", "price<30"],
    }
    as_text = urlencode(
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in parameters.items()}
    )
    for request in ({"params": parameters}, {"params": as_text}, parameters):
        response = post(client, QUERIES, request)
        assert response.status_code == 200, response.content
        (result,) = response.json()["results"]
        assert titles(result) == ["red", "pink"]
        assert "facetFilters" in result["params"] and result["nbHits"] == 2


@pytest.mark.parametrize("name", ["text/plain", "application/x-www-form-urlencoded"])
def test_body__is_json_whatever_browsers_call_it(client: Client, shop: Shop, name: str) -> None:
    response = post(client, QUERIES, {"query": "red", "hitsPerPage": 1}, content_type=name)
    assert response.status_code == 200, response.content
    assert titles(response.json()["results"][0]) == ["red"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"facetFilters": "colour:red"}, {"red"}),
        ({"facetFilters": [["colour:red", "colour:navy"], "in_stock:true"]}, {"red", "navy"}),
        ({"numericFilters": ["price:20 TO 30"]}, {"pink", "blue"}),
        ({"numericFilters": "price=40"}, {"navy"}),
        ({"filters": "price > 40 AND in_stock:true"}, {"green", "black"}),
        ({"filters": "colour:'red' AND price:0 TO 99"}, {"red"}),
        ({"filters": 'colour:"red AND blue"'}, set()),
        ({"filters": "", "facetFilters": [], "numericFilters": [], "tagFilters": ""}, set(COLOURS)),
    ],
)
def test_filters__in_each_of_the_three_notations(
    client: Client, shop: Shop, params: Any, expected: set[str]
) -> None:
    for query in ("", "dress"):
        (result,) = ask(client, {"query": query} | params)
        assert set(titles(result)) == expected
        assert result["nbHits"] == len(expected)


def test_nothing_asked_for__lists_all_as_the_first_page_of_a_shop(
    client: Client, shop: Shop
) -> None:
    first, second = ask(
        client, {"query": "", "hitsPerPage": 4}, {"query": "", "hitsPerPage": 4, "page": 1}
    )
    assert titles(first) + titles(second) == list(COLOURS)
    assert first["nbPages"] == 2 and first["hits"][0]["_score"] is None


def test_disjunctive_facets__as_instantsearch_asks_for_them(client: Client, shop: Shop) -> None:
    chosen, counts = ask(
        client,
        {"query": "red", "facets": ["colour"], "facetFilters": [["colour:red"]]},
        {"query": "red", "facets": "colour", "hitsPerPage": 0, "page": 0, "analytics": False},
    )
    assert titles(chosen) == ["red"] and chosen["facets"] == {"colour": {"red": 1}}
    assert counts["hits"] == [] and counts["nbPages"] == 0
    assert counts["facets"] == {"colour": dict.fromkeys(COLOURS, 1)}
    (everything,) = ask(client, {"facets": ["*"], "maxValuesPerFacet": 2})
    assert set(everything["facets"]) == {"category", "colour", "price", "in_stock"}
    assert len(everything["facets"]["colour"]) == 2
    assert everything["facets"]["in_stock"] == {"true": 6}


def test_photo_and_change__stand_among_the_parameters(client: Client, shop: Shop) -> None:
    image = {"product": shop["red"].pk}
    like, changed = ask(
        client, {"image": image, "hitsPerPage": 1}, {"image": image, "modify": "in blue"}
    )
    assert len(titles(like)) == 1 and titles(like) != ["red"]
    assert titles(changed)[0] == "blue" and "red" not in titles(changed)


def test_words__are_noted_as_those_of_other_searches(client: Client, shop: Shop) -> None:
    ask(client, {"query": "red"}, {"query": "red", "hitsPerPage": 0, "facets": ["colour"]})
    assert [each.words for each in WordSearch.objects.all()] == ["red"]


def test_words_without_checkpoint__are_answered_and_said_to_be_less(client: Client) -> None:
    product("red", "red")
    (result,) = ask(client, {"query": "red"})
    assert titles(result) == ["red"]
    assert (result["degraded"], result["degraded_reason"]) == (True, "no_checkpoint")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"query": "a" * 300}, "query"),
        ({"query": 5}, "query"),
        ({"query": "a\x00"}, "query"),
        ({"hitsPerPage": 101}, "hitsPerPage"),
        ({"hitsPerPage": 0.0}, "hitsPerPage"),
        ({"hitsPerPage": False}, "hitsPerPage"),
        ({"page": -1}, "page"),
        ({"page": 51, "hitsPerPage": 20}, "page"),
        ({"params": "page=1e9"}, "page"),
        ({"params": 5}, "params"),
        ({"params": "facetFilters=[oops"}, "facetFilters"),
        ({"facets": ["colour", "name"]}, "facets"),
        ({"facets": 5}, "facets"),
        ({"facetFilters": ["colour"]}, "facetFilters"),
        ({"facetFilters": ["colour:-red"]}, "facetFilters"),
        ({"facetFilters": [["colour:red", "category:dress"]]}, "facetFilters"),
        ({"facetFilters": ["colour:red", "colour:blue"]}, "facetFilters"),
        ({"facetFilters": [5]}, "facetFilters"),
        ({"facetFilters": ["published:false"]}, "filter"),
        ({"numericFilters": ["price>=cheap"]}, "numericFilters"),
        ({"numericFilters": ["price!=5"]}, "numericFilters"),
        ({"numericFilters": [["price<5", "price>9"]]}, "numericFilters"),
        ({"filters": "colour:red OR colour:blue"}, "filters"),
        ({"filters": "NOT colour:red"}, "filters"),
        ({"filters": "(colour:red)"}, "filters"),
        ({"filters": {"colour": "red"}}, "filters"),
        ({"modify": "in blue"}, "modify"),
        ({"optionalFilters": ["colour:red"]}, "optionalFilters"),
        ({"aroundLatLng": "1,2"}, "aroundLatLng"),
        ({"type": "facet", "facet": "colour"}, "type"),
        ({"indexName": []}, "indexName"),
    ],
)
def test_refusals__say_what_is_not_read_instead_of_ignoring_it(
    client: Client, shop: Shop, request_: Any, field: str
) -> None:
    response = post(client, QUERIES, request_)
    body = response.json()
    assert (response.status_code, body["field"]) == (400, field), body
    assert response["Content-Type"] == "application/problem+json"
    assert body["message"] == body["detail"]


@pytest.mark.parametrize("body", [{}, {"requests": []}, {"requests": {}}, {"requests": [1]}])
def test_body__that_is_no_list_of_requests_is_refused(
    client: Client, shop: Shop, body: Any
) -> None:
    response = client.post(QUERIES, json.dumps(body), content_type="application/json")
    assert (response.status_code, response.json()["field"]) == (400, "requests")
    assert post(client, QUERIES, *[{}] * 11).json()["field"] == "requests"


# --- recommendations ----------------------------------------------------------------------------


def similar(client: Client, key: Any, **more: Any) -> Any:
    request = {"indexName": "products", "model": "looking-similar", "objectID": key}
    return post(client, RECOMMENDATIONS, request | more)


def test_looking_similar__from_the_table_of_neighbours(client: Client, shop: Shop) -> None:
    red = str(shop["red"].pk)
    response = similar(client, red, maxRecommendations=3, threshold=0)
    assert response.status_code == 200, response.content
    (result,) = response.json()["results"]
    assert titles(result) == ["pink", "blue", "navy"]
    assert all(0 <= hit["_score"] <= 100 for hit in result["hits"])

    (result,) = similar(client, red, queryParameters={"facetFilters": ["colour:blue"]}).json()[
        "results"
    ]
    assert titles(result) == ["blue"]
    (result,) = similar(client, red, threshold=99.9).json()["results"]
    assert titles(result) == []


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"model": "bought-together"}, "model"),
        ({"threshold": 101}, "threshold"),
        ({"threshold": "high"}, "threshold"),
        ({"maxRecommendations": 1000}, "maxRecommendations"),
        ({"queryParameters": {"query": "red"}}, "query"),
        ({"queryParameters": 5}, "queryParameters"),
        ({"fallbackParameters": {"facetFilters": ["colour:red"]}}, "fallbackParameters"),
    ],
)
def test_looking_similar__refusals(client: Client, shop: Shop, more: Any, field: str) -> None:
    response = similar(client, shop["red"].pk, **more)
    assert (response.status_code, response.json()["field"]) == (400, field)


# --- the shop's rules ---------------------------------------------------------------------------


def test_hidden_product__is_in_no_hit_count_or_facet_and_answers_as_an_unknown_one(
    client: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def visible_to(self: Any, request: Any, queryset: Any) -> Any:
        return queryset if request.user.is_authenticated else queryset.filter(published=True)

    monkeypatch.setattr(type(indexes.get_index()), "visible_to", visible_to)
    Product.objects.filter(pk=shop["pink"].pk).update(published=False)
    facets = {"facets": ["colour", "price"]}
    pink = {"image": {"product": shop["pink"].pk}}

    for result in ask(
        client, {"query": "pink"} | facets, {"query": ""} | facets, {"hitsPerPage": 0} | facets
    ):
        assert "pink" not in titles(result) and result["nbHits"] == 5
        assert "pink" not in result["facets"]["colour"] and "20.00" not in result["facets"]["price"]
    (result,) = similar(client, shop["red"].pk).json()["results"]
    assert "pink" not in titles(result)

    def answers(key: int) -> list[Any]:
        found = [
            post(client, QUERIES, {"image": {"product": key}}),
            similar(client, key),
            similar(client, str(key)),
        ]
        return [
            (each.status_code, each.content.decode().replace(str(key), "KEY")) for each in found
        ]

    assert answers(shop["pink"].pk) == answers(10**9)
    assert {status for status, _ in answers(shop["pink"].pk)} == {404}
    assert post(client, QUERIES, pink).json()["code"] == "unknown_product"


def test_throttle__counts_every_query_of_a_request(
    client: Client, shop: Shop, settings: Any
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "THROTTLE_RATES": {"search": "5/day", "similar": "2/day"}
    }
    cache.clear()
    one = {"query": "red", "hitsPerPage": 1}
    assert post(client, QUERIES, one, one, one).status_code == 200
    refused = post(client, QUERIES, one, one, one)
    assert refused.status_code == 429 and int(refused["Retry-After"]) > 0
    assert client.get("/api/search/?q=red").status_code == 429
    assert similar(client, shop["red"].pk).status_code == 200
    cache.clear()
