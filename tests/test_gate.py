"""The gate lets a healthy checkpoint through and stops each kind of bad one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from visualsearch.lifecycle import gate
from visualsearch.ml import metrics as ml_metrics


def line(section: str, metric: str, system: str, value: float, *, spread: float = 0.02) -> Any:
    return {
        "section": section,
        "metric": metric,
        "system": system,
        "value": value,
        "low": value - spread,
        "high": value + spread,
        "queries": 400,
    }


@pytest.fixture
def report() -> dict[str, Any]:
    return {
        "gallery": 800,
        "health": {
            "finite": True,
            "unit_norms": True,
            "mean_cosine": 0.1,
            "effective_rank": 0.6,
        },
        "export_cosine": {"image.onnx": 1.0, "text.onnx": 0.9999},
        "lines": [
            line("similar", "kind P@10", "encoder", 0.8),
            line("similar", "kind P@10", "raw pixels", 0.6),
            line("similar", "colour P@10", "encoder", 0.6),
            line("similar", "colour P@10", "raw pixels", 0.4),
            line("text", "title R@10", "encoder", 0.7),
            line("text", "title MRR", "encoder", 0.5),
            line("composed", "colour R@10", "composed", 0.5),
            line("composed", "colour R@10", "image-only", 0.2),
        ],
    }


def change(report: dict[str, Any], section: str, metric: str, system: str, value: float) -> Any:
    changed = copy.deepcopy(report)
    for each in changed["lines"]:
        if (each["section"], each["metric"], each["system"]) == (section, metric, system):
            each |= line(section, metric, system, value)
    return changed


def test_judge__a_healthy_checkpoint_passes_and_the_reason_has_its_figures(
    report: dict[str, Any],
) -> None:
    verdict = gate.judge(report, live=report)

    assert verdict.promote
    assert "0.700 on average, raw pixels 0.500" in verdict.reason
    assert "0.500, by the image alone 0.200." in verdict.reason


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ({"finite": False}, "NaN"),
        ({"unit_norms": False}, "length 1"),
        ({"mean_cosine": 0.51}, "collapsed"),
        ({"mean_cosine": float("nan")}, "collapsed"),
        ({"mean_cosine": None}, "collapsed"),
        ({"effective_rank": 0.05}, "collapsed to 5% of its dimensions"),
    ],
)
def test_judge__unhealthy_vectors_are_refused(
    report: dict[str, Any], health: dict[str, Any], said: str
) -> None:
    report["health"] |= health

    verdict = gate.judge(report)

    assert not verdict.promote
    assert said in verdict.reason


def test_judge__what_the_evaluation_says_of_collapsed_vectors_is_refused(
    report: dict[str, Any],
) -> None:
    random = np.random.default_rng(0)
    vectors = np.ones((200, 32)) + 0.05 * random.normal(size=(200, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    broken = vectors.copy()
    broken[3, 5] = np.nan

    assert "collapsed" in gate.judge(report | {"health": ml_metrics.health(vectors)}).reason
    assert "NaN" in gate.judge(report | {"health": ml_metrics.health(broken)}).reason


def test_judge__what_was_not_evaluated_is_refused() -> None:
    assert not gate.judge({}).promote


def test_judge__an_export_that_differs_is_refused(report: dict[str, Any]) -> None:
    report["export_cosine"]["text.onnx"] = 0.98

    assert "text.onnx differs" in gate.judge(report).reason


def test_judge__no_better_than_raw_pixels_is_refused(report: dict[str, Any]) -> None:
    worse = change(report, "similar", "kind P@10", "encoder", 0.3)

    verdict = gate.judge(worse)

    assert not verdict.promote
    assert "raw pixels" in verdict.reason


def test_judge__behind_the_pixels_on_one_line_passes_and_is_said(report: dict[str, Any]) -> None:
    mixed = change(report, "similar", "colour P@10", "raw pixels", 0.65)

    verdict = gate.judge(mixed)

    assert verdict.promote
    assert "behind them at colour P@10" in verdict.reason


def test_judge__texts_answered_by_chance_are_refused(report: dict[str, Any]) -> None:
    assert "by chance" in gate.judge(change(report, "text", "title R@10", "encoder", 0.013)).reason


def test_judge__a_composer_that_ignores_the_words_is_refused(report: dict[str, Any]) -> None:
    deaf = change(report, "composed", "colour R@10", "composed", 0.19)

    assert "ignores the words" in gate.judge(deaf).reason


@pytest.mark.parametrize(
    ("section", "metric", "system"),
    [
        ("similar", "kind P@10", "encoder"),
        ("text", "title MRR", "encoder"),
        ("composed", "colour R@10", "composed"),
    ],
)
def test_judge__clearly_worse_than_the_live_one_is_refused(
    report: dict[str, Any], section: str, metric: str, system: str
) -> None:
    live = change(report, section, metric, system, 0.95)

    verdict = gate.judge(report, live=live)

    assert not verdict.promote
    assert f"clearly worse than the live checkpoint at {metric}" in verdict.reason


def test_judge__worse_by_what_chance_explains_passes(report: dict[str, Any]) -> None:
    live = change(report, "text", "title MRR", "encoder", 0.52)

    assert gate.judge(report, live=live).promote


def test_judge__one_that_cannot_do_what_the_live_one_does_is_refused(
    report: dict[str, Any],
) -> None:
    images_only = report | {"lines": [e for e in report["lines"] if e["section"] == "similar"]}

    assert gate.judge(images_only).promote
    verdict = gate.judge(images_only, live=report)
    assert not verdict.promote
    assert "It cannot do text search" in verdict.reason


def test_judge__figures_that_are_not_numbers_are_refused(report: dict[str, Any]) -> None:
    for bad in (None, float("nan")):
        report["lines"][5]["value"] = bad
        assert "not numbers" in gate.judge(report).reason
