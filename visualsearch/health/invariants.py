"""The invariants that the app's tables must keep, whatever died: I1 to I5, and a document of words for every product."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import router
from django.db.models.functions import Now

from visualsearch.health import status
from visualsearch.health.findings import Finding, error, ok, warning
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, Embedding, IndexEntry, SearchWord
from visualsearch.tables import documents, partitions
from visualsearch.upkeep import storing

EXAMINE_AT_A_TIME = 500


def every_product_accounted_for() -> Iterator[Finding]:
    """I1: every photo has an embedding by the live checkpoint, an open entry, or a reason."""
    index = get_index()
    products = index.get_queryset().using(_alias())
    unknown = products.exclude(pk__in=IndexEntry.objects.values("product_id")).count()
    if unknown:
        yield error("I1", "products without an index entry", count=unknown)
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
        yield error("I1", "products with photos and no embedding", count=missing)
    failed = IndexEntry.objects.filter(status="failed")
    silent = failed.filter(error="").count()
    if silent:
        yield error("I1", "products set aside without a reason", count=silent)
    if not (unknown or missing or silent):
        text = f"every product is accounted for; {failed.count()} set aside with their reason"
        yield ok("I1", text)


def no_ghosts() -> Iterator[Finding]:
    """I2: nothing is stored of products that are not in the index."""
    products = get_index().get_queryset().values("pk")
    ghosts = Embedding.objects.exclude(product_id__in=products).values("product_id")
    count = ghosts.distinct().count()
    if count:
        yield error("I2", "products with embeddings that are not in the index", count=count)
    else:
        yield ok("I2", "no embedding of a product that is gone")


def unit_vectors() -> Iterator[Finding]:
    """I3: no zero and no other vector that is not of length 1; NaN cannot be stored."""
    count = 0
    for checkpoint in Checkpoint.objects.exclude(state=Checkpoint.State.REFUSED):
        if partitions.exists(checkpoint):
            count += len(storing.spoilt(checkpoint))
    if count:
        yield error("I3", "products with vectors of the wrong length or width", count=count)
    else:
        yield ok("I3", "every vector has length 1 and its checkpoint's width")


def one_live_checkpoint() -> Iterator[Finding]:
    """I4: one live checkpoint, and it has vectors of its own."""
    live = list(Checkpoint.objects.filter(state=Checkpoint.State.LIVE))
    strays = Embedding.objects.exclude(checkpoint_id__in=Checkpoint.objects.values("pk")).count()
    if len(live) > 1:
        yield error("I4", "checkpoints are live at once", count=len(live))
    if strays:
        yield error("I4", "embeddings of checkpoints that do not exist", count=strays)
    for checkpoint in Checkpoint.objects.indexed():
        is_loading = checkpoint.state == Checkpoint.State.BUILDING
        if not is_loading and not partitions.exists(checkpoint):
            yield error("I4", f"checkpoint {checkpoint} ({checkpoint.state}) has no partition")
            return
    if len(live) <= 1 and not strays:
        yield ok("I4", f"{len(live)} live checkpoint, and its vectors are its own")


def at_rest() -> Iterator[Finding]:
    """I5: at rest no entry is open and no lease is held."""
    entries = IndexEntry.objects.all()
    expired = entries.filter(leased_until__lt=Now()).count()
    covered = status.coverage()
    if covered.is_stuck:
        yield error(
            "I5",
            f"products wait, the oldest for {covered.oldest_pending_seconds:.0f} s, and nobody "
            "works on them: is a worker for the queue 'embed' running?",
            count=covered.pending,
        )
    elif covered.pending and not covered.is_live:
        yield warning(
            "I5",
            f"{covered.pending} products wait for the first checkpoint: train one with "
            "visualsearch_train or in the admin",
            count=covered.pending,
        )
    elif covered.pending or expired or covered.leased:
        yield warning(
            "I5",
            f"not at rest: {covered.pending} open, {covered.leased} leased, {expired} leases "
            "ran out and will be taken over",
            count=covered.pending,
        )
    else:
        yield ok("I5", "no entry is open and no lease is held")


def words_written() -> Iterator[Finding]:
    """Every product can be found by its words, and misspelt ones have words to be compared with."""
    missing = documents.missing(get_index(), using=_alias())
    words = SearchWord.objects.count()
    if missing:
        yield error("words", "products that no word finds: --fix writes theirs", count=missing)
    elif not words and IndexEntry.objects.exists():
        yield warning("words", "misspelt words find nothing until the next sweep, or --fix")
    else:
        yield ok("words", f"every product has its words; {words} different ones")


def _alias() -> str:
    return router.db_for_write(IndexEntry)
