"""Recall of a checkpoint's HNSW index, measured against exact search by kind of query, and the ef_search it takes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from django.utils import timezone

from visualsearch import encoding
from visualsearch.conf import get_settings
from visualsearch.exceptions import VisualSearchError
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, WordSearch
from visualsearch.search import nearest, scan_costs
from visualsearch.search.nearest import Kind, NearestProducts
from visualsearch.search.understanding import understand
from visualsearch.tables.stored_vectors import Vector
from visualsearch.upkeep import gallery as galleries
from visualsearch.upkeep.gallery import Gallery

logger = logging.getLogger(__name__)

K = 10
"""Recall is the share of the truly nearest K products that are among the K found."""
GOAL = 0.995
"""The smallest ef_search of the ladder that reaches this is chosen.

It is a mean over the catalogue, and what is promised, .97, holds for each corner of it: with .98
sentences about some clusters were found at .963, and by a probe that measured .990 itself at .925 to
.978, where twice the ef_search found .975 to .995 (benchmarks.selectivity, 100,000 products).
"""
LEAST = 0.95
"""Below this the index should be built anew."""
QUERIES = 200
"""Queries of each kind; the figure's standard error is then below .005 at the goal."""
LADDER = (100, 150, 200, 300, 400, 600, 800, nearest.EF_SEARCH_MOST)
"""With 50, 3 corners of 40 of a catalogue of 20,000 missed one of the ten nearest photos, with 100 one, and
a search took no longer."""
LAST_SEARCHES = 2000
"""Searches by words that are looked through for different texts."""
TIE = 1e-5
"""Scores that differ by less are equal: the order of additions is not the same everywhere."""
PRODUCT_BYTES = 64 * 1024 * 1024


def probe(checkpoint: Checkpoint, *, queries: int = QUERIES) -> dict[str, Any]:
    """Measure recall@10 by kind of query, choose the ef_search of each, and keep both with the row.

    What is kept: {"measured_at", "embeddings", "kinds": {kind: {"ef_search", "recall", "queries"}},
    "skipped": {kind or "all": why}}. Queries are real ones: stored vectors of the shop's products,
    their titles, up to half as many texts that were searched for last, and vectors changed by words of
    other products, encoded as a worker does.
    Each goes through the statement that searches use, over the whole index. A setting EF_SEARCH_*
    is measured instead of the ladder. A gallery so small that every search is exact is skipped.
    """
    found: dict[str, Any] = {
        "measured_at": timezone.now().isoformat(timespec="seconds"),
        "kinds": {},
        "skipped": {},
    }
    if scan_costs.is_always_exact(checkpoint):
        found["skipped"]["all"] = (
            "every search compares all vectors: there are no more than "
            f"{scan_costs.always_compared(checkpoint):,}"
            if checkpoint.has_ann_index
            else "every search compares all vectors: there is no HNSW index"
        )
    else:
        gallery = galleries.load(checkpoint)
        found["embeddings"] = len(gallery.positions)
        for kind, sources, vectors, why in _queries(checkpoint, gallery, queries):
            if vectors is None:
                found["skipped"][kind.value] = why
                continue
            bars = _bars(gallery, vectors, sources if kind is Kind.IMAGE else None)
            found["kinds"][kind.value] = _choose(checkpoint, kind, gallery, sources, vectors, bars)
    _keep(checkpoint, found)
    return found


def probe_if_possible(checkpoint: Checkpoint) -> dict[str, Any]:
    """As `probe`; what cannot be measured is logged and ends neither a training run nor a sweep."""
    try:
        found = probe(checkpoint)
    except VisualSearchError as error:
        logger.warning("The recall of checkpoint %s was not measured: %s", checkpoint, error)
        return checkpoint.recall
    for kind, figure in too_low(checkpoint).items():
        logger.warning(
            "Searches by %s find %.3f of the nearest products by checkpoint %s, even with ef_search "
            "%d: build its index anew, `visualsearch_doctor --fix`.",
            *(kind, figure["recall"], checkpoint, figure["ef_search"]),
        )
    return found


def too_low(checkpoint: Checkpoint) -> dict[str, Any]:
    """What was measured below LEAST, by kind."""
    kinds = checkpoint.recall.get("kinds", {})
    return {kind: each for kind, each in kinds.items() if each["recall"] < LEAST}


def recall(
    checkpoint: Checkpoint,
    kind: Kind,
    *,
    gallery: Gallery,
    sources: Sequence[int],
    vectors: Vector,
    bars: npt.NDArray[np.float32],
    ef: int,
) -> float:
    """Share of the true nearest K that searches with `ef` find, over the rows of `vectors`.

    A hit counts when it is no farther than the K-th of the exact search: among equals, any will do.
    """
    allowed = get_index().get_queryset()
    right = 0
    for source, vector, bar in zip(sources, vectors, bars, strict=True):
        search = NearestProducts(
            checkpoint=checkpoint, vector=vector, kind=kind, allowed=allowed, ef=ef
        )
        matches = search.block(0).matches
        if kind is Kind.IMAGE:  # "similar products" leaves the product itself out
            own = gallery.product_ids[source]
            matches = tuple(match for match in matches if match.product_id != own)
        right += sum((match.score or 0.0) >= float(bar) - TIE for match in matches[:K])
    wanted = len(vectors) * min(K, len(gallery) - (kind is Kind.IMAGE))
    return min(1.0, right / wanted) if wanted else 1.0


