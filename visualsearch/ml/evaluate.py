"""Judges an encoder on a catalogue: similar items, texts and composed queries beside baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from visualsearch.ml import baselines, metrics, queries
from visualsearch.ml.coding import MISSING, CodedCatalogue
from visualsearch.ml.data import Catalogue

Vectors = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

MAX_QUERIES = 2_000
ENCODER = "encoder"
BASELINES: dict[str, Callable[[npt.NDArray[np.uint8]], Vectors]] = {
    "raw pixels": baselines.raw_pixels,
    "colour histogram": baselines.colour_histogram,
}
# Attributes reported one by one; a catalogue may have dozens of columns.
MAX_ATTRIBUTES = 4


class ImageTextEncoder(Protocol):
    """The part of the Encoder protocol that evaluation needs."""

    width: int

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> Vectors: ...
    def encode_text(self, texts: list[str]) -> Vectors: ...
    def compose(self, image_vectors: Vectors, text_vectors: Vectors) -> Vectors: ...


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure of one system."""

    section: str
    # similar, text or composed
    metric: str
    system: str
    estimate: metrics.Estimate


@dataclass
class Report:
    """The table of an evaluation."""

    gallery: int
    # products, all of them searched
    lines: list[Line] = field(default_factory=list)
    health: dict[str, float | bool] = field(default_factory=dict)

    def value(self, section: str, metric: str, system: str = ENCODER) -> float:
        """One figure; KeyError if the catalogue could not give it."""
        for line in self.lines:
            if (line.section, line.metric, line.system) == (section, metric, system):
                return line.estimate.value
        raise KeyError((section, metric, system))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: {"gallery", "health", "lines": [{section, metric, system, value, low, …}]}."""
        return {
            "gallery": self.gallery,
            "health": self.health,
            "lines": [
                {
                    "section": line.section,
                    "metric": line.metric,
                    "system": line.system,
                    "value": round(line.estimate.value, 4),
                    "low": round(line.estimate.low, 4),
                    "high": round(line.estimate.high, 4),
                    "queries": line.estimate.queries,
                }
                for line in self.lines
            ],
        }

    def table(self) -> str:
        """The figures as text, a row a metric, a column a system, 95 % intervals in brackets."""
        parts = [f"gallery: {self.gallery} products; 95 % bootstrap intervals in brackets"]
        for section in dict.fromkeys(line.section for line in self.lines):
            lines = [line for line in self.lines if line.section == section]
            systems = list(dict.fromkeys(line.system for line in lines))
            if section == "text":  # the baselines cannot read
                systems += list(BASELINES)
            cells = {(line.metric, line.system): line.estimate for line in lines}
            parts += ["", f"{section:<30}" + "".join(f"{system:>24}" for system in systems)]
            for metric in dict.fromkeys(line.metric for line in lines):
                row = [_cell(cells.get((metric, system))) for system in systems]
                count = max(e.queries for (name, _), e in cells.items() if name == metric)
                parts.append(f"{metric:<30}" + "".join(row) + f"   {count} queries")
        parts += ["", "health: " + ", ".join(f"{k} {v}" for k, v in self.health.items())]
        return "\n".join(parts)


def evaluate(
    encoder: ImageTextEncoder,
    catalogue: Catalogue,
    *,
    with_baselines: bool = True,
    max_queries: int = MAX_QUERIES,
    seed: int = 0,
) -> Report:
    """Searches the catalogue's own products for each other; give the held-out side of a split.

    A product's score is that of its best photo; queries by image use its first photo and never
    find the product itself. Lines that the catalogue cannot give (no groups, no texts) are absent.
    """
    coded = CodedCatalogue(catalogue)
    gallery = Gallery(catalogue)
    vectors = encoder.encode_image(gallery.pixels)
    report = Report(gallery=len(catalogue.items), health=metrics.health(vectors[gallery.first]))
    systems = {ENCODER: vectors}
    if with_baselines:
        systems |= {name: baseline(gallery.pixels) for name, baseline in BASELINES.items()}
    _similar(report, coded, gallery, systems, max_queries, seed)
    # pretrained-knn has images only, and says so by its recipe.
    if getattr(getattr(encoder, "network", encoder), "text", True) is None:
        return report
    _text(report, coded, gallery, encoder, vectors, max_queries, seed)
    varied = queries.variant_attributes(coded)[:MAX_ATTRIBUTES]
    asked = [
        queries.composed_queries(coded, name, limit=2 * max_queries, seed=seed) for name in varied
    ]
    # The attribute that varies most has lines of its own; then all of them together.
    for each in [asked[0], queries.joined(asked)] if len(asked) > 1 else asked:
        _composed(report, coded, gallery, encoder, vectors, each)
    return report


class Gallery:
    """All photos of a catalogue in one array, and which belong to which product."""

    def __init__(self, catalogue: Catalogue) -> None:
        rows = [row for item in catalogue.items for row in item.images]
        counts = [len(item.images) for item in catalogue.items]
        self.pixels: npt.NDArray[np.uint8] = np.asarray(catalogue.pixels[rows])
        self.first = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)

    def scores(self, query: Vectors, vectors: Vectors) -> Vectors:
        """Cosines of queries [Q, d] with products [Q, N]: the best photo counts."""
        best: Vectors = np.maximum.reduceat(query @ vectors.T, self.first, axis=1)
        return best


def _similar(
    report: Report,
    coded: CodedCatalogue,
    gallery: Gallery,
    systems: dict[str, Vectors],
    max_queries: int,
    seed: int,
) -> None:
    count = len(coded.codes)
    chosen = np.sort(np.random.default_rng(seed).permutation(count)[:max_queries])
    itself = chosen[:, None] == np.arange(count)[None, :]
    columns = {"kind": 0}
    for column, name in enumerate(coded.names[:MAX_ATTRIBUTES], start=1):
        columns[name if name not in columns else f"{name} (attribute)"] = column
    for system, vectors in systems.items():
        scores = gallery.scores(vectors[gallery.first[chosen]], vectors)
        top = metrics.top_indices(scores, 10, itself)
        for name, column in columns.items():
            codes = coded.codes[:, column]
            has = codes[chosen] != MISSING
            if not has.any():
                continue
            # A gallery of ten or fewer returns the query itself, last: it is never right.
            right = (codes[chosen][:, None] == codes[None, :]) & ~itself
            values = metrics.precision_at(top[has], right[has])
            _add(report, "similar", f"{name} P@10", system, metrics.estimate(values))
        groups = coded.codes[:, coded.group_column]
        right = (groups[chosen][:, None] == groups[None, :]) & ~itself
        right &= (groups[chosen] != MISSING)[:, None]
        has = right.any(axis=1)
        if has.any():
            values = metrics.recall_at(top[has], right[has])
            _add(report, "similar", "same group recall@10", system, metrics.estimate(values))


def _text(
    report: Report,
    coded: CodedCatalogue,
    gallery: Gallery,
    encoder: ImageTextEncoder,
    vectors: Vectors,
    max_queries: int,
    seed: int,
) -> None:
    attribute = coded.names[0] if coded.names else ""
    sets = {
        "title": queries.title_queries(coded, limit=max_queries, seed=seed),
        "full text": queries.full_text_queries(coded, attribute, limit=max_queries, seed=seed),
        "attributes": queries.attribute_queries(coded, limit=max_queries, seed=seed),
    }
    for name, asked in sets.items():
        if not asked.texts:
            continue
        scores = gallery.scores(encoder.encode_text(asked.texts), vectors)
        ranks = metrics.first_ranks(scores, asked.right)
        for k in (1, 5, 10):
            values = metrics.hits_at(ranks, k)
            _add(report, "text", f"{name} R@{k}", ENCODER, metrics.estimate(values))
        _add(report, "text", f"{name} MRR", ENCODER, metrics.estimate(metrics.reciprocal(ranks)))
        middle = metrics.estimate(ranks, statistic=lambda v: float(np.median(v)))
        _add(report, "text", f"{name} median rank", ENCODER, middle)
        top = metrics.top_indices(scores, 10)
        if name == "attributes":
            # "Blue dress" has many answers: the share of the ten shown that are right.
            precision = metrics.estimate(metrics.precision_at(top, asked.right))
            _add(report, "text", "attributes P@10", ENCODER, precision)


def _composed(
    report: Report,
    coded: CodedCatalogue,
    gallery: Gallery,
    encoder: ImageTextEncoder,
    vectors: Vectors,
    asked: queries.ComposedQueries,
) -> None:
    """Image-only, text-only, their sum and the composer side by side: the gap is what counts."""
    image = vectors[gallery.first[asked.references]]
    text = encoder.encode_text(asked.texts)
    total = image + text
    systems = {
        "composed": encoder.compose(image, text),
        "image-only": image,
        "text-only": text,
        "sum": total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12),
    }
    itself = asked.references[:, None] == np.arange(len(coded.codes))[None, :]
    for system, query in systems.items():
        ranks = metrics.first_ranks(gallery.scores(query, vectors), asked.right, itself)
        for k in (1, 10, 50):
            values = metrics.hits_at(ranks, k)
            figure = metrics.estimate(values, asked.groups)
            _add(report, "composed", f"{asked.attribute} R@{k}", system, figure)


def _add(
    report: Report, section: str, metric: str, system: str, estimate: metrics.Estimate
) -> None:
    report.lines.append(Line(section=section, metric=metric, system=system, estimate=estimate))


def _cell(estimate: metrics.Estimate | None) -> str:
    if estimate is None:
        return f"{'–':>24}"
    form = "{:.1f} [{:.1f}, {:.1f}]" if estimate.value >= 1.5 else "{:.3f} [{:.3f}, {:.3f}]"
    return f"{form.format(estimate.value, estimate.low, estimate.high):>24}"
