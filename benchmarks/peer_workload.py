"""What all engines are asked: vectors, filters, queries, and what exact comparison says is right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import planted

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

K = 10
SELECTIVITIES = (50.0, 10.0, 2.0, 0.2)
"""Per cent of the products that a filter leaves."""
NO_FILTER = "no filter"
_ARRAYS, _CASES = "workload.npz", "workload.json"


@dataclass(frozen=True)
class Range:
    """low <= field < high."""

    field: str
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """One filter, and what the nearest under it are."""

    given: Range | None
    bars: list[float]
    """Of each query, the score of the last of those that are right."""
    wanted: int
    """How many rows an answer can have: K, or fewer where fewer match."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The same for every engine."""

    vectors: Floats
    """[N, width], length 1."""
    asked: Floats
    """[n, width], length 1: photos of something like a product, as a shopper's is."""
    fields: Mapping[str, Numbers]
    """Of every product its number by chance, and its rank by nearness to what is asked about."""
    cases: Mapping[str, Case]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / _ARRAYS, vectors=self.vectors, asked=self.asked, **self.fields)
        cases = {
            name: {
                "given": [each.given.field, each.given.low, each.given.high]
                if each.given
                else None,
                "bars": each.bars,
                "wanted": each.wanted,
            }
            for name, each in self.cases.items()
        }
        # Last, and in one step: a workload is there whole or not at all.
        (folder / "new").write_text(json.dumps(cases))
        (folder / "new").rename(folder / _CASES)


def make(vectors: Floats, *, queries: int, seed: int = 5) -> Workload:
    """Queries beside one product; filters by chance, of the nearest to it and of the farthest."""
    random = np.random.default_rng(seed)
    products = len(vectors)
    axis = int(random.integers(products))
    order = np.argsort(-(vectors @ vectors[axis]), kind="stable")
    ranks = np.empty(products, dtype=np.int64)
    ranks[order] = np.arange(products)
    near = vectors[order[: max(1, queries)]]
    noise = random.normal(size=near.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    asked = near + 0.3 * noise
    asked = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)
    fields = {"chance": random.permutation(products).astype(np.int64), "rank": ranks}
    given: dict[str, Range | None] = {NO_FILTER: None}
    for which, field in (("by chance", "chance"), ("nearest", "rank"), ("farthest", "rank")):
        for percent in SELECTIVITIES:
            count = planted.matches(percent, products)
            low = products - count if which == "farthest" else 0
            given[f"{percent:g} % {which}"] = Range(field, low, low + count)
    cases = {name: _case(vectors, asked, fields, each) for name, each in given.items()}
    return Workload(vectors=vectors, asked=asked, fields=fields, cases=cases)


def load(folder: Path) -> Workload | None:
    """What `save` left there, if it came to its end."""
    if not (folder / _CASES).exists():
        return None
    arrays = np.load(folder / _ARRAYS)
    cases = {
        name: Case(
            given=Range(*each["given"]) if each["given"] else None,
            bars=each["bars"],
            wanted=each["wanted"],
        )
        for name, each in json.loads((folder / _CASES).read_text()).items()
    }
    fields = {name: arrays[name] for name in ("chance", "rank")}
    return Workload(vectors=arrays["vectors"], asked=arrays["asked"], fields=fields, cases=cases)


def kept(fields: Mapping[str, Numbers], given: Range) -> npt.NDArray[np.bool_]:
    """[N]: which products the filter leaves."""
    values = fields[given.field]
    return (values >= given.low) & (values < given.high)


def _case(vectors: Floats, asked: Floats, fields: Any, given: Range | None) -> Case:
    there = np.ones(len(vectors), dtype=bool) if given is None else kept(fields, given)
    wanted = min(K, int(there.sum()))
    bars = []
    for start in range(0, len(asked), 16):  # of 500,000 products not all scores at once
        scores = np.where(there, asked[start : start + 16] @ vectors.T, -np.inf)
        bars += np.partition(scores, -wanted, axis=1)[:, -wanted].tolist()
    return Case(given=given, bars=bars, wanted=wanted)
