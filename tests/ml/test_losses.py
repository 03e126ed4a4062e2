"""The losses against values worked out by hand or in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from visualsearch.ml import losses


def _unit(*shape: int) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape), dim=1)


def test_contrastive__is_symmetric_cross_entropy_without_masks() -> None:
    torch.manual_seed(0)
    queries, targets = _unit(5, 8), _unit(5, 8)
    nothing = torch.zeros(5, 5, dtype=torch.bool)
    rows = torch.arange(5)
    log_scale = torch.tensor(math.log(10.0))
    found = losses.contrastive(
        queries, targets, log_scale=log_scale, positives=rows, ignored=nothing
    )
    logits = 10 * queries @ targets.T
    expected = (
        functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.T, rows)
    ) / 2
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_contrastive__an_ignored_pair_is_no_negative() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # target 1 is as right for query 0
    rows = torch.arange(2)
    arguments = {"log_scale": torch.tensor(0.0), "positives": rows, "symmetric": False}
    punished = losses.contrastive(
        queries, targets, ignored=torch.zeros(2, 2, dtype=torch.bool), **arguments
    )
    ignored = torch.tensor([[True, True], [False, True]])
    excused = losses.contrastive(queries, targets, ignored=ignored, **arguments)
    # Query 0 has no negative left (loss 0); query 1 still chooses among two equals (log 2).
    assert float(excused) == pytest.approx(math.log(2) / 2)
    assert float(punished) == pytest.approx(math.log(2))


def test_contrastive__two_queries_may_share_a_target() -> None:
    queries, targets = torch.eye(2), torch.tensor([[1.0, 1.0], [-1.0, -1.0]]) / math.sqrt(2)
    both = torch.tensor([0, 0])
    loss = losses.contrastive(
        queries,
        targets,
        log_scale=torch.tensor(3.0),
        positives=both,
        ignored=torch.zeros(2, 2, dtype=torch.bool),
    )
    assert float(loss) < 1e-3


def test_neighbourhood__is_nothing_where_neighbours_are_as_wanted() -> None:
    torch.manual_seed(2)
    vectors = _unit(6, 8)
    log_scale = torch.tensor(math.log(5.0))
    perfect = losses.neighbourhood(vectors, 5.0 * vectors @ vectors.T, log_scale=log_scale)
    assert float(perfect) == pytest.approx(0.0, abs=1e-5)


def test_neighbourhood__wants_those_near_that_agree() -> None:
    # 0 and 1 agree, 2 and 3 agree.
    agreement = torch.tensor([[9.0, 4, 0, 0], [4, 9, 0, 0], [0, 0, 9, 4], [0, 0, 4, 9]])
    together = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    apart = together[[0, 2, 1, 3]]
    log_scale = torch.tensor(math.log(4.0))
    right, wrong = (
        float(losses.neighbourhood(vectors, agreement, log_scale=log_scale))
        for vectors in (together, apart)
    )
    # By hand: softmax of (4, 0, 0) is wanted and found, then (0, 4, 0) is found.
    share = math.exp(4) / (math.exp(4) + 2)
    assert right == pytest.approx(0.0, abs=1e-5)
    assert wrong == pytest.approx((share - (1 - share) / 2) * 4, abs=1e-4)


def test_batch_classification__has_logits_of_scale_squared() -> None:
    vectors = torch.eye(3)
    loss = losses.batch_classification(vectors, vectors, scale=torch.tensor(1.5))
    assert float(loss) == pytest.approx(-math.log(math.exp(2.25) / (math.exp(2.25) + 2)), rel=1e-5)


def test_soft_triplet__equals_the_formula() -> None:
    torch.manual_seed(1)
    queries, targets = _unit(4, 6), _unit(4, 6)
    negatives = torch.tensor([[1, 2], [2, 3], [3, 0], [0, 1]])
    found = losses.soft_triplet(queries, targets, scale=torch.tensor(2.0), negatives=negatives)
    q, t = 2 * queries.numpy(), 2 * targets.numpy()
    values = [
        np.log1p(np.exp(((q[i] - t[i]) ** 2).sum() - ((q[i] - t[n]) ** 2).sum()))
        for i in range(4)
        for n in negatives[i].tolist()
    ]
    assert float(found) == pytest.approx(float(np.mean(values)), abs=1e-5)


def test_attribute_classification__skips_missing_values() -> None:
    logits = [torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.zeros(2, 3)]
    codes = torch.tensor([[0, -1], [-1, -1]])
    assert float(losses.attribute_classification(logits, codes)) < 1e-3
    nothing = losses.attribute_classification(logits, torch.full((2, 2), -1))
    assert float(nothing) == 0.0
