"""Examines an installation: what it needs to run, and the invariants that its tables must keep."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.core import checks
from django.db import router
from django.db.models.functions import Now

from visualsearch import encoding
from visualsearch.conf import get_settings
from visualsearch.exceptions import VisualSearchError
from visualsearch.health import status, sweeping
from visualsearch.indexes import get_index
from visualsearch.lifecycle import promotion, recall
from visualsearch.models import Checkpoint, Embedding, IndexEntry, SearchWord
from visualsearch.search import nearest
from visualsearch.tables import capture, documents, partitions, stored_vectors
from visualsearch.upkeep import storing

WARN_FREE_BYTES = 2 * 1024**3
EXAMINE_AT_A_TIME = 500


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: str
    """ok, warning or error"""
    count: int
    message: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(*, ask_workers: bool = True) -> list[Finding]:
    """Everything there is to find; one that cannot be looked at is an error of its own."""
    questions: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("configuration", _configuration),
        ("capture", _capture),
        ("files", _files),
        ("checkpoint", _checkpoint),
        ("index", _search_index),
        ("I1", _every_product_accounted_for),
        ("I2", _no_ghosts),
        ("I3", _unit_vectors),
        ("I4", _one_live_checkpoint),
        ("I5", _at_rest),
        ("words", _words),
    ]
    if ask_workers:
        questions.append(("workers", _workers))
    found: list[Finding] = []
    for name, question in questions:
        try:
            found += list(question())
        except Exception as error:
            found.append(_error(name, f"could not be examined: {type(error).__name__}: {error}"))
    return found


def fix() -> dict[str, int]:
    """Repair what can be repaired by looking again; how much of each there was.

    Vectors that may not be there are deleted, and their products opened again, as are those that
    no trigger saw; workers do the rest. An index that lost too much recall is built anew.
    """
    triggers = capture.missing_triggers(get_index(), using=_alias())
    repaired = {"index rebuilt": 0, "triggers": len(triggers)}
    unknown = capture.open_missing_entries(get_index(), using=_alias())
    capture.install(get_index(), using=_alias())
    documents.install(get_index(), using=_alias())
    live = Checkpoint.objects.live()
    if live is not None and partitions.exists(live) and _wants_rebuild(live):
        partitions.rebuild_ann_index(live)
        recall.probe_if_possible(live)
        repaired["index rebuilt"] = 1
    swept = sweeping.sweep()
    return repaired | swept | {"unknown": unknown + swept["unknown"]}


def _configuration() -> Iterator[Finding]:
    problems = [
        message
        for message in checks.run_checks(databases=[_alias()])
        if (message.id or "").startswith("visualsearch.")
    ]
    for message in problems:
        level = "error" if message.is_serious() else "warning"
        hint = f" {message.hint}" if message.hint else ""
        text = f"{message.id}: {message.msg}{hint}"
        yield Finding(name="configuration", level=level, count=1, message=text)
    if not problems:
        yield _ok("configuration", "settings and declaration pass the system checks")


def _capture() -> Iterator[Finding]:
    missing = capture.missing_triggers(get_index(), using=_alias())
    if missing:
        yield _error(
            "capture",
            f"no trigger notes changes of {', '.join(missing)}: run migrate, or --fix",
            count=len(missing),
        )
    else:
        yield _ok("capture", "triggers note every change of the catalogue")


def _files() -> Iterator[Finding]:
    root = get_settings().CHECKPOINT_ROOT
    if not root.is_dir():
        yield _warning("files", f"{root} does not exist yet; the first training makes it")
        return
    free = shutil.disk_usage(root).free
    text = f"{free / 1e9:.1f} GB are free below {root}"
    yield _warning("files", text) if free < WARN_FREE_BYTES else _ok("files", text)


def _checkpoint() -> Iterator[Finding]:
    live = Checkpoint.objects.live()
    if live is None:
        yield _warning(
            "checkpoint", "none is live: train one with visualsearch_train or in the admin"
        )
        return
    try:
        promotion.check_files(live)
        encoding.query_encoder(live)
    except VisualSearchError as error:
        yield _error(
            "checkpoint",
            f"{live} is live and cannot be run here, so words are answered without it and photos "
            f"not at all: {error}",
        )
        return
    yield _ok("checkpoint", f"{live} (recipe {live.recipe}) is live and its files are unaltered")


def _search_index() -> Iterator[Finding]:
    """The live checkpoint's HNSW index: valid, used according to EXPLAIN, and good enough."""
    live = Checkpoint.objects.live()
    if live is None or not partitions.exists(live):
        return  # said by others
    threshold = get_settings().EXACT_THRESHOLD
    if not live.has_ann_index:
        count = Embedding.objects.filter(checkpoint=live).count()
        if count > threshold:
            yield _warning(
                "index",
                f"there is none, so each search compares {count:,} vectors: --fix builds one",
            )
        else:
            yield _ok("index", "every search compares all vectors, which is exact")
        return
    if not partitions.has_valid_index(live):
        yield _error("index", f"{partitions.index_name(live)} is missing or not valid: --fix")
        return
    if nearest.is_always_exact(live):
        yield _ok(
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
        yield _warning(
            "index",
            f"PostgreSQL does not read {partitions.index_name(live)} for a search of everything: "
            "run ANALYZE, and look at EXPLAIN of get_queryset()",
        )
    if partitions.is_built_for_fewer(live):
        yield _warning(
            "index",
            f"{partitions.index_name(live)} was built for a smaller catalogue, with fewer links than "
            "one of today's would have: --fix builds it anew",
        )
    if not live.recall.get("kinds"):
        yield _warning("index", "its recall was never measured: --fix does it")
        return
    figures = ", ".join(
        f"{kind} {each['recall']:.3f} (ef_search {each['ef_search']})"
        for kind, each in live.recall["kinds"].items()
    )
    text = f"recall@{recall.K} on {live.recall['measured_at'][:10]}: {figures}"
    if recall.too_low(live):
        yield _warning("index", f"{text}; below {recall.LEAST}: --fix builds it anew")
    else:
        yield _ok("index", text)


def _wants_rebuild(live: Checkpoint) -> bool:
    if not partitions.has_valid_index(live):
        count = Embedding.objects.filter(checkpoint=live).count()
        return live.has_ann_index or count > get_settings().EXACT_THRESHOLD
    if not live.recall.get("kinds") and not nearest.is_always_exact(live):
        recall.probe_if_possible(live)
    return bool(recall.too_low(live)) or partitions.is_built_for_fewer(live)


def _every_product_accounted_for() -> Iterator[Finding]:
    """I1: every photo has an embedding by the live checkpoint, an open entry, or a reason."""
    index = get_index()
    products = index.get_queryset().using(_alias())
    unknown = products.exclude(pk__in=IndexEntry.objects.values("product_id")).count()
    if unknown:
        yield _error("I1", "products without an index entry", count=unknown)
    live = Checkpoint.objects.live()
    missing = 0
    if live is not None:
        settled = IndexEntry.objects.filter(status="indexed").values("product_id")
        embedded = Embedding.objects.filter(checkpoint=live).values("product_id")
        lacking = products.filter(pk__in=settled).exclude(pk__in=embedded).order_by("pk")
        # Those that have no photos rightly have no embedding: only the shop's own code knows.
        for product in index.with_related(lacking).iterator(chunk_size=EXAMINE_AT_A_TIME):
            missing += bool(index.get_images(product))
    if missing:
        yield _error("I1", "products with photos and no embedding", count=missing)
    failed = IndexEntry.objects.filter(status="failed")
    silent = failed.filter(error="").count()
    if silent:
        yield _error("I1", "products set aside without a reason", count=silent)
    if not (unknown or missing or silent):
        text = f"every product is accounted for; {failed.count()} set aside with their reason"
        yield _ok("I1", text)


def _no_ghosts() -> Iterator[Finding]:
    """I2: nothing is stored of products that are not in the index."""
    products = get_index().get_queryset().values("pk")
    ghosts = Embedding.objects.exclude(product_id__in=products).values("product_id")
    count = ghosts.distinct().count()
    if count:
        yield _error("I2", "products with embeddings that are not in the index", count=count)
    else:
        yield _ok("I2", "no embedding of a product that is gone")


def _unit_vectors() -> Iterator[Finding]:
    """I3: no zero and no other vector that is not of length 1; NaN cannot be stored."""
    count = 0
    for checkpoint in Checkpoint.objects.exclude(state=Checkpoint.State.REFUSED):
        if partitions.exists(checkpoint):
            count += len(storing.spoilt(checkpoint))
    if count:
        yield _error("I3", "products with vectors of the wrong length or width", count=count)
    else:
        yield _ok("I3", "every vector has length 1 and its checkpoint's width")


def _one_live_checkpoint() -> Iterator[Finding]:
    """I4: one live checkpoint, and it has vectors of its own."""
    live = list(Checkpoint.objects.filter(state=Checkpoint.State.LIVE))
    strays = Embedding.objects.exclude(checkpoint_id__in=Checkpoint.objects.values("pk")).count()
    if len(live) > 1:
        yield _error("I4", "checkpoints are live at once", count=len(live))
    if strays:
        yield _error("I4", "embeddings of checkpoints that do not exist", count=strays)
    for checkpoint in Checkpoint.objects.indexed():
        is_loading = checkpoint.state == Checkpoint.State.BUILDING
        if not is_loading and not partitions.exists(checkpoint):
            yield _error("I4", f"checkpoint {checkpoint} ({checkpoint.state}) has no partition")
            return
    if len(live) <= 1 and not strays:
        yield _ok("I4", f"{len(live)} live checkpoint, and its vectors are its own")


def _at_rest() -> Iterator[Finding]:
    """I5: at rest no entry is open and no lease is held."""
    entries = IndexEntry.objects.all()
    expired = entries.filter(leased_until__lt=Now()).count()
    covered = status.coverage()
    if covered.is_stuck:
        yield _error(
            "I5",
            f"products wait, the oldest for {covered.oldest_pending_seconds:.0f} s, and nobody "
            "works on them: is a worker for the queue 'embed' running?",
            count=covered.pending,
        )
    elif covered.pending and not covered.is_live:
        yield _warning(
            "I5",
            f"{covered.pending} products wait for the first checkpoint: train one with "
            "visualsearch_train or in the admin",
            count=covered.pending,
        )
    elif covered.pending or expired or covered.leased:
        yield _warning(
            "I5",
            f"not at rest: {covered.pending} open, {covered.leased} leased, {expired} leases "
            "ran out and will be taken over",
            count=covered.pending,
        )
    else:
        yield _ok("I5", "no entry is open and no lease is held")


def _words() -> Iterator[Finding]:
    """Every product can be found by its words, and misspelt ones have words to be compared with."""
    missing = documents.missing(get_index(), using=_alias())
    words = SearchWord.objects.count()
    if missing:
        yield _error("words", "products that no word finds: --fix writes theirs", count=missing)
    elif not words and IndexEntry.objects.exists():
        yield _warning("words", "misspelt words find nothing until the next sweep, or --fix")
    else:
        yield _ok("words", f"every product has its words; {words} different ones")


def _workers() -> Iterator[Finding]:
    names = status.workers()
    if names is None:
        yield _warning(
            "workers", "the broker does not answer; workers find their work all the same"
        )
    elif not names:
        yield _warning(
            "workers",
            "none answers: start some, `celery -A YOURPROJECT worker -B -Q embed,interactive,train`",
        )
    else:
        yield _ok("workers", f"{len(names)} answer: {', '.join(names)}")


def _ok(name: str, message: str) -> Finding:
    return Finding(name=name, level="ok", count=0, message=message)


def _warning(name: str, message: str, *, count: int = 1) -> Finding:
    return Finding(name=name, level="warning", count=count, message=message)


def _error(name: str, message: str, *, count: int = 1) -> Finding:
    return Finding(name=name, level="error", count=count, message=message)


def _alias() -> str:
    return router.db_for_write(IndexEntry)
