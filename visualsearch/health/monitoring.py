"""What Prometheus scrapes: gauges counted in the database at each scrape, and searches timed where they are answered.

Needs the extra `metrics` (prometheus-client), and is not imported before somebody asks. Gauges come
from the database, so they are right whichever process is asked. Times of searches are known to the
process that answered alone: they are kept only where PROMETHEUS_MULTIPROC_DIR names a folder, in
which the client library adds up those of all processes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.db.models import Count

from visualsearch.exceptions import VisualSearchError
from visualsearch.health import status
from visualsearch.models import Checkpoint, TrainingRun

if TYPE_CHECKING:
    from prometheus_client import Histogram, Metric

logger = logging.getLogger(__name__)

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "visualsearch_"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds."""

_lock = threading.Lock()
_histogram: Histogram | None = None


class MetricsUnavailableError(VisualSearchError):
    """The client library is not installed."""

    code = "metrics_unavailable"
    status = 404


def exposition() -> tuple[bytes, str]:
    """All metrics in Prometheus' text format, and its content type; MetricsUnavailableError."""
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    except ImportError as error:
        raise MetricsUnavailableError(
            "prometheus-client is not installed: pip install 'django-visualsearch[metrics]'."
        ) from error
    registry = CollectorRegistry()
    registry.register(_Database())
    if os.environ.get(MULTIPROCESS):
        registry.register(_Searches())
    return generate_latest(registry), CONTENT_TYPE_LATEST


def observe(endpoint: str, seconds: float, *, status: int) -> None:
    """Note an answered search; does nothing where times are not kept. Never fails a search."""
    if not os.environ.get(MULTIPROCESS):
        return
    try:
        _searches().labels(endpoint=endpoint, status=f"{status // 100}xx").observe(seconds)
    except (ImportError, OSError, ValueError) as error:
        logger.warning("A search was not counted: %s", error)


def _searches() -> Histogram:
    global _histogram
    with _lock:
        if _histogram is None:
            from prometheus_client import Histogram

            _histogram = Histogram(
                f"{PREFIX}search_seconds",
                "Time until a search was answered, and how many were.",
                ["endpoint", "status"],
                buckets=BUCKETS,
                registry=None,
            )
        return _histogram


class _Searches:
    """What all web processes have noted; other metrics in the folder are somebody else's."""

    def collect(self) -> Iterator[Metric]:
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        for metric in MultiProcessCollector(CollectorRegistry()).collect():
            if metric.name.startswith(PREFIX):
                yield metric


class _Database:
    """Where the index stands; a few aggregate queries."""

    def collect(self) -> Iterator[Metric]:
        covered = status.coverage()
        live = Checkpoint.objects.live()
        yield _gauge(
            "products",
            "Products by what has become of them.",
            {
                ("status",): {
                    ("pending",): covered.pending,
                    ("indexed",): covered.indexed,
                    ("failed",): covered.failed,
                }
            },
        )
        yield _gauge(
            "oldest_pending_seconds",
            "For how long the product that waits longest has waited.",
            {(): {(): covered.oldest_pending_seconds}},
        )
        yield _gauge("leased", "Products that workers hold.", {(): {(): covered.leased}})
        yield _gauge(
            "indexed_per_second",
            f"Products indexed a second, over the last {status.PACE_SECONDS} seconds.",
            {(): {(): covered.per_second}},
        )
        yield _gauge(
            "embeddings",
            "Photos embedded by the live checkpoint.",
            {("checkpoint",): {(live.name,): covered.embeddings} if live else {}},
        )
        yield _gauge(
            "live_checkpoint",
            "1, with the name and the recipe of the checkpoint that is live.",
            {("checkpoint", "recipe"): {(live.name, live.recipe): 1} if live else {}},
        )
        yield _gauge(
            "live_checkpoint_promoted_timestamp_seconds",
            "When it went live.",
            {(): {(): live.promoted_at.timestamp()} if live and live.promoted_at else {}},
        )
        kinds = live.recall.get("kinds", {}) if live else {}
        for name, field, text in (
            (
                "recall",
                "recall",
                "Recall@10 of the live checkpoint's HNSW index, as last measured.",
            ),
            ("ef_search", "ef_search", "hnsw.ef_search that goes with it."),
        ):
            yield _gauge(
                name, text, {("kind",): {(kind,): each[field] for kind, each in kinds.items()}}
            )
        runs = dict(TrainingRun.objects.order_by().values_list("state").annotate(Count("pk")))
        yield _gauge(
            "training_runs",
            "Training runs by state.",
            {("state",): {(state,): runs.get(state, 0) for state in TrainingRun.State.values}},
        )


def _gauge(name: str, text: str, values: dict[tuple[str, ...], dict[Any, float]]) -> Metric:
    """`values`: label names -> label values -> the number."""
    from prometheus_client.core import GaugeMetricFamily

    ((labels, rows),) = values.items()
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for row, value in rows.items():
        family.add_metric([str(each) for each in row], value)
    return family
