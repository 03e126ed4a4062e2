"""Comparing two evaluations: pairs belong together, and chance is told from a change."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ml.catalogues import coloured_shapes
from tests.ml.test_evaluate import Oracle
from visualsearch.exceptions import TrainingError
from visualsearch.ml import compare, metrics
from visualsearch.ml.evaluate import evaluate
from visualsearch.ml.report import Report


def report_of(keys: list[str], values: np.ndarray) -> Report:
    report = Report(gallery=100)
    report.add("text", "title MRR", "encoder", values, keys=keys, units=keys)
    return report


def test_changes__pairs_by_key_and_not_by_place() -> None:
    values = np.random.default_rng(0).random(50)
    keys = [f"q{i}" for i in range(50)]
    before = report_of(keys, values)
    after = report_of([*keys[::-1], "new"], np.append(values[::-1] + 0.01, 0.0))

    (change,) = compare.changes(before, after)

    # The same queries moved by .01 each: known exactly, whatever the spread between queries.
    assert change.difference.value == pytest.approx(0.01)
    assert change.difference.error == pytest.approx(0, abs=1e-9)
    assert change.difference.queries == 50
    assert change.is_significant


def test_changes__a_paired_interval_is_narrower_than_two_figures_give() -> None:
    rng = np.random.default_rng(1)
    difficulty = rng.random(400)
    keys = [f"q{i}" for i in range(400)]
    before = report_of(keys, difficulty + 0.05 * rng.standard_normal(400))
    after = report_of(keys, difficulty + 0.05 * rng.standard_normal(400))

    (change,) = compare.changes(before, after)

    single = metrics.estimate(difficulty)
    assert change.difference.high - change.difference.low < (single.high - single.low) / 3
    assert not change.is_significant


def test_paired__holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        # Ten queries of a design move together: queries alone would look far too certain.
        moves = np.repeat(rng.normal(0.02, 0.1, 60), 10)
        units = [str(i // 10) for i in range(600)]
        found = metrics.paired(np.zeros(600), moves, units, macro=False, seed=0)
        inside += found.low <= 0.02 <= found.high
    assert 178 <= inside <= 199


def test_paired__one_unit_says_nothing() -> None:
    found = metrics.paired(np.zeros(5), np.ones(5), ["a"] * 5)
    assert found.value == 1.0
    assert found.error == np.inf


def test_changes__two_catalogues_have_nothing_in_common() -> None:
    one, other = report_of(["a"], np.ones(1)), report_of(["b"], np.ones(1))
    with pytest.raises(TrainingError, match="no query in common"):
        compare.changes(one, other)


def test_changes__an_encoder_equals_itself_on_every_line() -> None:
    catalogue = coloured_shapes(designs=2)
    first, second = (evaluate(Oracle(catalogue), catalogue) for _ in range(2))

    found = compare.changes(first, second)

    assert {(each.section, each.metric) for each in found} >= {
        ("similar", "kind + colour P@10"),
        ("text", "colour query P@10"),
        ("composed", "colour gap"),
        ("wild", "wild photo (mild) R@1"),
    }
    assert all(each.difference.value == 0 for each in found)
    table = compare.difference_table(found, names=("v1", "v2"))
    assert "0 of" in table
    assert "colour R@10 (direction)" in table


def test_joint_table__has_a_column_a_checkpoint_and_each_baseline_once() -> None:
    catalogue = coloured_shapes(designs=2)
    report = evaluate(Oracle(catalogue), catalogue)
    table = compare.joint_table({"v1": report, "v2": report})
    head = next(line for line in table.splitlines() if line.startswith("similar"))
    assert head.split()[1:] == ["v1", "v2", "raw", "pixels", "colour", "histogram"]