def _choose(
    checkpoint: Checkpoint,
    kind: Kind,
    gallery: Gallery,
    sources: Sequence[int],
    vectors: Vector,
    bars: npt.NDArray[np.float32],
) -> dict[str, Any]:
    """The smallest ef_search of the ladder that reaches the goal, or the one with the best recall."""
    settings = get_settings()
    given = settings.EF_SEARCH_IMAGE if kind is Kind.IMAGE else settings.EF_SEARCH_TEXT
    ladder = LADDER if given is None else (nearest.ef_search(checkpoint, kind),)
    best: dict[str, Any] = {}
    for ef in ladder:
        share = recall(
            checkpoint,
            kind,
            gallery=gallery,
            sources=sources,
            vectors=vectors,
            bars=bars,
            ef=ef,
        )
        if not best or share > best["recall"]:
            best = {"ef_search": ef, "recall": round(share, 4), "queries": len(vectors)}
        if share >= GOAL:
            break
    return best


def _queries(
    checkpoint: Checkpoint, gallery: Gallery, count: int
) -> Iterator[tuple[Kind, Sequence[int], Vector | None, str]]:
    """Kind, the products they are made of, unit vectors [n, width] as searches send them, or why none."""
    random = np.random.default_rng(0)
    chosen = random.permutation(len(gallery))[:count].tolist()
    images = gallery.vectors[gallery.starts[chosen]].astype(np.float32)
    yield Kind.IMAGE, chosen, images, ""
    index = get_index()
    wanted = [gallery.product_ids[number] for number in chosen]
    products = index.with_related(index.get_queryset().filter(pk__in=wanted)).in_bulk()
    there = [n for n in chosen if gallery.product_ids[n] in products]
    rows = [products[gallery.product_ids[number]] for number in there]
    titles = [index.get_title(product)[: get_settings().TEXT_MAX_LENGTH] for product in rows]
    asked = _searched(most=len(titles) // 2)
    texts = [*asked, *titles[len(asked) :]]
    # "Like this but…" asks for what another product is; where none has attributes, for its title.
    changes = [
        next(iter(index.get_attributes(other).values()), title)
        for other, title in zip(rows[1:] + rows[:1], titles[1:] + titles[:1], strict=True)
    ]
    images = gallery.vectors[gallery.starts[there]].astype(np.float32)
    for kind in (Kind.TEXT, Kind.COMPOSED):
        try:
            encoder = encoding.bulk_encoder(checkpoint)
            if kind is Kind.TEXT:
                vectors = encoder.encode_text(texts)
            else:
                vectors = encoder.compose(images, encoder.encode_text(changes))
        except VisualSearchError as error:  # a recipe that reads no text
            yield kind, there, None, error.message
            continue
        yield kind, there, vectors, ""


def _searched(*, most: int) -> list[str]:
    """What was searched for last and found, each text once, as it is encoded: without a price or a size.

    Shoppers' words lie farther from photos than titles do.
    """
    last = WordSearch.objects.filter(hits__gt=0).order_by("-pk").values_list("words", flat=True)
    index, length = get_index(), get_settings().TEXT_MAX_LENGTH
    texts: dict[str, None] = {}
    for words in dict.fromkeys(last[:LAST_SEARCHES]):
        if len(texts) == most:
            break
        if text := understand(index, words, reference=None).text[:length]:
            texts[text] = None
    return list(texts)


def _bars(
    gallery: Gallery, vectors: Vector, sources: Sequence[int] | None
) -> npt.NDArray[np.float32]:
    """Score of the K-th nearest product of each row, `sources` left out of its own; [n]."""
    # As Postgres sees them: queries are bound as halfvec.
    queries = vectors.astype(np.float16).astype(np.float32)
    at_a_time = max(1, PRODUCT_BYTES // (4 * max(1, len(gallery.positions))))
    bars = []
    for start in range(0, len(queries), at_a_time):
        part = queries[start : start + at_a_time]
        scores = np.empty((len(part), len(gallery.positions)), dtype=np.float32)
        for first in range(0, len(gallery.vectors), 65_536):
            block = gallery.vectors[first : first + 65_536].astype(np.float32)
            np.matmul(part, block.T, out=scores[:, first : first + len(block)])
        if len(gallery.positions) > len(gallery):
            scores = np.maximum.reduceat(scores, gallery.starts[:-1], axis=1)
        if sources is not None:
            scores[np.arange(len(part)), list(sources[start : start + at_a_time])] = -np.inf
        k = min(K, len(gallery) - (sources is not None))
        bars.append(np.partition(scores, -k, axis=1)[:, -k] if k else np.zeros(len(part)))
    return np.concatenate(bars).astype(np.float32) if bars else np.zeros(0, dtype=np.float32)


def _keep(checkpoint: Checkpoint, found: dict[str, Any]) -> None:
    Checkpoint.objects.filter(pk=checkpoint.pk).update(recall=found)
    checkpoint.recall = found
