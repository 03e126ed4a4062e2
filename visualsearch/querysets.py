"""Questions asked of the app's tables: what is live, what is due, who is at work."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from visualsearch.models import Checkpoint, IndexEntry, TrainingRun  # noqa: F401  (named in strings)

HEARTBEAT_SECONDS = 60
"""A trainer that has given no sign of life for so long is taken for dead."""


class CheckpointQuerySet(models.QuerySet["Checkpoint"]):
    def live(self) -> Checkpoint | None:
        """The checkpoint that answers searches, or None before the first promotion."""
        return self.filter(state="live").first()

    def indexed(self) -> CheckpointQuerySet:
        """Checkpoints that edits of the catalogue go to: the live one and those beside it."""
        return self.filter(state__in=["live", "building", "ready"]).order_by("pk")

    def rollback_target(self) -> Checkpoint | None:
        """The checkpoint that was promoted last before the live one."""
        older = self.filter(state="retired")
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
        """Have workers look at these products again; the number of those that were not due anyway.

        A photo whose bytes have not changed is only read, not embedded again.
        """
        return self.exclude(status="pending").update(
            status="pending",
            attempts=0,
            error_code="",
            error="",
            available_at=Now(),
            changed_at=Now(),
        )
