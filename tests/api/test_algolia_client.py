"""Algolia's own client for Python, as released, asks the shop and understands its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.recommend.client import RecommendClientSync
from algoliasearch.recommend.config import RecommendConfig
from algoliasearch.search.client import SearchClientSync
from algoliasearch.search.config import SearchConfig
from pytest_django.live_server_helper import LiveServer

from shop.models import Product
from tests.colour_catalogue import embed, product, set_neighbours
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db(transaction=True)

Shop = dict[str, Product]


@pytest.fixture
def shop(settings: Any) -> Shop:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}
    checkpoint = fake_checkpoint()
    made = {c: product(c, c) for c in ("red", "pink", "blue", "navy")}
    embed(checkpoint, *made.values())
    set_neighbours(checkpoint, made["red"], made["pink"], made["navy"])
    return made


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[SearchClientSync]:
    with SearchClientSync(config=at(live_server, SearchConfig("shop", "none"))) as made:
        yield made


def at(server: LiveServer, config: Any) -> Any:
    """The config with the shop's API in place of Algolia's hosts."""
    address = server.url.removeprefix("http://") + "/api"
    config.hosts = HostsCollection([Host(url=address, scheme="http")])
    return config


def test_search__hits_come_with_their_ids_and_the_page_they_are_on(
    client: SearchClientSync, shop: Shop
) -> None:
    asked = {"indexName": "products", "query": "blue", "hitsPerPage": 2}
    answer = client.search({"requests": [asked, asked | {"page": 1}]})
    first, second = (result.actual_instance for result in answer.results)
    assert first.hits[0].object_id == str(shop["blue"].pk)
    assert (first.page, second.page, first.hits_per_page) == (0, 1, 2)
    keys = [hit.object_id for result in (first, second) for hit in result.hits]
    assert sorted(keys) == sorted(str(each.pk) for each in shop.values())


def test_search__a_mistake_is_an_error_with_our_words(client: SearchClientSync, shop: Shop) -> None:
    with pytest.raises(RequestException, match="hitsPerPage"):
        client.search(
            {"requests": [{"indexName": "products", "query": "blue", "hitsPerPage": 100000}]}
        )


def test_recommendations__looking_similar_gives_the_neighbours(
    live_server: LiveServer, shop: Shop
) -> None:
    asked = {
        "indexName": "products",
        "model": "looking-similar",
        "objectID": str(shop["red"].pk),
        "threshold": 0,
        "maxRecommendations": 2,
    }
    with RecommendClientSync(config=at(live_server, RecommendConfig("shop", "none"))) as client:
        answer = client.get_recommendations({"requests": [asked]})
    found = [hit.actual_instance.object_id for hit in answer.results[0].hits]
    assert found == [str(shop["pink"].pk), str(shop["navy"].pk)]
