"""The live checkpoint's HNSW index: whether it is there, used, large enough and exact enough."""

from __future__ import annotations

from collections.abc import Iterator

from visualsearch.health.findings import Finding, error, ok, warning
from visualsearch.indexes import get_index
from visualsearch.lifecycle import recall
from visualsearch.models import Checkpoint, Embedding
from visualsearch.search import nearest, scan_costs
from visualsearch.tables import partitions, stored_vectors


def examine() -> Iterator[Finding]:
    """The live checkpoint's HNSW index: valid, used according to EXPLAIN, and good enough."""
    live = Checkpoint.objects.live()
    if live is None or not partitions.exists(live):
        return  # said by others
    threshold = scan_costs.always_compared(live)
    if not live.has_ann_index:
        count = Embedding.objects.filter(checkpoint=live).count()
        if count > threshold:
            yield warning(
                "index",
                f"there is none, so each search compares {count:,} vectors: --fix builds one",
            )
        else:
            yield ok("index", "every search compares all vectors, which is exact")
        return
    if not partitions.has_valid_index(live):
        yield error("index", f"{partitions.index_name(live)} is missing or not valid: --fix")
        return
    if scan_costs.is_always_exact(live):
        yield ok(
            "index",
            f"every search compares all vectors, which is exact: up to {threshold:,} of them",
        )
        return
    vector = stored_vectors.any_of(live)
    search = nearest.NearestProducts(
        checkpoint=live,
        vector=vector,
        kind=nearest.Kind.IMAGE,
        allowed=get_index().get_queryset(),
    )
    if not search.uses_index():
        yield warning(
            "index",
            f"PostgreSQL does not read {partitions.index_name(live)} for a search of everything: "
            "run ANALYZE, and look at EXPLAIN of get_queryset()",
        )
    if partitions.is_built_for_fewer(live):
        yield warning(
            "index",
            f"{partitions.index_name(live)} was built for a smaller catalogue, with fewer links than "
            "one of today's would have: --fix builds it anew",
        )
    if not live.recall.get("kinds"):
        yield warning("index", "its recall was never measured: --fix does it")
        return
    figures = ", ".join(
        f"{kind} {each['recall']:.3f} (ef_search {each['ef_search']})"
        for kind, each in live.recall["kinds"].items()
    )
    text = f"recall@{recall.K} on {live.recall['measured_at'][:10]}: {figures}"
    if recall.too_low(live):
        yield warning("index", f"{text}; below {recall.LEAST}: --fix builds it anew")
    else:
        yield ok("index", text)


def wants_rebuild(live: Checkpoint) -> bool:
    if not partitions.has_valid_index(live):
        count = Embedding.objects.filter(checkpoint=live).count()
        return live.has_ann_index or count > scan_costs.always_compared(live)
    if not live.recall.get("kinds") and not scan_costs.is_always_exact(live):
        recall.probe_if_possible(live)
    return bool(recall.too_low(live)) or partitions.is_built_for_fewer(live)
