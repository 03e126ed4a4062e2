"""The product page when index, Redis, worker or checkpoint are gone: the same page, less the widget."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from shop.models import Product
from tests.colour_catalogue import embed, product, set_neighbours
from visualsearch.models import Checkpoint, Embedding, SimilarProduct
from visualsearch.tables import partitions
from visualsearch.templatetags import visualsearch as templatetags
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

TIMES = 7
WIDGET = re.compile(r'<section class="visual-similar".*?</section>', re.DOTALL)
# Tokens, and ids that count up, differ from one page to the next.
VARYING = re.compile(r'value="\w{64}"|visual-(?:search|similar)-\d+')


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time; how long a page waits is for test_templatetags."""
    monkeypatch.setattr(templatetags, "WIDGET_MILLISECONDS", 30_000)


@pytest.fixture
def page() -> str:
    """The address of a product that has similar ones."""
    made = {c: product(c, c) for c in ("red", "pink", "blue", "navy", "green", "black")}
    checkpoint = fake_checkpoint()
    embed(checkpoint, *made.values())
    for source in made.values():
        set_neighbours(checkpoint, source, *(p for p in made.values() if p != source))
    return made["red"].get_absolute_url()


def no_neighbours(settings: Any) -> None:
    SimilarProduct.objects.all().delete()


def no_embeddings(settings: Any) -> None:
    SimilarProduct.objects.all().delete()
    Embedding.objects.all().delete()


def no_tables(settings: Any) -> None:
    with connection.cursor() as cursor:
        for model in (SimilarProduct, Embedding):
            cursor.execute(f"ALTER TABLE {model._meta.db_table} RENAME TO {model.__name__}_lost")


def no_partitions(settings: Any) -> None:
    partitions.drop(Checkpoint.objects.get())


def no_checkpoint(settings: Any) -> None:
    Checkpoint.objects.update(state=Checkpoint.State.RETIRED)


def no_checkpoint_files(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": ""}


def no_redis(settings: Any) -> None:
    """Nothing listens there; and no worker can be reached through it either."""
    address = "redis://127.0.0.1:1/0"
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": address,
            "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5},
        }
    }
    settings.CELERY_BROKER_URL = address


GONE: dict[str, tuple[Callable[[Any], None], bool]] = {
    "neighbours": (no_neighbours, True),
    "embeddings": (no_embeddings, True),
    "index": (no_partitions, True),
    "tables": (no_tables, False),
    "checkpoint": (no_checkpoint, True),
    "files of the checkpoint": (no_checkpoint_files, True),
    "Redis and workers": (no_redis, True),
}
"""What is taken away, and whether a widget may still be there: of precomputed or same-kind products."""


def timed(client: Client, address: str) -> tuple[str, float]:
    """The page, and the median of its seconds."""
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        response = client.get(address)
        seconds.append(time.perf_counter() - began)
        assert response.status_code == 200
    return response.content.decode(), statistics.median(seconds)


def without_widget(html: str) -> str:
    return re.sub(r"\s+", " ", VARYING.sub("", WIDGET.sub("", html)))


@pytest.mark.parametrize("what", GONE)
def test_product_page__stays_up_and_as_it_was(
    client: Client, page: str, settings: Any, what: str, record_property: Any
) -> None:
    take_away, may_have_widget = GONE[what]
    client.get(page)  # templates and connections are there
    whole, before = timed(client, page)
    assert "visual-similar" in whole
    take_away(settings)

    left, after = timed(client, page)

    assert without_widget(left) == without_widget(whole)
    assert may_have_widget or "visual-similar" not in left
    # How fast, benchmarks.page_alone says: here the machine may be busy with anything.
    record_property(
        "milliseconds", f"{1000 * before:.1f} before, {1000 * after:.1f} without {what}"
    )


def test_product_page__the_widget_asks_few_questions(
    client: Client, page: str, django_assert_max_num_queries: Any
) -> None:
    client.get(page)
    product_alone = Product.objects.get(sku="red")
    assert product_alone.get_absolute_url() == page

    with django_assert_max_num_queries(26):
        client.get(page)
