"""Variety, caps, look-alikes and min_match: other orders of the same hits, the same on every page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shop.models import Product
from tests.colour_catalogue import embed, product, set_neighbours
from visualsearch.models import Checkpoint
from visualsearch.search import searching
from visualsearch.search.calibration import Curve
from visualsearch.tables import stored_vectors
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

CURVE = {"scores": [-1.0, 0.0, 0.5, 1.0], "matches": [0.0, 0.1, 0.5, 1.0]}


@pytest.fixture
def checkpoint() -> Checkpoint:
    return fake_checkpoint(
        metrics={"calibration": {kind: CURVE for kind in ("image", "text", "composed")}}
    )


@pytest.fixture
def shop(checkpoint: Checkpoint) -> list[Product]:
    """Ten each of eight colours, in designs of two."""
    colours = ("red", "pink", "blue", "navy", "green", "black", "white", "yellow")
    made = [
        product(f"{colour}{n}", colour, style_code=f"{colour}-{n // 2}", category=f"kind{n % 3}")
        for colour in colours
        for n in range(10)
    ]
    embed(checkpoint, *made)
    return made


def colours(hits: Any) -> list[str]:
    return [hit.product.colour for hit in hits]


def spread(checkpoint: Checkpoint, hits: list[Any]) -> float:
    """Mean cosine of the hits with each other: less is more varied."""
    vectors = np.stack(
        list(stored_vectors.of_main_photos(checkpoint, [hit.product for hit in hits]).values())
    )
    return float((vectors @ vectors.T).mean())


# --- variety ------------------------------------------------------------------------------------


def test_mmr__the_first_page_is_more_varied_and_still_about_it(
    shop: list[Product], checkpoint: Checkpoint
) -> None:
    plain = searching.search("blue", hybrid=False)[:10]
    varied = searching.search("blue", hybrid=False, diversity={"mmr": 0.7}, page=10)[:10]
    assert colours(plain) == ["blue"] * 10
    assert spread(checkpoint, varied) < 0.7 * spread(checkpoint, plain)
    assert varied[0].product.colour == "blue"
    assert len(set(colours(varied))) >= 3


def test_mmr__zero_changes_nothing(shop: list[Product]) -> None:
    plain = [hit.product.pk for hit in searching.search("blue", hybrid=False)]
    none = searching.search("blue", hybrid=False, diversity={"mmr": 0.0})
    assert [hit.product.pk for hit in none] == plain


def test_mmr__chooses_among_five_pages_and_no_more(shop: list[Product]) -> None:
    order = [hit.product.pk for hit in searching.search("blue", hybrid=False)]
    varied = searching.search("blue", hybrid=False, diversity={"mmr": 0.9}, page=4)
    assert {hit.product.pk for hit in varied[:20]} == set(order[:20])


@pytest.mark.parametrize(
    "options",
    [
        {"diversity": True},
        {"diversity": {"mmr": 0.5, "max_per": {"colour": 3}}},
        {"collapse": "group"},
        {"collapse": "duplicates"},
        {"min_match": 0.2},
        {"diversity": {"mmr": 0.4}, "collapse": "group", "min_match": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("hybrid", [True, False])
def test_pages__show_no_hit_twice_and_miss_none(
    shop: list[Product], options: dict[str, Any], hybrid: bool
) -> None:
    def ask() -> Any:
        return searching.search("blue dress", hybrid=hybrid, page=7, **options)

    whole = [hit.product.pk for hit in ask()]
    pages: list[Any] = []
    while page := ask()[len(pages) : len(pages) + 7]:
        pages += [hit.product.pk for hit in page]
    assert pages == whole
    assert len(set(pages)) == len(pages) == len(ask()) > 0


# --- caps ---------------------------------------------------------------------------------------


def test_max_per__never_more_of_one_value(shop: list[Product]) -> None:
    results = searching.search("blue", hybrid=False, diversity={"max_per": {"colour": 2}})
    found = colours(results)
    assert len(found) == results.total == 16
    assert all(found.count(colour) == 2 for colour in found)
    assert found[:2] == ["blue", "blue"], "the order is that of nearness still"


def test_max_per__several_fields_hold_together(shop: list[Product]) -> None:
    results = list(searching.search("blue", diversity={"max_per": {"colour": 3, "category": 5}}))
    kinds = [hit.product.category for hit in results]
    assert max(colours(results).count(each) for each in colours(results)) <= 3
    assert max(kinds.count(each) for each in kinds) <= 5
    assert len(results) == 15, "five of each of three kinds"


def test_max_per__no_value_is_no_limit(checkpoint: Checkpoint) -> None:
    made = [product(f"p{n}", "red", category="") for n in range(5)]
    embed(checkpoint, *made)
    assert len(searching.search("red", diversity={"max_per": {"category": 1}})) == 5


# --- one of look-alikes -------------------------------------------------------------------------


def test_collapse__one_of_each_picture(shop: list[Product]) -> None:
    results = searching.search("blue", hybrid=False, collapse="duplicates")
    assert colours(results)[:1] == ["blue"]
    assert sorted(colours(results)) == sorted({each.colour for each in shop})


def test_collapse__one_of_each_design(shop: list[Product]) -> None:
    results = searching.search("blue", hybrid=False, collapse="group")
    designs = [hit.product.style_code for hit in results]
    assert len(designs) == len(set(designs)) == results.total == 40


# --- min_match ----------------------------------------------------------------------------------


def test_match__is_read_from_the_checkpoints_curve(shop: list[Product]) -> None:
    for hit in searching.search("blue", hybrid=False)[:30]:
        assert hit.match == pytest.approx(np.interp(hit.score, CURVE["scores"], CURVE["matches"]))


def test_min_match__nothing_below_it_is_shown_or_counted(shop: list[Product]) -> None:
    everything = list(searching.search("blue", hybrid=False))
    for least in (0.05, 0.3, 0.6, 0.9, 1.0):
        enough = [hit.product.pk for hit in everything if hit.match >= least]
        results = searching.search("blue", hybrid=False, min_match=least)
        assert [hit.product.pk for hit in results] == enough
        assert (results.total, results.matching.exact) == (len(enough), True)


def test_min_match__an_article_number_is_right_whatever_it_looks_like(shop: list[Product]) -> None:
    results = searching.search("green7", min_match=0.99)
    assert next(hit.product.sku for hit in results) == "green7"


def test_min_match__without_calibration_everything_is_shown_and_that_is_said(db: None) -> None:
    embed(fake_checkpoint(), product("a", "red"))
    results = searching.search("blue", min_match=0.9)
    assert (len(results), results.reason) == (1, "not_calibrated")
    assert results[0].match is None


def test_similar_to__below_min_match_it_is_filled_with_its_kind(
    shop: list[Product], checkpoint: Checkpoint
) -> None:
    red = shop[0]
    set_neighbours(checkpoint, red, *shop[1:5])  # scores .99 to .96
    kept = searching.similar_to(red, limit=4, min_match=0.975)
    assert [hit.product for hit in kept] == shop[1:3]
    assert kept[0].match == pytest.approx(0.99, abs=1e-6)
    filled = list(searching.similar_to(red, limit=4, min_match=0.975, fallback="category"))
    assert [hit.product for hit in filled[:2]] == shop[1:3]
    assert len(filled) == 4 == len({hit.product.pk for hit in filled})
    assert all(hit.product.category == red.category for hit in filled[2:])
    assert [hit.match for hit in filled[2:]] == [None, None]


def test_curve__score_at_is_the_inverse_of_match() -> None:
    curve = Curve.read(CURVE)
    assert curve is not None
    for match in (0.05, 0.1, 0.3, 0.77, 1.0):
        assert curve.match(curve.score_at(match)) == pytest.approx(match)
    flat = Curve.read({"scores": [0.1, 0.4, 0.6], "matches": [0.2, 0.2, 0.8]})
    assert flat is not None
    assert (flat.score_at(0.2), flat.score_at(0.9)) == (-1.0, float("inf"))
    assert flat.match(flat.score_at(0.5)) == pytest.approx(0.5)
    for broken in (None, {}, [], {"scores": [1]}, {"scores": [1], "matches": []}, "x"):
        assert Curve.read(broken) is None
