"""Figures of "like this but…" beside the photo alone, the words alone and their sum."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from visualsearch.exceptions import EncoderUnavailableError, QueryError
from visualsearch.ml import metrics, modifications
from visualsearch.ml.exact_search import Vectors
from visualsearch.ml.judge import Judge
from visualsearch.ml.modifications import ComposedQueries
from visualsearch.ml.report import COMPOSED
from visualsearch.ml.triplet_queries import file_queries

IMAGE_ONLY, TEXT_ONLY, SUM, DIRECTION = "image-only", "text-only", "sum", "direction"
MAX_ATTRIBUTES = 4
"""Attributes whose changes are asked for; a catalogue may have dozens of columns."""
MIN_PAIRS = 20
"""Fewer pairs of titles say nothing."""


def composed(judge: Judge) -> None:
    limit = 2 * judge.limit
    varied = modifications.variant_attributes(judge.coded)[:MAX_ATTRIBUTES]
    asked = [
        modifications.variant_queries(
            judge.coded, name, limit=limit, seed=judge.seed, among=judge.among
        )
        for name in varied
    ]
    # The attribute that varies most has lines of its own; then all of them together.
    sets = asked[:1]
    if len(asked) > 1:
        every = modifications.joined(asked, name="any attribute", limit=limit, seed=judge.seed)
        sets.append(every)
    sets += [
        each
        for each in modifications.title_word_queries(
            judge.coded, limit=limit, seed=judge.seed, among=judge.among
        )
        if len(each) >= MIN_PAIRS
    ]
    if judge.published:
        sets.append(
            file_queries(
                judge.coded, judge.published, limit=limit, seed=judge.seed, among=judge.among
            )
        )
    for each in sets:
        if len(each):
            _lines(judge, each)


def _lines(judge: Judge, asked: ComposedQueries) -> None:
    """Image-only, text-only, their sum and the composer side by side: the gap is what counts."""
    section = f"composed{judge.suffix}"
    hits: dict[str, npt.NDArray[np.floating]] = {}
    add = functools.partial(judge.report.add, section, keys=asked.keys, units=asked.units)
    for system, query in _systems(judge, asked).items():
        with judge.timed(section):
            found = judge.gallery.search(
                query,
                judge.vectors,
                {"": asked.wanted},
                excluded=asked.references,
                codes=asked.codes,
            )[""]
        with judge.timed("figures"):
            figures = {f"{asked.name} R@{k}": metrics.hits_at(found.ranks, k) for k in (1, 10, 50)}
            figures[f"{asked.name} MRR"] = metrics.reciprocal(found.ranks)
            hits[system] = figures[f"{asked.name} R@10"]
            for metric, values in figures.items():
                add(metric, system, values, macro=True)
        if system == COMPOSED and not judge.suffix:
            judge.calibration.add(
                "composed",
                judge.gallery,
                query,
                judge.vectors,
                asked.wanted,
                units=asked.keys,
                excluded=asked.references,
                codes=asked.codes,
                seed=judge.seed,
            )
        if system == COMPOSED:
            rows = np.arange(len(asked))
            judge.remember(section, asked.name, asked.references, asked.texts, found, rows)
    if COMPOSED in hits:
        # A query that the photo alone or the words alone answer asks nothing of composition.
        single = max(
            (IMAGE_ONLY, TEXT_ONLY),
            key=lambda name: judge.report.value(section, f"{asked.name} R@10", name),
        )
        gap = hits[COMPOSED] - hits[single]
        add(f"{asked.name} gap", COMPOSED, gap, macro=True)


def _systems(judge: Judge, asked: ComposedQueries) -> dict[str, Vectors]:
    with judge.timed(f"composed{judge.suffix}"):
        image = judge.vectors[judge.gallery.first[asked.references]]
        encode = functools.partial(_encode_once, judge)
        text = encode(asked.texts)
        systems = {IMAGE_ONLY: image, TEXT_ONLY: text, SUM: _unit(image + text)}
        # Needs no training: what the catalogue's own words say of before and after.
        systems[DIRECTION] = _unit(image + encode(asked.after) - encode(asked.before))
        try:
            return {COMPOSED: judge.encoder.compose(image, text), **systems}
        except (QueryError, EncoderUnavailableError):
            return systems  # the recipe has no composer


def _encode_once(judge: Judge, texts: list[str]) -> Vectors:
    """As `encode_text`, each distinct text once: a few dozen sentences make thousands."""
    distinct = list(dict.fromkeys(texts))
    places = {text: place for place, text in enumerate(distinct)}
    vectors: Vectors = judge.encoder.encode_text(distinct)[[places[text] for text in texts]]
    return vectors


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
