"""Products -> embeddings, in idempotent batches: what is due, and a whole checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import InterfaceError, OperationalError, router
from django.db.models import Exists, OuterRef, Q, QuerySet

from visualsearch.conf import get_settings
from visualsearch.exceptions import LeaseLostError, TrialError, VisualSearchError
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, Embedding, IndexEntry
from visualsearch.tables import capture, partitions
from visualsearch.upkeep import (
    claiming,
    embedding,
    endings,
    loading,
    pacing,
    repairing,
    settling,
    storing,
    trial,
    trial_child,
)
from visualsearch.upkeep.claiming import Claim, Ending, Outcome
from visualsearch.upkeep.embedding import Report, embed_products
from visualsearch.upkeep.leases import HUNG_AFTER, Lease

__all__ = [
    "Counts",
    "embed_checkpoint",
    "embed_products",
    "index_pending",
    "reopen_stale",
]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of products done and of all."""

BACKFILL_BATCHES = 4
"""Batches of a whole catalogue between two writes: none of its products is ever tried alone."""
BACKFILL_MOST = 2048
"""Products between two writes where the encoder is fast: each transaction has its cost."""
BACKFILL_SECONDS = 2.0
"""Progress is shown, and a cancel noticed, about this often."""


@dataclass(kw_only=True)
class Counts:
    """What one call of `index_pending` did, in products but for `embedded`."""

    indexed: int = 0
    failed: int = 0
    """Set aside, with the reason on the index entry."""
    deferred: int = 0
    """Met a passing fault and will be tried again."""
    embedded: int = 0
    """Images that went through a network."""
    lists: int = 0
    """Lists of similar products that were brought up to date."""
    is_complete: bool = True
    """Whether there was nothing left to do at the end."""


def index_pending(
    *, limit_seconds: float = 30.0, is_asked_to_end: Callable[[], bool] = lambda: False
) -> Counts:
    """Embed the products that are due, batch by batch, until none is, the time is up, or it is asked to end.

    To be called outside a transaction. Any number of processes may do so at once. Before the
    first promotion it leaves everything to `embed_checkpoint`: one of the two is enough.
    """
    pacing.introduce()
    counts = Counts()
    changed: set[Any] = set()
    unsettled: list[tuple[Any, list[Outcome]]] = []
    deadline = time.monotonic() + limit_seconds
    _warm_up()
    while Checkpoint.objects.live() is not None:
        settings = get_settings()
        _prepare_trial()
        claims = claiming.claim(limit=settings.BATCH_SIZE, lease_seconds=settings.LEASE_SECONDS)
        if not claims:
            break
        try:
            with Lease(claims, seconds=settings.LEASE_SECONDS) as lease:
                outcomes = _work(claims, lease, counts, changed)
        except LeaseLostError as error:
            logger.warning("%s", error)
            counts.deferred += len(claims)
            continue
        except (OperationalError, InterfaceError) as error:
            outcomes = [endings.deferred(claim, "database", error) for claim in claims]
            settling.after_database_fault(claims[0].lease, outcomes)
            counts.deferred += len(claims)
            counts.is_complete = False
            logger.warning(
                "The database failed while %d products were indexed: %s", len(claims), error
            )
            break
        unsettled.append((claims[0].lease, outcomes))
        unsettled = settling.settle_all(unsettled)
        if time.monotonic() > deadline or is_asked_to_end():
            counts.is_complete = False
            break
    settling.insist(unsettled)
    counts.lists = repairing.repair(changed, more_is_due=not counts.is_complete)
    counts.is_complete = counts.is_complete and not repairing.is_behind()
    return counts


def embed_checkpoint(checkpoint: Checkpoint, progress: Progress | None = None) -> int:
    """Embed every product in the index that `checkpoint` has not embedded yet; how many there were.

    Goes through the catalogue by key, a batch at a time, so that memory stays flat and a second
    call goes on where the first one ended. A photo that cannot be used is noted on the product's
    index entry. The first embeddings are loaded beside the catalogue's life (loading.py): until
    they have become the checkpoint's partition edits are none of its affair, and then those are
    lacking, or counted once more. Edits made after that are the affair of `index_pending`.
    """
    index = get_index()
    capture.open_missing_entries(index, using=router.db_for_write(IndexEntry))
    products = index.get_queryset().using(router.db_for_write(IndexEntry)).order_by("pk")
    loaded, is_first = 0, not partitions.exists(checkpoint)
    if is_first:
        last = loading.begin(checkpoint)
        loaded = _go_through(checkpoint, products, last, loading.append, progress)
        loading.attach(checkpoint)
    partitions.create(checkpoint)  # that of its neighbours
    there = Embedding.objects.filter(
        checkpoint=checkpoint,
        product_id=OuterRef("pk"),
        version__gte=OuterRef("visual_index_entry__version"),
    )
    lacking = products.filter(~Exists(there))
    caught_up = _go_through(checkpoint, lacking, None, None, progress)
    if is_first:  # those of products that were taken out of the index meanwhile
        storing.delete_orphans(index.get_queryset())
    return loaded + caught_up


def _go_through(
    checkpoint: Checkpoint,
    products: QuerySet[Any],
    last: Any,
    write: embedding.Write | None,
    progress: Progress | None,
) -> int:
    """Embed `products`, in the order of their keys, those after `last`; how many there were."""
    total, done = _after(last, products).count(), 0
    at_a_time = BACKFILL_BATCHES * get_settings().BATCH_SIZE
    while True:
        began = time.monotonic()
        product_ids = list(_after(last, products).values_list("pk", flat=True)[:at_a_time])
        if not product_ids:
            return done
        _note(checkpoint, embed_products(product_ids, checkpoints=[checkpoint], write=write))
        last = product_ids[-1]
        done += len(product_ids)
        if progress is not None:
            progress(done, max(done, total))
        if time.monotonic() - began < BACKFILL_SECONDS / 2:
            at_a_time = min(BACKFILL_MOST, 2 * at_a_time)


