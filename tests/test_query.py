"""Queries: weighted words, products to resemble or not, photos, mixed in one vector; clear refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shop.models import Product
from tests.colour_catalogue import embed, photo, product
from visualsearch import encoding
from visualsearch.exceptions import EmptyQueryError, PhotoTokenError, QueryError
from visualsearch.models import Checkpoint
from visualsearch.queries import photo_tokens
from visualsearch.queries.query import Query
from visualsearch.search import query_vector, searching
from visualsearch.tables import stored_vectors
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


# --- weighted words -----------------------------------------------------------------------------


def test_weighted_words__each_counts_as_much_as_it_says(shop: Shop) -> None:
    assert skus(searching.search({"red": 1, "green": 0.3}))[0] == "red"
    assert skus(searching.search({"red": 0.3, "green": 1}))[0] == "green"


def test_weighted_words__what_is_not_wanted_goes_to_the_end(shop: Shop) -> None:
    wanted = skus(searching.search({"blue": 1, "navy": 0.9}))
    assert wanted.index("navy") < 2
    unwanted = skus(searching.search({"blue": 1, "navy": -0.9}))
    assert unwanted[0] == "blue" and unwanted[-1] == "navy"


def test_vector__is_the_weighted_sum_of_its_parts(shop: Shop, checkpoint: Checkpoint) -> None:
    query = Query.of(
        {"red": 1, "green": -0.4},
        image=photo("blue"),
        positive=[shop["pink"], (shop["navy"], 0.5)],
        negative=[shop["white"]],
    )
    asked = query_vector.encode(query, checkpoint)

    main = stored_vectors.of_main_photos(checkpoint, list(shop.values()))
    expected = (
        encoding.encode_query_text(checkpoint, "red")
        - 0.4 * encoding.encode_query_text(checkpoint, "green")
        + encoding.encode_query_image(checkpoint, photo("blue"))
        + (main[shop["pink"].pk] + 0.5 * main[shop["navy"].pk]) / 2
        - 0.5 * main[shop["white"].pk]
    )
    np.testing.assert_allclose(asked.vector, expected / np.linalg.norm(expected), atol=1e-5)
    assert np.linalg.norm(asked.vector) == pytest.approx(1, abs=1e-5)
    assert [part.field for part in asked.parts] == ["image", *["positive"] * 2, "negative", *"qq"]


# --- products to resemble -----------------------------------------------------------------------


def test_recommend__between_the_positive_and_away_from_the_negative(shop: Shop) -> None:
    results = searching.recommend(positive=[shop["blue"]], negative=[shop["navy"]])
    found = skus(results)
    assert {"blue", "navy"}.isdisjoint(found), "what was named is no answer"
    assert len(found) == 6
    liked = skus(searching.recommend(positive=[shop["blue"], shop["black"]]))
    assert liked[0] == "navy"


def test_recommend__weights_decide(shop: Shop) -> None:
    pink = product("p2", "pink")
    navy = product("n2", "navy")
    embed(Checkpoint.objects.get(), pink, navy)
    mostly_red = searching.recommend(positive={shop["pink"]: 1, shop["navy"]: 0.1})
    assert skus(mostly_red)[0] == "p2"
    mostly_blue = searching.recommend(positive={shop["pink"]: 0.1, shop["navy"]: 1})
    assert skus(mostly_blue)[0] == "n2"


def test_everything__in_one_query(shop: Shop) -> None:
    results = searching.search(
        "navy",
        image=shop["red"],
        modify="in blue",
        positive=[shop["black"]],
        negative=[shop["yellow"]],
        filters={"price__lte": 60},
        min_match=None,
    )
    assert skus(results)[0] == "navy"
    assert {"red", "black", "yellow", "white"}.isdisjoint(skus(results))


def test_recommend__of_products_without_embedding_gives_their_kind(shop: Shop) -> None:
    new = product("new", "red", category="dresses")
    product("scarf", "red", category="scarves")
    results = searching.recommend(positive=[new])
    assert (results.degraded, results.reason) == (True, "not_indexed")
    assert set(skus(results)) == set(shop)


def test_recommend__those_without_embedding_are_left_out_of_the_mean(shop: Shop) -> None:
    new = product("new", "yellow")
    with_new = skus(searching.recommend(positive=[shop["blue"], new]))
    assert with_new == skus(searching.recommend(positive=[shop["blue"]]))


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"text": {"red": float("nan")}}, "q"),
        ({"text": {"red": float("inf")}}, "q"),
        ({"text": {"red": 11}}, "q"),
        ({"text": {"red": 0}}, "q"),
        ({"text": {"red": True}}, "q"),
        ({"text": {"red": "1"}}, "q"),
        ({"text": {"": 1}}, "q"),
        ({"text": {5: 1}}, "q"),
        ({"text": {"red": 1, " red ": 2}}, "q"),
        ({"text": {f"word{n}": 1 for n in range(9)}}, "q"),
        ({"text": {"red": -1}}, "q"),
        ({"text": "red", "hybrid": {"semantic_ratio": 2}}, "hybrid"),
        ({"text": "red", "hybrid": {"ratio": 1}}, "hybrid"),
        ({"text": "red", "hybrid": float("nan")}, "hybrid"),
        ({"text": "red", "diversity": {"mmr": "x"}}, "mmr"),
        ({"text": "red", "diversity": {"max_per": {"colour": 0}}}, "max_per"),
        ({"text": "red", "diversity": {"max_per": {"stock": 1}}}, "max_per"),
        ({"text": "red", "diversity": {"max_per": ["colour"]}}, "max_per"),
        ({"text": "red", "diversity": [1]}, "diversity"),
        ({"text": "red", "min_match": 1.5}, "min_match"),
        ({"text": "red", "min_match": float("nan")}, "min_match"),
        ({"text": "red", "collapse": "brand"}, "collapse"),
        ({"text": "red", "collapse": ["group"]}, "collapse"),
    ],
)
def test_refusals__name_the_part_at_fault(
    shop: Shop, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(QueryError) as caught:
        list(searching.search(**arguments))
    assert caught.value.field == field
    assert caught.value.status == 400


def test_refusals__of_products(shop: Shop) -> None:
    blue = shop["blue"]
    many = [product(f"m{n}") for n in range(21)]
    for arguments, field in (
        ({"positive": many}, "positive"),
        ({"positive": [(blue, float("nan"))]}, "positive"),
        ({"positive": [(blue, -1)]}, "positive"),
        ({"positive": [blue, blue]}, "positive"),
        ({"positive": [blue], "negative": [blue]}, "negative"),
        ({"positive": [], "negative": [blue]}, "negative"),
    ):
        with pytest.raises(QueryError) as caught:
            searching.recommend(**{"positive": None, **arguments})
        assert caught.value.field == field, arguments
    with pytest.raises(EmptyQueryError):
        searching.recommend(positive=[])
    for wrong in ("12", [12], 5):
        with pytest.raises(TypeError):
            searching.recommend(positive=wrong)


def test_parts_that_cancel_out__are_an_error_and_no_chance_answer(shop: Shop) -> None:
    twin = product("twin", "blue")
    embed(Checkpoint.objects.get(), twin)
    with pytest.raises(QueryError, match="cancel"):
        searching.search(positive={shop["blue"]: 1}, negative={twin: 1})


# --- tokens of photos ---------------------------------------------------------------------------


def test_token__stands_for_the_photo(shop: Shop) -> None:
    first = searching.search(image=photo("green"))
    assert first.photo_token.startswith("im_")
    again = searching.search(image=first.photo_token)
    assert skus(again) == skus(first)
    assert again[0].score == pytest.approx(first[0].score, abs=2e-3)
    changed = searching.search(image=first.photo_token, modify="in navy")
    assert skus(changed)[0] == "navy"
    assert skus(searching.search(image=first.photo_token, filters={"price__gt": 50}))[0] != "green"


def test_token__there_is_none_without_a_photo(shop: Shop) -> None:
    assert searching.search("green").photo_token == ""
    assert searching.search(image=shop["red"]).photo_token == ""


def test_token__holds_the_vector_alone(shop: Shop, checkpoint: Checkpoint) -> None:
    vector = encoding.encode_query_image(checkpoint, photo("green"))
    token = photo_tokens.make(checkpoint.pk, vector)
    # Key of the checkpoint, two bytes a number, a time and a signature, in base64.
    assert len(token) < (8 + 2 * len(vector)) * 4 / 3 + 70
    read = photo_tokens.read(token)
    assert read.checkpoint_id == checkpoint.pk
    np.testing.assert_allclose(read.vector, vector, atol=1e-3)


def test_token__made_up_altered_old_or_of_another_checkpoint_is_refused(
    shop: Shop, checkpoint: Checkpoint, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = searching.search(image=photo("green")).photo_token
    middle = len(token) // 3
    altered = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    for wrong in (altered, "im_", "im_x:y:z", token[:-1], "im_" + "A" * 10**6, "im_🙂"):
        with pytest.raises(PhotoTokenError) as caught:
            searching.search(image=wrong)
        assert (caught.value.field, caught.value.status) == ("image", 400)

    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    with pytest.raises(PhotoTokenError, match="older"):
        searching.search(image=token)
    monkeypatch.setattr(time, "time", lambda: now)
    fake_checkpoint()
    with pytest.raises(PhotoTokenError, match="earlier checkpoint"):
        searching.search(image=token)


def test_token__of_another_shop_is_refused(shop: Shop, settings: Any) -> None:
    token = searching.search(image=photo("green")).photo_token
    settings.SECRET_KEY = "another"
    with pytest.raises(PhotoTokenError):
        searching.search(image=token)
