"""Figures against values counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from visualsearch.ml import metrics

SCORES = np.array([[0.9, 0.8, 0.7, 0.1], [0.2, 0.9, 0.5, 0.4], [0.1, 0.2, 0.3, 0.4]])
RIGHT = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)


def test_first_ranks__counts_from_one() -> None:
    assert metrics.first_ranks(SCORES, RIGHT).tolist() == [2.0, 4.0, math.inf]


def test_first_ranks__an_excluded_item_stands_nowhere() -> None:
    itself = np.zeros_like(RIGHT)
    itself[0, 0] = True
    assert metrics.first_ranks(SCORES, RIGHT, itself).tolist() == [1.0, 4.0, math.inf]


def test_first_ranks__ties_count_against_the_encoder() -> None:
    collapsed = np.ones((1, 5))
    assert metrics.first_ranks(collapsed, np.eye(1, 5, dtype=bool)).tolist() == [5.0]


def test_first_ranks__an_encoder_that_gives_nan_finds_nothing() -> None:
    nothing = np.full((1, 3), np.nan)
    assert metrics.first_ranks(nothing, np.eye(1, 3, dtype=bool)).tolist() == [math.inf]


def test_hits_and_reciprocal() -> None:
    ranks = np.array([1.0, 4.0, math.inf])
    assert metrics.hits_at(ranks, 1).tolist() == [1.0, 0.0, 0.0]
    assert metrics.hits_at(ranks, 4).tolist() == [1.0, 1.0, 0.0]
    assert metrics.reciprocal(ranks).tolist() == [1.0, 0.25, 0.0]


def test_precision_and_recall() -> None:
    top = metrics.top_indices(SCORES, 2)
    assert top.tolist() == [[0, 1], [1, 2], [3, 2]]
    assert metrics.precision_at(top, RIGHT).tolist() == [0.5, 0.0, 0.0]
    # Row 0: one of the two right items is among its first two.
    assert metrics.recall_at(top, RIGHT).tolist() == [0.5, 0.0, 0.0]


def test_estimate__macro_average_weighs_groups_alike() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0])
    assert metrics.estimate(values).value == pytest.approx(0.75)
    assert metrics.estimate(values, ["a", "a", "a", "b"]).value == pytest.approx(0.5)


def test_estimate__interval_holds_the_value_and_narrows_with_more_queries() -> None:
    rng = np.random.default_rng(0)
    few = metrics.estimate(rng.random(20))
    many = metrics.estimate(rng.random(2_000))
    assert few.low < few.value < few.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert metrics.estimate(np.array([])).queries == 0


def test_health__tells_a_collapsed_gallery_from_a_spread_one() -> None:
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((200, 16))
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    good = metrics.health(spread)
    assert good["finite"]
    assert good["unit_norms"]
    assert abs(good["mean_cosine"]) < 0.05
    assert good["effective_rank"] > 0.9
    one = np.tile(spread[:1], (200, 1))
    assert metrics.health(one)["mean_cosine"] == pytest.approx(1.0)
    assert metrics.health(one)["effective_rank"] < 0.1
    assert not metrics.health(np.full((4, 4), np.nan))["finite"]
    assert not metrics.health(spread * 2)["unit_norms"]
