"""Planted bad checkpoints are refused by name, equal retrains pass: evaluation and gate together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from tests.ml import linear_encoders
from tests.ml.linear_encoders import LinearEncoder
from visualsearch.lifecycle import export_checks, gate
from visualsearch.lifecycle.verdict import Verdict
from visualsearch.ml.compare import changes
from visualsearch.ml.data import Catalogue
from visualsearch.ml.evaluate import evaluate
from visualsearch.ml.report import Report

Make = Callable[[Catalogue], LinearEncoder]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return linear_encoders.shop(copies=3, seed=1)


@pytest.fixture(scope="module")
def held() -> Catalogue:
    return linear_encoders.shop(seed=2)


@pytest.fixture(scope="module")
def live(catalogue: Catalogue, held: Catalogue) -> Report:
    return evaluate(LinearEncoder(catalogue, seed=100), held)


def judge(report: Report, live: Report | None) -> Verdict:
    if live is None:
        return gate.judge(report.as_dict())
    return gate.judge(report.as_dict(), live=live.as_dict(), changes=changes(live, report))


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_gate__the_first_checkpoint_passes(live: Report) -> None:
    verdict = judge(live, None)
    assert verdict.promote, verdict.reason
    assert all(check.reason == "" for check in verdict.checks)


@pytest.mark.parametrize(
    ("make", "said", "also_without_live"),
    [
        pytest.param(
            partial(LinearEncoder, shuffled=True),
            "Look whether photos and texts belong together",
            True,
            id="shuffled texts",
        ),
        pytest.param(
            partial(LinearEncoder, examples=50),
            "clearly worse than the live checkpoint at",
            False,
            id="half trained",
        ),
        pytest.param(
            linear_encoders.Mirrored,
            "clearly worse than the live checkpoint at title MRR (text), the primary set",
            False,
            id="wrong preprocessing: channels",
        ),
        pytest.param(
            linear_encoders.Inverted, "Texts do not find their products", True, id="inverted"
        ),
        pytest.param(linear_encoders.Collapsed, "It has collapsed: products have", True, id="cone"),
        pytest.param(linear_encoders.Flat, "It has collapsed to", True, id="line"),
        pytest.param(linear_encoders.Broken, "not numbers (NaN or infinite)", True, id="NaN"),
    ],
)
def test_gate__a_planted_bad_checkpoint_is_refused_with_the_reason(
    catalogue: Catalogue,
    held: Catalogue,
    live: Report,
    make: Make,
    said: str,
    also_without_live: bool,
) -> None:
    report = evaluate(make(catalogue), held)

    verdict = judge(report, live)

    assert not verdict.promote
    assert said in verdict.reason
    alone = judge(report, None)
    if also_without_live:
        assert not alone.promote
        assert said in alone.reason


def test_gate__equal_retrains_pass_nineteen_times_in_twenty(
    catalogue: Catalogue, held: Catalogue
) -> None:
    reports = [
        evaluate(LinearEncoder(catalogue, seed=seed), held, with_baselines=False)
        for seed in range(8)
    ]
    verdicts = [judge(b, a) for a in reports for b in reports if a is not b]

    assert len(verdicts) == 56
    refused = [verdict.reason for verdict in verdicts if not verdict.promote]
    assert len(refused) <= 0.05 * len(verdicts), refused


def test_gate__after_a_bad_one_was_forced_a_good_one_passes(
    catalogue: Catalogue, held: Catalogue, live: Report
) -> None:
    bad = evaluate(LinearEncoder(catalogue, shuffled=True), held, with_baselines=False)
    assert judge(live, bad).promote


def test_gate__wrong_preprocessing_of_the_export_alone_is_seen_on_photos(
    catalogue: Catalogue, held: Catalogue, live: Report
) -> None:
    network = LinearEncoder(catalogue)
    exported = linear_encoders.Mirrored(catalogue)
    serving = export_checks.agreement(
        network.encode_image(held.pixels), exported.encode_image(held.pixels)
    )
    verdict = gate.judge(live.as_dict() | {"serving": serving})

    assert failed(verdict) == {"export on photos: cosine", "export on photos: overlap"}
    assert "preprocessing is the first thing to look at" in verdict.reason


def test_gate__a_slow_export_is_refused_and_an_unmeasured_one_is_not(live: Report) -> None:
    slow = gate.judge(live.as_dict() | {"serving": {"cosine": 1.0, "latency_ratio": 1.5}})

    assert failed(slow) == {"latency"}
    assert "1.50 times as long" in slow.reason
    assert gate.judge(live.as_dict() | {"serving": {"cosine": 1.0}}).promote


def test_effective_rank__a_sixteenth_of_the_dimensions_is_below_the_bound() -> None:
    from visualsearch.ml.metrics import health

    rng = np.random.default_rng(0)
    few = rng.standard_normal((600, 16)) @ rng.standard_normal((16, 256))
    few /= np.linalg.norm(few, axis=1, keepdims=True)

    assert health(few)["effective_rank"] < gate.MIN_EFFECTIVE_RANK
