"""The figures of Fashion-IQ as papers report them: R@10 and R@50 a category, over two galleries."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visualsearch.exceptions import (
    EncoderUnavailableError,
    NotEnoughDataError,
    QueryError,
    TrainingError,
)
from visualsearch.ml import metrics, phrases
from visualsearch.ml.composed_figures import IMAGE_ONLY, SUM, TEXT_ONLY
from visualsearch.ml.data import Triplet
from visualsearch.ml.exact_search import Vectors
from visualsearch.ml.fashion_iq import CATEGORIES, FashionIQ, Part
from visualsearch.ml.judge import ImageTextEncoder
from visualsearch.ml.metrics import Estimate, Floats
from visualsearch.ml.report import COMPOSED, Report

SPLIT = "val"
"""The last one with captions; those of the test split were never published."""
CUTOFFS = (10, 50)
ORIGINAL, VAL = "original", "val"
PROTOCOLS = {
    ORIGINAL: "every product of the category's split file",
    VAL: "only the references and targets of the category's triplets (VAL, CoSMo)",
}
QUERIES_AT_A_TIME = 512


def evaluate_fashion_iq(encoder: ImageTextEncoder, data: FashionIQ) -> Report:
    """R@10 and R@50 of each category, their means over categories, and the mean of the two.

    Composed, image-only, text-only and their sum side by side. Both captions are joined by "and"
    in the order of the file, and the reference stays in the gallery: both as in CLIP4Cir's code.
    Raises NotEnoughDataError without images of the val split, TrainingError for an encoder that
    cannot compose.
    """
    parts = {
        category: data.parts[category, SPLIT]
        for category in CATEGORIES
        if (category, SPLIT) in data.parts and data.parts[category, SPLIT].triplets
    }
    if not parts:
        raise NotEnoughDataError(f"No triplet of Fashion-IQ's {SPLIT} split has both its images.")
    used = sorted(set().union(*(gallery_of(part, ORIGINAL) for part in parts.values())))
    rows = np.full(len(data.catalogue.items), -1, dtype=np.int64)
    rows[used] = np.arange(len(used))
    photos = [data.catalogue.items[place].images[0] for place in used]
    vectors = encoder.encode_image(np.asarray(data.catalogue.pixels[photos]))
    report = Report(gallery=len(used), health=metrics.health(vectors))
    galleries = {
        (protocol, category): rows[gallery_of(part, protocol)]
        for protocol in PROTOCOLS
        for category, part in parts.items()
    }
    found: dict[tuple[str, str, str], list[Floats]] = {}
    for category, part in parts.items():
        for system, queries in _systems(encoder, vectors, rows, part).items():
            targets = rows[[each.target for each in part.triplets]]
            for protocol in PROTOCOLS:
                ranks = _ranks(queries, vectors, targets, galleries[protocol, category])
                hits = [metrics.hits_at(ranks, k) for k in CUTOFFS]
                found[protocol, system, category] = [*hits, np.mean(hits, axis=0)]
    names = [*(f"R@{k}" for k in CUTOFFS), "mean of R@10 and R@50"]
    systems = list(dict.fromkeys(system for _, system, _ in found))
    for protocol in PROTOCOLS:
        section = f"Fashion-IQ ({protocol})"
        for system in systems:
            for place, name in enumerate(names):
                for category, part in parts.items():
                    values = found[protocol, system, category][place]
                    keys = [_key(data, each) for each in part.triplets]
                    metric = f"{category} {name}"
                    report.add(section, metric, system, values, keys=keys, units=keys)
                figures = [line.estimate for line in report.lines[-len(parts) :]]
                report.add_estimate(section, f"average {name}", system, _mean(figures))
    return report


def gallery_of(part: Part, protocol: str) -> list[int]:
    """The places that a query of `part` is searched among."""
    named = {place for each in part.triplets for place in (each.reference, each.target)}
    return sorted(named | set(part.gallery) if protocol == ORIGINAL else named)


def _key(data: FashionIQ, triplet: Triplet) -> str:
    names = (data.catalogue.items[place].id for place in (triplet.reference, triplet.target))
    return " | ".join([*names, *triplet.sentences])


def _systems(
    encoder: ImageTextEncoder, vectors: Vectors, rows: npt.NDArray[np.int64], part: Part
) -> dict[str, Vectors]:
    image = vectors[rows[[each.reference for each in part.triplets]]]
    try:
        text = encoder.encode_text([phrases.join(each.sentences) for each in part.triplets])
        composed = encoder.compose(image, text)
    except (QueryError, EncoderUnavailableError) as error:
        raise TrainingError(f"Fashion-IQ asks for composed queries: {error}") from error
    total = image + text
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return {COMPOSED: composed, IMAGE_ONLY: image, TEXT_ONLY: text, SUM: total}


def _ranks(
    queries: Vectors,
    vectors: Vectors,
    targets: npt.NDArray[np.int64],
    gallery: npt.NDArray[np.int64],
) -> Floats:
    """Rank of each query's target among the rows `gallery` of `vectors`."""
    parts = []
    for start in range(0, len(queries), QUERIES_AT_A_TIME):
        some = slice(start, start + QUERIES_AT_A_TIME)
        scores = queries[some] @ vectors[gallery].T
        parts.append(metrics.first_ranks(scores, targets[some, None] == gallery[None, :]))
    return np.concatenate(parts)


def _mean(figures: Sequence[Estimate]) -> Estimate:
    """The mean over categories, each as heavy as another; their errors are independent."""
    value = sum(each.value for each in figures) / len(figures)
    reach = math.hypot(*((each.high - each.low) / 2 for each in figures)) / len(figures)
    low, high = max(0.0, value - reach), min(1.0, value + reach)
    return Estimate(value, low, high, sum(each.queries for each in figures))
