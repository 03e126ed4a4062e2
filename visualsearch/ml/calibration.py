"""What a score means: isotonic curves from cosines to the share of right hits, on held-out products.

A cosine of .4 is a near copy for one network and chance for the next; a shop's threshold would have
to be found anew after every training. The curve is fitted when a checkpoint is judged and kept with
it, for each kind of query, so that "at least .6" means the same before and after.
"""

from __future__ import annotations

import itertools
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from visualsearch.ml.coding import Codes, fulfils
from visualsearch.ml.exact_search import Gallery, Vectors
from visualsearch.ml.metrics import top_indices

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

SHOWN, DEEPER = 10, 10
"""Pairs of a query: the first hits, and as many from anywhere behind them, which show what a low
score means."""
MOST_QUERIES = 500
MIN_QUERIES = 20
"""Of fewer queries nothing is fitted."""
KNOTS = 24
"""Runs of pairs with similar scores that the curve goes through."""
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Pairs:
    """P hits: what each scored, whether it was right, and which query it answers."""

    scores: Floats
    right: Bools
    units: npt.NDArray[np.int64]
    # [P] number of the design that was asked for: two halves share none


@dataclass(frozen=True)
class Reliability:
    """The hits whose match lies between two levels, of queries that the curve was not fitted on."""

    match: float
    # mean
    precision: float
    low: float
    high: float
    # 95 % interval (Wilson 1927)
    pairs: int


@dataclass
class Calibration:
    """The pairs of one evaluation by kind of query, and the curves through them."""

    pairs: defaultdict[str, list[Pairs]] = field(default_factory=lambda: defaultdict(list))

    def add(
        self,
        kind: str,
        gallery: Gallery,
        query: Vectors,
        vectors: Vectors,
        wanted: Codes,
        *,
        units: Sequence[str],
        excluded: Indices | None = None,
        codes: Codes | None = None,
        seed: int = 0,
    ) -> None:
        """Take the pairs of queries [Q, d] with the photos' `vectors`; arguments as `Gallery.search`."""
        rng = np.random.default_rng(seed)
        if len(query) > MOST_QUERIES:
            rows = np.sort(rng.choice(len(query), MOST_QUERIES, replace=False))
            query, wanted, units = query[rows], wanted[rows], [units[i] for i in rows]
            excluded = None if excluded is None else excluded[rows]
        numbers = np.array([zlib.crc32(unit.encode()) for unit in units], dtype=np.int64)
        for start in range(0, len(query), 64):
            rows = np.arange(start, min(start + 64, len(query)))
            scores = gallery.scores(query[rows], vectors)
            right = fulfils(wanted[rows], gallery.codes if codes is None else codes)
            out = None
            if excluded is not None:
                out = excluded[rows][:, None] == np.arange(scores.shape[1])[None, :]
            chosen = top_indices(scores, SHOWN, out)
            behind = rng.integers(0, scores.shape[1], (len(rows), DEEPER))
            chosen = np.concatenate([chosen, behind], axis=1)
            kept = np.ones(chosen.shape, bool)
            if excluded is not None:
                kept &= chosen != excluded[rows][:, None]
            self.pairs[kind].append(
                Pairs(
                    np.take_along_axis(scores, chosen, axis=1)[kept],
                    np.take_along_axis(right, chosen, axis=1)[kept],
                    np.repeat(numbers[rows], kept.sum(axis=1)),
                )
            )

    def as_dict(self) -> dict[str, Any]:
        """{kind: {"scores", "matches", "pairs", "error", "reliability": [...]}} for JSON."""
        found = {}
        for kind in self.pairs:
            pairs = self._joined(kind)
            if len(np.unique(pairs.units)) < MIN_QUERIES or not np.isfinite(pairs.scores).all():
                continue
            scores, matches = fit(pairs.scores, pairs.right)
            lines = reliability(pairs)
            found[kind] = {
                "scores": [round(float(score), 5) for score in scores],
                "matches": [round(float(match), 5) for match in matches],
                "pairs": len(pairs.scores),
                "error": round(expected_error(lines), 4),
                "reliability": [
                    {
                        "match": round(line.match, 4),
                        "precision": round(line.precision, 4),
                        "low": round(line.low, 4),
                        "high": round(line.high, 4),
                        "pairs": line.pairs,
                    }
                    for line in lines
                ],
            }
        return found

    def _joined(self, kind: str) -> Pairs:
        parts = self.pairs[kind]
        return Pairs(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.right for part in parts]),
            np.concatenate([part.units for part in parts]),
        )


def fit(scores: Floats, right: Bools) -> tuple[Floats, Floats]:
    """The knots of a curve that never falls: (scores [K] rising, matches [K] from 0 to 1).

    Pool adjacent violators (Ayer et al. 1955) over runs of equal size. Each run is drawn a little to
    the share of all (as by one more pair of each kind), so that nothing is ever quite certain.
    """
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, min(KNOTS, max(1, len(order) // 20)))
    blocks = [
        (float(scores[part].mean()), (float(right[part].sum()) + 0.5) / (len(part) + 1), len(part))
        for part in parts
    ]
    merged: list[tuple[float, float, int]] = []
    for block in blocks:
        merged.append(block)
        while len(merged) > 1 and merged[-2][1] >= merged[-1][1]:
            (one, share, size), (other, more, count) = merged[-2], merged[-1]
            total = size + count
            merged[-2:] = [
                ((one * size + other * count) / total, (share * size + more * count) / total, total)
            ]
    return np.array([x for x, _, _ in merged]), np.array([y for _, y, _ in merged])


def reliability(pairs: Pairs) -> list[Reliability]:
    """How often hits are right that a curve fitted on the other half of the queries calls so."""
    halves = pairs.units % 2 == 0
    matches = np.zeros(len(pairs.scores))
    for half in (halves, ~halves):
        if half.any() and (~half).any():
            knots = fit(pairs.scores[half], pairs.right[half])
            matches[~half] = np.interp(pairs.scores[~half], *knots)
    found = []
    for low, high in itertools.pairwise(LEVELS):
        inside = (matches >= low) & ((matches < high) | (high == 1.0))
        count = int(inside.sum())
        if count:
            share = float(pairs.right[inside].mean())
            found.append(
                Reliability(
                    float(matches[inside].mean()), share, *wilson(share, count), pairs=count
                )
            )
    return found


def expected_error(lines: Sequence[Reliability]) -> float:
    """Mean distance of match and precision, each level by its pairs (expected calibration error)."""
    total = sum(line.pairs for line in lines)
    return sum(line.pairs * abs(line.match - line.precision) for line in lines) / max(1, total)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` trials."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return float(middle - reach), float(middle + reach)


def table(calibration: Mapping[str, Any]) -> str:
    """The reliability of each kind as text: a row a level of match."""
    parts = []
    for kind, found in calibration.items():
        parts += [
            "",
            f"match, {kind} queries: {found['pairs']} pairs, expected error {found['error']:.3f}",
            f"{'match':>10}{'right':>10}  95 % interval",
        ]
        parts += [
            f"{line['match']:>10.3f}{line['precision']:>10.3f}  "
            f"[{line['low']:.3f}, {line['high']:.3f}]   {line['pairs']} pairs"
            for line in found["reliability"]
        ]
    return "\n".join(parts)
