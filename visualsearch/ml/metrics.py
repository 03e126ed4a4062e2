"""Retrieval figures from scores: ranks, precision, recall, MRR, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

RESAMPLES = 500


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    queries: int


def first_ranks(scores: Floats, relevant: Bools, excluded: Bools | None = None) -> Floats:
    """Rank (from 1) of the best relevant item of each query; inf where there is none.

    scores [Q, N], relevant and excluded bool [Q, N]. Items that tie with it count as before it, so
    that an encoder that gives everything one vector scores nothing; NaN is no rank at all.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if excluded is not None:
        scores = np.where(excluded, -np.inf, scores)
        relevant = relevant & ~excluded
    best = np.where(relevant, scores, -np.inf).max(axis=1, initial=-np.inf)
    before = ((scores >= best[:, None]) & ~relevant).sum(axis=1)
    return np.where(np.isfinite(best), before + 1.0, np.inf)


def top_indices(scores: Floats, k: int, excluded: Bools | None = None) -> npt.NDArray[np.int64]:
    """int64 [Q, k]: the k best of each row, best first, ties by lower index."""
    if excluded is not None:
        scores = np.where(excluded, -np.inf, scores)
    k = min(k, scores.shape[1])
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def hits_at(ranks: Floats, k: int) -> Floats:
    """1.0 where a relevant item is among the first k (what retrieval papers call R@k)."""
    return (ranks <= k).astype(float)


def reciprocal(ranks: Floats) -> Floats:
    """1 / rank of the first relevant item, 0 where there is none."""
    return 1.0 / ranks


def precision_at(top: npt.NDArray[np.int64], relevant: Bools) -> Floats:
    """Share of relevant items among each row's first k; top int [Q, k]."""
    found: Floats = np.take_along_axis(relevant, top, axis=1).mean(axis=1)
    return found


def recall_at(top: npt.NDArray[np.int64], relevant: Bools) -> Floats:
    """Share of a query's relevant items among its first k, of at most k that could be there."""
    found = np.take_along_axis(relevant, top, axis=1).sum(axis=1)
    possible = np.minimum(relevant.sum(axis=1), top.shape[1])
    return np.asarray(found / np.maximum(possible, 1))


def estimate(
    values: Floats,
    groups: Sequence[str] | None = None,
    *,
    statistic: Callable[[Floats], float] | None = None,
    seed: int = 0,
) -> Estimate:
    """Mean (or another statistic) of per-query values with its 95 % bootstrap interval.

    With `groups` the mean is macro-averaged: first within each group, then over the groups, and it
    is groups that are resampled. A group with many queries thus weighs as much as one with two.
    """
    count = len(values)
    if count == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    values = np.asarray(values, dtype=float)
    if groups is not None:
        _, inverse = np.unique(np.asarray(groups), return_inverse=True)
        values = np.bincount(inverse, weights=values) / np.bincount(inverse)
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, len(values), size=(RESAMPLES, len(values)))
    if statistic is None:
        drawn = values[samples].mean(axis=1)
        value = float(values.mean())
    else:
        drawn = np.array([statistic(values[row]) for row in samples])
        value = statistic(values)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), count)


def effective_rank(vectors: Floats) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli, 2007)."""
    singular = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
    total = singular.sum()
    if not np.isfinite(total) or total <= 0:
        return 0.0
    shares = singular[singular > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def health(vectors: Floats) -> dict[str, float | bool]:
    """What a gate asks of the gallery: finite, unit norms, spread out.

    vectors float [N, d], unit. `mean_cosine`: of all pairs of different vectors;
    `effective_rank`: as a share of what it could be, min(N, d).
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    finite = bool(np.isfinite(vectors).all())
    if not finite or len(vectors) < 2:
        return {"finite": finite, "unit_norms": False, "mean_cosine": 1.0, "effective_rank": 0.0}
    count = len(vectors)
    total = vectors.sum(axis=0)
    squares = (vectors**2).sum()
    return {
        "finite": True,
        "unit_norms": bool(np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-3),
        "mean_cosine": round(float((total @ total - squares) / (count * (count - 1))), 4),
        "effective_rank": round(effective_rank(vectors) / min(vectors.shape), 4),
    }
