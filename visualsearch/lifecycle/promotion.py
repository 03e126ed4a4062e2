"""Which checkpoint answers shoppers: promote, roll back, and prune what is kept for rollback."""

from __future__ import annotations

import logging
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from django.db import router, transaction
from django.db.models import F
from django.utils import timezone

from visualsearch.conf import get_settings
from visualsearch.exceptions import CheckpointError, PromotionError, TablesBusyError
from visualsearch.models import Checkpoint
from visualsearch.signals import checkpoint_promoted
from visualsearch.tables import partitions
from visualsearch.upkeep import doorbell, indexing

logger = logging.getLogger(__name__)

State = Checkpoint.State


def promote(checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the live one, in one transaction; the one that was live can be rolled back to.

    A search reads which checkpoint is live once and asks only its rows, so none mixes the two.
    Raises PromotionError for a checkpoint that is live, refused or not indexed, or whose files are
    missing or altered.
    """
    if checkpoint.state == State.LIVE:
        raise PromotionError(f"Checkpoint {checkpoint} is live already.")
    if checkpoint.state == State.REFUSED:
        raise PromotionError(
            f"Checkpoint {checkpoint} was refused: {checkpoint.verdict or 'no reason given'} "
            "To promote it in spite of that, index it first: `visualsearch_checkpoints promote "
            "--force`, or Promote anyway in the admin."
        )
    _check(checkpoint)
    _catch_up(checkpoint)
    switch(checkpoint, promoted_at=timezone.now())
    follow_up(checkpoint)


def record_override(checkpoint: Checkpoint, *, by: str, reason: str) -> None:
    """Keep with `checkpoint` that somebody promotes it against the gate's verdict: who, when, why."""
    override = {
        "by": by,
        "at": f"{timezone.now():%Y-%m-%d %H:%M} UTC",
        "reason": reason or "no reason given",
        "verdict": checkpoint.verdict,
    }
    alias = router.db_for_write(Checkpoint)
    with transaction.atomic(using=alias):
        current = Checkpoint.objects.select_for_update().get(pk=checkpoint.pk)
        current.metrics = {**current.metrics, "override": override}
        current.save(update_fields=["metrics"])
    checkpoint.metrics = current.metrics
    logger.warning(
        "Checkpoint %s is promoted by %s against the gate's verdict (%s): %s",
        checkpoint,
        by,
        checkpoint.verdict,
        override["reason"],
    )


def rollback() -> Checkpoint:
    """Make the checkpoint live that was before the live one; a second call goes back one more.

    Raises PromotionError if there is none that can be gone back to.
    """
    target = Checkpoint.objects.rollback_target()
    if target is None:
        raise PromotionError(
            "There is no earlier checkpoint to roll back to: promote another one by its name."
        )
    _check(target)
    _catch_up(target)
    switch(target, promoted_at=target.promoted_at or timezone.now(), is_rollback=True)
    follow_up(target)
    return target


def obstacle(checkpoint: Checkpoint) -> str:
    """Why `checkpoint` cannot go live as it is, or "" if it can."""
    try:
        _check(checkpoint)
    except PromotionError as error:
        return error.message
    return ""


def _catch_up(checkpoint: Checkpoint) -> None:
    """Open what a retired checkpoint missed before it goes live: whoever dies in between loses none.

    From now on edits go to it as well. Should it not go live after all, it is ready, and the next
    attempt finds it.
    """
    retired = Checkpoint.objects.filter(pk=checkpoint.pk, state=State.RETIRED)
    if retired.update(state=State.READY):
        indexing.reopen_stale(checkpoint)


def switch(checkpoint: Checkpoint, *, promoted_at: datetime, is_rollback: bool = False) -> None:
    """The transaction by which `checkpoint` becomes the live one.

    One that is left by a rollback loses its date of promotion: no later rollback returns to it.
    """
    alias = router.db_for_write(Checkpoint)
    with transaction.atomic(using=alias):
        # Two promotions at once wait for each other at the row that both retire.
        previous = Checkpoint.objects.filter(state=State.LIVE).select_for_update().first()
        current = Checkpoint.objects.select_for_update().get(pk=checkpoint.pk)
        if current.state not in (State.READY, State.RETIRED):
            raise PromotionError(
                f"Checkpoint {checkpoint} is {current.get_state_display()} now: "
                "look at it again before promoting it."
            )
        if not partitions.exists(current):
            raise PromotionError(
                f"Checkpoint {checkpoint} lost its embeddings a moment ago: look at it again."
            )
        if previous is not None and previous.promoted_at and not is_rollback:
            # By another host's clock, which may be fast; rollback goes by the order of these.
            promoted_at = max(promoted_at, previous.promoted_at + timedelta(microseconds=1))
        retired = {"state": State.RETIRED, "retired_at": timezone.now()}
        live = Checkpoint.objects.filter(state=State.LIVE)
        live.update(**retired, **({"promoted_at": None} if is_rollback else {}))
        # An older one that never went live would be embedded beside it for ever.
        older = Checkpoint.objects.filter(state=State.READY, created_at__lt=current.created_at)
        older.update(**retired)
        Checkpoint.objects.filter(pk=checkpoint.pk).update(
            state=State.LIVE, promoted_at=promoted_at, retired_at=None
        )
        checkpoint.refresh_from_db()
        transaction.on_commit(lambda: _announce(checkpoint, previous), using=alias)


def follow_up(checkpoint: Checkpoint) -> None:
    """What comes after a switch: embed the edits it missed, drop what is not kept any more.

    What a worker held when the checkpoint became one that edits go to is opened once more.
    """
    indexing.reopen_stale(checkpoint)
    doorbell.ring("embed")
    prune()


def prunable(*, keep: int | None = None) -> list[Checkpoint]:
    """What `prune` would drop: all but the last `keep` retired, and refused, ones that have anything."""
    if keep is None:
        keep = get_settings().KEEP_CHECKPOINTS
    retired = Checkpoint.objects.filter(state=State.RETIRED)
    refused = Checkpoint.objects.filter(state=State.REFUSED)
    surplus = [
        *retired.order_by(F("retired_at").desc(nulls_last=True), "-created_at")[keep:],
        *refused.order_by("-created_at")[keep:],
    ]
    return [each for each in surplus if partitions.exists(each) or folder_of(each).exists()]


def prune(*, keep: int | None = None) -> list[Checkpoint]:
    """Drop the embeddings, by dropping their partition, and files of `prunable`; what was dropped.

    `keep` is KEEP_CHECKPOINTS unless it is given. One that others hold is left for another time.
    """
    pruned = []
    for checkpoint in prunable(keep=keep):
        try:
            if forget(checkpoint):
                pruned.append(checkpoint)
        except TablesBusyError as error:
            logger.warning("Checkpoint %s is pruned another time: %s", checkpoint, error)
    return pruned


def forget(checkpoint: Checkpoint) -> bool:
    """Drop the embeddings and files of one that no search and no edit goes to; its row stays.

    False if somebody is about to promote it. Raises PromotionError for one that is live, being
    indexed or ready, TablesBusyError if others hold its tables for long.
    """
    if checkpoint.state in (State.LIVE, State.BUILDING, State.READY):
        raise PromotionError(
            f"Checkpoint {checkpoint} is {checkpoint.get_state_display()}: only one that is retired, "
            "refused or imported can be pruned."
        )
    folder = folder_of(checkpoint)
    if not _forget(checkpoint):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    logger.info("Checkpoint %s was pruned.", checkpoint)
    return True


def _forget(checkpoint: Checkpoint) -> bool:
    """Drop the embeddings of `checkpoint`; False if somebody is about to promote it."""
    alias = router.db_for_write(Checkpoint)
    with transaction.atomic(using=alias):
        rows = Checkpoint.objects.select_for_update(skip_locked=True)
        mine = rows.filter(pk=checkpoint.pk, state=checkpoint.state).first()
        if mine is None:
            return False
        partitions.drop(mine)
        note = f"Embeddings and files were removed on {timezone.now():%Y-%m-%d}."
        mine.verdict = f"{mine.verdict} {note}".strip()
        mine.save(update_fields=["verdict"])
    return True


def folder_of(checkpoint: Checkpoint) -> Path:
    """The checkpoint's folder; PromotionError if its row leads out of CHECKPOINT_ROOT."""
    root = get_settings().CHECKPOINT_ROOT.resolve()
    folder = (root / checkpoint.folder).resolve()
    if folder == root or not folder.is_relative_to(root):
        raise PromotionError(
            f"The folder {checkpoint.folder!r} of checkpoint {checkpoint} is not inside {root}: "
            "correct the row."
        )
    return folder


def check_files(checkpoint: Checkpoint) -> None:
    """Raise PromotionError unless the checkpoint's files are those that training wrote."""
    from visualsearch.ml.manifest import Manifest

    if get_settings().ENCODER:
        return  # a class stands for the network: there are no files
    try:
        Manifest.load(folder_of(checkpoint))
    except CheckpointError as error:
        raise PromotionError(f"Checkpoint {checkpoint} cannot be used: {error.message}") from error


def _check(checkpoint: Checkpoint) -> None:
    if checkpoint.state == State.BUILDING:
        raise PromotionError(
            f"Checkpoint {checkpoint} is still being indexed: wait until its run has ended."
        )
    check_files(checkpoint)
    if checkpoint.state == State.IMPORTED:
        raise PromotionError(
            f"Checkpoint {checkpoint} was imported and has embedded nothing yet: "
            "`visualsearch_checkpoints promote`, or Promote in the admin, do that first."
        )
    if not partitions.exists(checkpoint):
        raise PromotionError(
            f"Checkpoint {checkpoint} has no embeddings any more: they have to be made again before "
            "it can go live. `visualsearch_checkpoints promote --force`, or Promote anyway in the "
            "admin, do that."
        )


def _announce(checkpoint: Checkpoint, previous: Checkpoint | None) -> None:
    logger.info("Checkpoint %s is live.", checkpoint)
    checkpoint_promoted.send_robust(sender=Checkpoint, checkpoint=checkpoint, previous=previous)
