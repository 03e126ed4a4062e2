"""Retrieval figures from scores: ranks, precision, recall, MRR, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

RESAMPLES = 1_000


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
    """int64 [Q, k]: the k best of each row, best first, ties by lower index, NaN last."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if excluded is not None:
        scores = np.where(excluded, -np.inf, scores)
    k = min(k, scores.shape[1])
    if k == 0:
        return np.zeros((len(scores), 0), dtype=np.int64)
    # Only what reaches the k-th best score is sorted: a gallery may have a hundred thousand.
    last = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    top = np.empty((len(scores), k), dtype=np.int64)
    for row, (line, lowest) in enumerate(zip(scores, last, strict=True)):
        among = np.flatnonzero(line >= lowest)
        top[row] = among[np.argsort(-line[among], kind="stable")[:k]]
    return top


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


def chance_hits_at(right: npt.NDArray[np.int64], gallery: int, k: int) -> Floats:
    """What R@k is on average for a random order: 1 - C(N - R, k) / C(N, k).

    right int [Q], the number R of right items of each query; `gallery` is N.
    """
    missed = np.ones(len(right))
    for drawn in range(min(k, gallery)):
        missed *= np.clip(gallery - right - drawn, 0, None) / (gallery - drawn)
    return np.asarray(1.0 - missed)


def estimate(
    values: Floats,
    units: Sequence[str] | None = None,
    *,
    macro: bool = True,
    statistic: Callable[[Floats], float] | None = None,
    seed: int = 0,
) -> Estimate:
    """Mean (or another statistic) of per-query values with its 95 % bootstrap interval.

    `units` [Q] are what is resampled instead of queries: those of one design are not independent.
    With `macro` the mean is taken within each unit first, then over the units, so that one with
    many queries weighs as much as one with two.
    """
    count = len(values)
    if count == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    values = np.asarray(values, dtype=float)
    if statistic is not None:
        rng = np.random.default_rng(seed)
        samples = rng.integers(0, count, size=(RESAMPLES // 4, count))
        drawn = np.array([statistic(values[row]) for row in samples])
        value = statistic(values)
    else:
        sums, sizes = _by_unit(values, units, macro=macro)
        drawn = _resampled_means(sums, sizes, seed=seed)
        value = float(sums.sum() / sizes.sum())
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), count)


@dataclass(frozen=True)
class Difference:
    """How much two systems differ on the same queries, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    error: float
    # standard error
    queries: int
    units: int


def paired(
    before: Floats,
    after: Floats,
    units: Sequence[str] | None = None,
    *,
    macro: bool = True,
    seed: int = 0,
) -> Difference:
    """Mean of `after` - `before`, both [Q] and of the same queries in the same order.

    What is hard about a query is hard for both, so a difference is known far better than either
    figure. `units` and `macro` as in `estimate`; the standard error is that of a ratio of sums over
    units (Cochran, Sampling Techniques, 6.4), or of a mean where every query is a unit.
    """
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    if len(change) == 0:
        nothing = float("nan")
        return Difference(nothing, nothing, nothing, nothing, 0, 0)
    sums, sizes = _by_unit(change, units, macro=macro)
    value = float(sums.sum() / sizes.sum())
    residuals = sums - value * sizes
    count = len(sums)
    # One unit says nothing of how units differ.
    error = math.inf
    if count > 1:
        error = math.sqrt(float((residuals**2).sum()) * count / (count - 1)) / float(sizes.sum())
    low, high = np.percentile(_resampled_means(sums, sizes, seed=seed), [2.5, 97.5])
    return Difference(value, float(low), float(high), error, len(change), count)


def _by_unit(values: Floats, units: Sequence[str] | None, *, macro: bool) -> tuple[Floats, Floats]:
    """Sum of values and number of values of each unit; with `macro` mean and one."""
    if units is None:
        return values, np.ones(len(values))
    _, inverse = np.unique(np.asarray(units), return_inverse=True)
    sums = np.asarray(np.bincount(inverse, weights=values), dtype=np.float64)
    sizes = np.asarray(np.bincount(inverse), dtype=np.float64)
    return (sums / sizes, np.ones(len(sums))) if macro else (sums, sizes)


def _resampled_means(sums: Floats, sizes: Floats, *, seed: int) -> Floats:
    drawn = _draws(len(sums), seed)
    means: Floats = (drawn @ sums) / (drawn @ sizes)
    return means


@lru_cache(maxsize=2)
def _draws(count: int, seed: int) -> npt.NDArray[np.float64]:
    """float [RESAMPLES, count]: how often each unit is in each resample.

    The lines of one query set share it; a product of matrices is far quicker than gathering.
    """
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, count, size=(RESAMPLES, count))
    samples += (np.arange(RESAMPLES) * count)[:, None]
    times = np.bincount(samples.ravel(), minlength=RESAMPLES * count)
    return times.reshape(RESAMPLES, count).astype(np.float64)


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