def _after(last: Any, products: QuerySet[Any]) -> QuerySet[Any]:
    return products if last is None else products.filter(pk__gt=last)


def reopen_stale(checkpoint: Checkpoint) -> int:
    """Open the entries of products whose embeddings by `checkpoint` are missing or out of date.

    For a checkpoint that did not get every edit: one that goes live, above all again. Products
    that changed without their photos changing are only read again, not embedded. One that a worker
    holds is among them: it may have begun when the checkpoint was none that edits go to.
    """
    up_to_date = Embedding.objects.filter(
        checkpoint=checkpoint, product_id=OuterRef("pk"), version__gte=OuterRef("version")
    )
    return IndexEntry.objects.filter(~Exists(up_to_date), ~Q(error_code="crashed")).reopen()


def _warm_up() -> None:
    """Load networks and decoder before anything is claimed: no product is blamed if that is deadly.

    It takes a fresh process longer than a product does, so that it is the likeliest time to die.
    """
    if not IndexEntry.objects.due().exists():
        return
    trial_child.warm_up(list(Checkpoint.objects.indexed()))


def _prepare_trial() -> None:
    """As `_warm_up`, if what is claimed next is a suspect."""
    due = IndexEntry.objects.due().order_by("available_at", "pk")
    if due.values_list("attempts", flat=True).first() and trial.is_possible():
        trial.get_ready(list(Checkpoint.objects.indexed()))


def _work(
    claims: Sequence[Claim], lease: Lease, counts: Counts, changed: set[Any]
) -> list[Outcome]:
    """Embed what was claimed; how it ended for each product."""
    worn_out = [claim for claim in claims if _is_worn_out(claim)]
    if worn_out:  # such a claim is alone
        counts.failed += len(worn_out)
        return [endings.given_up(claim) for claim in worn_out]
    try:
        report = _embed(claims, lease)
    except TrialError as error:
        counts.deferred += len(claims)
        if error.is_charged:
            logger.warning("Product %s: %s", claims[0].product_id, error)
            return [endings.charged(claim, error.code, error) for claim in claims]
        return [endings.deferred(claim, error.code, error) for claim in claims]
    except (OperationalError, InterfaceError, LeaseLostError):
        raise
    except (VisualSearchError, OSError) as error:
        logger.warning("%d products were put off: %s", len(claims), error)
        counts.deferred += len(claims)
        return [
            endings.deferred(claim, getattr(error, "code", "system"), error) for claim in claims
        ]
    except Exception as error:
        logger.exception("Indexing %d products failed; each is tried alone.", len(claims))
        counts.deferred += len(claims)
        return [
            endings.charged(claim, "error", f"{type(error).__name__}: {error}") for claim in claims
        ]
    outcomes = [endings.of(report, claim.product_id, claim.version) for claim in claims]
    counts.indexed += sum(outcome.ending == Ending.DONE for outcome in outcomes)
    counts.failed += sum(outcome.ending == Ending.FAILED for outcome in outcomes)
    counts.deferred += sum(
        outcome.ending in (Ending.DEFERRED, Ending.CHARGED) for outcome in outcomes
    )
    counts.embedded += report.embedded
    changed |= report.changed
    return outcomes


def _embed(claims: Sequence[Claim], lease: Lease) -> Report:
    """Embed what was claimed, in this process; a suspect in one that may die of it."""
    # Asked for after the claim: a checkpoint that is new since then reads the products itself.
    checkpoints = [each for each in Checkpoint.objects.indexed() if not _is_loading(each)]
    claim = claims[0]
    is_last = claim.is_alone and claim.crashes + 1 >= get_settings().MAX_ATTEMPTS
    if claim.is_alone and trial.is_possible():
        return trial.embed(
            claim,
            checkpoints=checkpoints,
            step=lease.step,
            patience=HUNG_AFTER * lease.seconds,
            is_last=is_last,
        )
    return embed_products(
        [claim.product_id for claim in claims],
        checkpoints=checkpoints,
        versions={claim.product_id: claim.version for claim in claims},
        lease=lease.token,
        step=lease.step,
        is_last=is_last,
    )


def _is_loading(checkpoint: Checkpoint) -> bool:
    """Whether `embed_checkpoint` has not come to edits yet."""
    return checkpoint.state == Checkpoint.State.BUILDING and not partitions.exists(checkpoint)


def _is_worn_out(claim: Claim) -> bool:
    silent = claim.attempts - 1
    return claim.crashes >= get_settings().MAX_ATTEMPTS or silent >= claiming.MOST_SILENT_ATTEMPTS


def _note(checkpoint: Checkpoint, report: Report) -> None:
    """Write what a backfill found out on the entries; it holds no leases.

    While another checkpoint is live as well, an open entry has more to it than this one.
    """
    outcomes = [
        endings.of(report, product_id, version) for product_id, version in report.versions.items()
    ]
    others = Checkpoint.objects.indexed().exclude(pk=checkpoint.pk)
    if others.exists():
        failed = [outcome for outcome in outcomes if outcome.ending == Ending.FAILED]
        claiming.note(failed, statuses=["indexed"])
    else:
        claiming.note(outcomes, statuses=["pending", "indexed", "failed"])
