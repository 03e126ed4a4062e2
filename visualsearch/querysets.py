"""Questions asked of the app's tables: what is live, what is due, who is at work."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models, router, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from visualsearch.models import Checkpoint, IndexEntry, TrainingRun  # noqa: F401  (named in strings)

Row = TypeVar("Row", bound=models.Model)

HEARTBEAT_SECONDS = 60
"""A trainer that has given no sign of life for so long is taken for dead."""
REOPEN_AT_A_TIME = 1000
LOCKED_ATTEMPTS = 5


class RecordManager(models.Manager[Row]):
    """Reads where it writes: a replica that lags behind would have work done twice, or not at all."""

    def get_queryset(self) -> models.QuerySet[Row]:
        return super().get_queryset().using(self._db or router.db_for_write(self.model))


class CheckpointQuerySet(models.QuerySet["Checkpoint"]):
    def live(self) -> Checkpoint | None:
        """The checkpoint that answers searches, or None before the first promotion."""
        return self.filter(state="live").first()

    def indexed(self) -> CheckpointQuerySet:
        """Checkpoints that edits of the catalogue go to: the live one and those beside it."""
        return self.filter(state__in=["live", "building", "ready"]).order_by("pk")

    def rollback_target(self) -> Checkpoint | None:
        """The checkpoint that was promoted last before the live one.

        It is ready, and not retired, where an earlier rollback to it broke off.
        """
        older = self.filter(state__in=["retired", "ready"], promoted_at__isnull=False)
        if live := self.live():
            older = older.filter(promoted_at__lt=live.promoted_at)
        return older.order_by("-promoted_at").first()


class TrainingRunQuerySet(models.QuerySet["TrainingRun"]):
    def open(self) -> TrainingRunQuerySet:
        return self.filter(state__in=["queued", "running"])

    def abandoned(self) -> TrainingRunQuerySet:
        """Runs whose trainer has gone silent."""
        return self.filter(
            state="running", heartbeat_at__lt=Now() - timedelta(seconds=HEARTBEAT_SECONDS)
        )


class IndexEntryQuerySet(models.QuerySet["IndexEntry"]):
    def due(self) -> IndexEntryQuerySet:
        """Entries that a worker may claim now."""
        return self.filter(status="pending", available_at__lte=Now()).filter(
            Q(leased_until__isnull=True) | Q(leased_until__lt=Now())
        )

    def counts(self) -> dict[str, int]:
        """Number of entries by status."""
        found: dict[str, Any] = dict(
            self.order_by().values_list("status").annotate(models.Count("pk"))
        )
        return {status: found.get(status, 0) for status in ("pending", "indexed", "failed")}

    def reopen(self) -> int:
        """Have workers look at these products again; the number of those that did not wait anyway.

        A photo whose bytes have not changed is only read, not embedded again. What a worker holds
        right now it looks at once more: it may have begun before the reason for this call.

        Goes through them in parts and waits for no lock: an editor's save is not held up, and loses
        no deadlock. What an editor's transaction holds is left to the trigger that opens it.
        """
        held = Q(status="pending", leased_until__gt=Now())
        wanted = self.filter(~Q(status="pending") | held).using(router.db_for_write(self.model))
        opened, locked, last = 0, list[Any](), None
        while True:
            rest = wanted if last is None else wanted.filter(pk__gt=last)
            keys = list(rest.order_by("pk").values_list("pk", flat=True)[:REOPEN_AT_A_TIME])
            if not keys:
                break
            done = _reopen(wanted, keys)
            opened, last = opened + len(done), keys[-1]
            locked += [pk for pk in keys if pk not in done]
        for _ in range(LOCKED_ATTEMPTS):  # a worker that settles one holds it for a moment
            if not locked:
                break
            time.sleep(0.1)
            done = _reopen(wanted, locked)
            opened += len(done)
            locked = [pk for pk in locked if pk not in done]
        return opened


def _reopen(wanted: models.QuerySet[IndexEntry], keys: list[Any]) -> set[Any]:
    """Open those of `keys` that are not locked; their keys."""
    entries = wanted.model._base_manager.using(wanted.db)
    with transaction.atomic(using=wanted.db):
        mine = wanted.filter(pk__in=keys).select_for_update(skip_locked=True)
        status = dict(mine.values_list("pk", "status"))
        entries.filter(pk__in=[pk for pk in status if status[pk] == "pending"]).update(
            version=F("version") + 1
        )
        entries.filter(pk__in=[pk for pk in status if status[pk] != "pending"]).update(
            status="pending",
            attempts=0,
            crashes=0,
            error_code="",
            error="",
            available_at=Now(),
            changed_at=Now(),
        )
    return set(status)
