"""Calibrated match: what a score means, on queries that it was not fitted on, before and after a retrain."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.ml.linear_encoders import LinearEncoder, shop
from visualsearch.ml.calibration import Pairs, expected_error, fit, reliability, wilson
from visualsearch.ml.data import Catalogue
from visualsearch.ml.evaluate import evaluate
from visualsearch.ml.report import Report
from visualsearch.search.calibration import Curve

KINDS = ("image", "text", "composed")


@pytest.fixture(scope="module")
def held_out() -> Catalogue:
    return shop(copies=3, seed=2)


@pytest.fixture(scope="module")
def before(held_out: Catalogue) -> Report:
    return evaluate(LinearEncoder(shop(copies=2, seed=1), seed=1), held_out, with_baselines=False)


class Stretched(LinearEncoder):
    """Another training: resampled, and with cosines on quite another scale."""

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        return self._unit(super().encode_image(pixels) + 0.12)

    def encode_text(self, texts: list[str]) -> np.ndarray:
        return self._unit(super().encode_text(texts) + 0.12)


@pytest.fixture(scope="module")
def after(held_out: Catalogue) -> Report:
    return evaluate(Stretched(shop(copies=2, seed=5), seed=9), held_out, with_baselines=False)


# --- fitting ------------------------------------------------------------------------------------


def test_fit__finds_the_share_that_scores_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, 20_000)
    truth = 1 / (1 + np.exp(-4 * scores))
    x, y = fit(scores, rng.random(len(scores)) < truth)
    assert (np.diff(x) > 0).all() and (np.diff(y) > 0).all()
    at = np.linspace(-0.9, 0.9, 19)
    np.testing.assert_allclose(np.interp(at, x, y), 1 / (1 + np.exp(-4 * at)), atol=0.05)


def test_fit__never_falls_whatever_the_scores_are() -> None:
    rng = np.random.default_rng(1)
    for right in (rng.random(500) < 0.5, np.zeros(500, bool), np.ones(500, bool)):
        x, y = fit(np.sort(rng.uniform(-1, 1, 500))[::-1], right)
        assert (np.diff(y) >= 0).all() and 0 < y.min() <= y.max() < 1 and len(x) == len(y)


def test_reliability__says_so_when_a_curve_cannot_be_trusted() -> None:
    rng = np.random.default_rng(2)
    scores, units = rng.uniform(0, 1, 8000), rng.integers(0, 400, 8000)
    honest = Pairs(scores, rng.random(8000) < scores, units)
    assert expected_error(reliability(honest)) < 0.04
    # Half of the queries are answered quite differently from the other half.
    torn = Pairs(scores, np.where(units % 2, rng.random(8000) < scores**4, scores > 0.1), units)
    assert expected_error(reliability(torn)) > 0.2


def test_wilson__holds_the_share_and_narrows() -> None:
    low, high = wilson(0.5, 100)
    assert low < 0.5 < high and (low, high) == pytest.approx((0.404, 0.596), abs=1e-3)
    assert wilson(1.0, 10)[0] > 0.7 and wilson(0.0, 10)[0] == pytest.approx(0, abs=1e-9)


# --- in an evaluation ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_match__is_reliable_on_queries_it_was_not_fitted_on(before: Report, kind: str) -> None:
    found = before.calibration[kind]
    assert found["error"] < 0.06
    lines = [line for line in found["reliability"] if line["pairs"] >= 100]
    assert lines
    for line in lines:
        assert line["low"] - 0.06 <= line["match"] <= line["high"] + 0.06, line


@pytest.mark.parametrize("kind", KINDS)
def test_match__means_the_same_after_a_retrain(before: Report, after: Report, kind: str) -> None:
    """The scores of one threshold differ by far; the share of right hits from it on does not."""
    moved, compared = [], 0
    for least in (0.2, 0.4, 0.6):
        scores, shares = [], []
        for report in (before, after):
            curve = Curve.read(report.calibration[kind])
            assert curve is not None
            scores.append(curve.score_at(least))
            lines = report.calibration[kind]["reliability"]
            shown = [line for line in lines if line["match"] >= least]
            pairs = sum(line["pairs"] for line in shown)
            right = sum(line["pairs"] * line["precision"] for line in shown)
            shares.append((right / max(1, pairs), pairs))
        if min(pairs for _, pairs in shares) < 50:
            continue
        compared += 1
        moved.append(abs(scores[0] - scores[1]))
        # What is shown is right at least as often as was asked for, by either checkpoint.
        for share, pairs in shares:
            assert wilson(share, pairs)[1] >= least, (kind, least, shares)
    assert compared
    assert max(moved) > 0.03, "else the test would pass without any calibration"


def test_calibration__is_in_the_report_and_in_its_table(before: Report) -> None:
    stored = json.loads(json.dumps(before.as_dict()))["calibration"]
    assert set(stored) == set(KINDS)
    for kind in KINDS:
        curve = Curve.read(stored[kind])
        assert curve is not None
        assert 0 <= curve.match(-1.0) <= curve.match(0.3) <= curve.match(1.0) <= 1
        assert f"match, {kind} queries" in before.table()


def test_calibration__too_few_queries_fit_nothing() -> None:
    small = shop(seed=3).subset(range(12))
    report = evaluate(LinearEncoder(shop(seed=1)), small, with_baselines=False)
    assert "image" not in report.calibration
