"""Where the index stands: how much of the catalogue is covered, what waits, who works on it."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min
from django.db.models.functions import Now
from django.utils import timezone

from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, Embedding, IndexEntry, TrainingRun

SILENT_SECONDS = 60
"""A product that waits for longer than this, while no worker holds any, means that none runs."""
PING_SECONDS = 2.0
PACE_SECONDS = 300
"""The pace is that of so many seconds past, or since work began if that is less."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Numbers of products, and of embeddings by the live checkpoint."""

    products: int
    indexed: int
    pending: int
    failed: int
    embeddings: int
    oldest_pending: datetime | None
    last_indexed: datetime | None
    leased: int
    """Products that a worker holds right now."""
    is_live: bool
    """Whether a checkpoint is live; until then products wait for it."""
    per_second: float
    """Products indexed a second, lately."""

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until nothing waits at the pace of late; None if nothing was done lately."""
        if not self.pending:
            return 0.0
        return self.pending / self.per_second if self.per_second else None

    @property
    def oldest_pending_seconds(self) -> float:
        if self.oldest_pending is None:
            return 0.0
        return max(0.0, (timezone.now() - self.oldest_pending).total_seconds())

    @property
    def is_stuck(self) -> bool:
        """Products have waited for long and nobody works on any: most likely no worker runs."""
        if not self.is_live:
            return False
        return not self.leased and self.oldest_pending_seconds > SILENT_SECONDS

    @property
    def share(self) -> float:
        """Share of the products that are indexed."""
        known = self.indexed + self.pending + self.failed
        return self.indexed / known if known else 0.0


def coverage() -> Coverage:
    """Counted now; a few aggregate queries."""
    entries = IndexEntry.objects.all()
    counts = entries.counts()
    live = Checkpoint.objects.live()
    lately = IndexEntry.objects.filter(indexed_at__gt=Now() - timedelta(seconds=PACE_SECONDS))
    pace = lately.aggregate(count=Count("pk"), first=Min("indexed_at"))
    now_due = IndexEntry.objects.filter(status="pending", available_at__lte=Now())
    return Coverage(
        products=get_index().get_queryset().using(entries.db).count(),
        indexed=counts["indexed"],
        pending=counts["pending"],
        failed=counts["failed"],
        embeddings=Embedding.objects.filter(checkpoint=live).count() if live else 0,
        oldest_pending=now_due.aggregate(oldest=Min("changed_at"))["oldest"],
        last_indexed=IndexEntry.objects.aggregate(last=Max("indexed_at"))["last"],
        leased=IndexEntry.objects.filter(leased_until__gt=Now()).count(),
        is_live=live is not None,
        per_second=_per_second(pace["count"], pace["first"]),
    )


def _per_second(count: int, first: datetime | None) -> float:
    if first is None:
        return 0.0
    # A batch is settled at one moment: a pace over less than a second says nothing.
    return count / max(1.0, (timezone.now() - first).total_seconds())


def open_run() -> TrainingRun | None:
    """The run that is queued or running."""
    return TrainingRun.objects.open().first()


def workers(*, timeout: float = PING_SECONDS) -> list[str] | None:
    """Names of the workers that answer; None when the broker does not answer in time.

    Asked from a thread of its own: a broker that is frozen must not freeze the caller.
    """
    answers: queue.Queue[list[str]] = queue.Queue()

    def ask() -> None:
        try:
            from celery import current_app

            found: list[dict[str, Any]] = current_app.control.ping(timeout=timeout / 2) or []
            answers.put(sorted(name for answer in found for name in answer))
        except Exception:  # whatever the broker's client raises: it is not there
            return

    threading.Thread(target=ask, name="ping", daemon=True).start()
    try:
        return answers.get(timeout=timeout)
    except queue.Empty:
        return None
