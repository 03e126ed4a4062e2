"""The metrics: right by the database, for those who may see them, and free where nobody asks."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from tests.catalogue import BROKEN, make_product, photo
from visualsearch.health import monitoring, status
from visualsearch.models import IndexEntry, TrainingRun
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "as long as it is secret"
AUTHORISED = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}


@pytest.fixture(autouse=True)
def token(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda bell: None)
    monkeypatch.delenv(monitoring.MULTIPROCESS, raising=False)
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"METRICS_TOKEN": TOKEN}


def scraped(client: Client) -> dict[tuple[str, ...], float]:
    """(name, label values by the labels' names …) -> value, as Prometheus reads them."""
    response = client.get("/api/metrics/", **AUTHORISED)  # type: ignore[arg-type]
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    return {
        (
            sample.name.removeprefix("visualsearch_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }


def test_metrics__of_an_empty_shop(client: Client) -> None:
    found = scraped(client)

    assert found["products", "pending"] == 0
    assert not any(name in ("embeddings", "live_checkpoint", "recall") for name, *_ in found)


@pytest.mark.django_db(transaction=True)
def test_metrics__are_what_the_tables_say(client: Client) -> None:
    kinds = {"text": {"recall": 0.985, "ef_search": 400}}
    fake_checkpoint(name="v1", folder="v1", recall={"kinds": kinds})
    for colour in ("red", "blue"):
        make_product(photo(colour), photo("green"))
    make_product(BROKEN)
    indexing.index_pending()
    late = make_product(photo("navy"))
    IndexEntry.objects.filter(product=late).update(
        changed_at=timezone.now() - timedelta(seconds=90)
    )
    TrainingRun.objects.create(state="failed")
    TrainingRun.objects.create(state="queued")

    found = scraped(client)

    assert [found["products", s] for s in ("pending", "indexed", "failed")] == [1, 2, 1]
    assert found["oldest_pending_seconds",] == pytest.approx(90, abs=20)
    assert found["embeddings", "v1"] == 4
    assert found["live_checkpoint", "v1", "fake"] == 1
    assert (found["recall", "text"], found["ef_search", "text"]) == (0.985, 400)
    runs = {state: found["training_runs", state] for state in TrainingRun.State.values}
    assert runs == {"queued": 1, "running": 0, "succeeded": 0, "failed": 1, "cancelled": 0}
    assert found["indexed_per_second",] > 0


@pytest.mark.parametrize(
    ("header", "is_staff", "answer"),
    [
        ("", None, 403),
        ("", False, 403),
        ("", True, 200),
        ("Bearer wrong", None, 403),
        ("Bearer ", None, 403),
        ("Bearer wörng", None, 403),
        (f"Bearer {TOKEN}", None, 200),
    ],
)
def test_metrics__for_staff_or_with_the_token(
    client: Client, header: str, is_staff: bool | None, answer: int
) -> None:
    if is_staff is not None:
        client.force_login(
            get_user_model().objects.create_user("someone", password="x", is_staff=is_staff)
        )
    headers: dict[str, Any] = {"HTTP_AUTHORIZATION": header} if header else {}

    assert client.get("/api/metrics/", **headers).status_code == answer
    assert client.post("/api/metrics/", **headers).status_code == 405


def test_metrics__without_a_token_set_no_header_opens_it(client: Client, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"METRICS_TOKEN": ""}
    for header in ("Bearer ", "Bearer", ""):
        assert client.get("/api/metrics/", HTTP_AUTHORIZATION=header).status_code == 403


def test_metrics__without_the_library_the_answer_names_the_extra(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    response = client.get("/api/metrics/", **AUTHORISED)  # type: ignore[arg-type]

    assert response.status_code == 404
    assert b"django-visualsearch[metrics]" in response.content


def test_metrics__a_database_that_is_away_is_503(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    def fail() -> Any:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(status, "coverage", fail)

    assert client.get("/api/metrics/", **AUTHORISED).status_code == 503  # type: ignore[arg-type]


def test_metrics__the_number_of_queries_does_not_grow(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    fake_checkpoint()
    for _ in range(3):
        make_product(photo())
    with django_assert_max_num_queries(12):
        scraped(client)


OBSERVE = """
import sys, django
django.setup()
from visualsearch.health import monitoring
for seconds in (0.003, 0.2):
    monitoring.observe("search", seconds, status=200)
monitoring.observe("page", 9.0, status=503)
"""


def test_searches__of_several_processes_are_added_up(
    client: Client,
    tmp_path: Path,
    worker_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = worker_environment | {monitoring.MULTIPROCESS: str(tmp_path)}
    for _ in range(3):
        subprocess.run([sys.executable, "-c", OBSERVE], cwd=ROOT, env=environment, check=True)
    monkeypatch.setenv(monitoring.MULTIPROCESS, str(tmp_path))

    found = scraped(client)

    assert found["search_seconds_count", "search", "2xx"] == 6
    assert found["search_seconds_bucket", "search", "0.005", "2xx"] == 3
    assert found["search_seconds_sum", "page", "5xx"] == pytest.approx(27)


def test_searches__are_timed_where_they_are_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, int]] = []
    monkeypatch.setattr(
        monitoring, "observe", lambda endpoint, seconds, status: heard.append((endpoint, status))
    )
    client.get("/api/search/?q=red")
    client.get("/api/search/?q=")
    client.get("/api/products/1/similar/")
    client.get("/search/?q=red")
    client.get("/api/health/")

    assert heard == [("search", 200), ("search", 400), ("similar", 404), ("page", 200)]


def test_searches__cost_nothing_where_nobody_asks(worker_environment: dict[str, str]) -> None:
    code = (
        "import sys, django; django.setup(); import shop.urls; from visualsearch.health import monitoring; "
        "monitoring.observe('search', 0.1, status=200); "
        "sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=worker_environment, check=True)


def test_documents__operations_names_every_metric(client: Client, tmp_path: Path) -> None:
    fake_checkpoint(recall={"kinds": {"text": {"recall": 1.0, "ef_search": 200}}})
    served = {name for name, *_ in scraped(client)} | {"search_seconds"}
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page.partition("## Metrics\n")[2].partition("\n## ")[0]

    assert set(re.findall(r"^\| `(\w+)(?:\{[\w,]+\})?` \|", section, re.MULTILINE)) == served


# -- pace -----------------------------------------------------------------------------------------


def test_coverage__pace_and_time_left() -> None:
    now = timezone.now()
    products = [make_product(photo()) for _ in range(8)]
    for number, product in enumerate(products[:5]):
        seconds = 1000 if number == 4 else 10 * (number + 1)  # the last is long ago
        IndexEntry.objects.filter(product=product).update(
            status="indexed", indexed_at=now - timedelta(seconds=seconds)
        )

    covered = status.coverage()

    assert covered.per_second == pytest.approx(4 / 40, rel=0.1)
    assert covered.eta_seconds == pytest.approx(30, rel=0.1)
    IndexEntry.objects.update(indexed_at=now - timedelta(seconds=1000))
    assert status.coverage().eta_seconds is None
    IndexEntry.objects.update(status="indexed")
    assert status.coverage().eta_seconds == 0
