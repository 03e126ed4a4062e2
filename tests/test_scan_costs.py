"""Whether a search compares all that matches or reads the index: by the catalogue, the filter, and ef_search."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.db import connection

from shop.models import Product
from tests.test_nearest import embed, make_products, unit
from visualsearch.health import doctor
from visualsearch.lifecycle import recall
from visualsearch.models import Checkpoint
from visualsearch.search import nearest, scan_costs
from visualsearch.search.nearest import Kind, NearestProducts
from visualsearch.search.results import BLOCK
from visualsearch.search.scan_costs import Statistics
from visualsearch.tables import partitions
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

PRODUCTS = 2100
"""A few more than are compared in any case."""


@pytest.fixture
def catalogue_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Checkpoint]:
    """A checkpoint with an index, and as many embeddings as the statistics are made to say."""
    checkpoint = Checkpoint(pk=1, width=256, has_ann_index=True)

    def make(rows: int) -> Checkpoint:
        said = Statistics(rows=rows, has_one_photo_each=True)
        monkeypatch.setattr(scan_costs, "statistics", lambda _: said)
        return checkpoint

    return make


def most(checkpoint: Checkpoint, ef_search: int = 100) -> int:
    return scan_costs.most_compared(checkpoint, ef_search=ef_search, size=BLOCK)


@pytest.mark.parametrize("rows", [10_000, 20_000, 100_000, 1_000_000])
def test_index__is_read_where_the_scan_would_fill_a_block_before_it_is_left(
    catalogue_of: Any, rows: int
) -> None:
    matching = most(catalogue_of(rows))

    needed = BLOCK * rows / matching
    reached = scan_costs.reach(matching, ef_search=100, least=0)
    assert needed * scan_costs.SCAN_SPARE <= reached + 1
    # With a tenth fewer it would not: those are compared.
    assert needed / 0.9 * scan_costs.SCAN_SPARE > reached * 0.9


def test_index__a_whole_catalogue_is_read_from_it_when_it_is_not_small(catalogue_of: Any) -> None:
    assert most(catalogue_of(10_000), ef_search=800) < 10_000
    assert not scan_costs.is_always_exact(catalogue_of(10_000))


def test_index__a_wide_pass_has_to_spare_more(catalogue_of: Any) -> None:
    checkpoint = catalogue_of(10_000)

    assert most(checkpoint, ef_search=1000) == scan_costs.PASS_SHARE * 1000 > most(checkpoint)


def test_exact__a_small_catalogue_is_always_compared(catalogue_of: Any) -> None:
    assert scan_costs.is_always_exact(catalogue_of(1_200))
    assert most(catalogue_of(1_200)) == scan_costs.EXACT_LEAST


def test_exact__so_is_one_without_an_index(catalogue_of: Any) -> None:
    checkpoint = catalogue_of(1_000_000)
    checkpoint.has_ann_index = False

    assert scan_costs.is_always_exact(checkpoint)


def test_index__may_be_read_before_postgres_has_looked_at_the_table(catalogue_of: Any) -> None:
    checkpoint = catalogue_of(-1)

    assert not scan_costs.is_always_exact(checkpoint)
    assert most(checkpoint) == scan_costs.EXACT_LEAST


def test_exact__more_are_compared_where_the_index_holds_signs_alone(catalogue_of: Any) -> None:
    checkpoint = catalogue_of(20_000)
    checkpoint.width = partitions.HNSW_MAX_WIDTH + 1

    assert scan_costs.is_always_exact(checkpoint)
    assert most(catalogue_of(30_000)) == 20_000


def test_setting__takes_the_place_of_what_is_cheaper(catalogue_of: Any, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"EXACT_THRESHOLD": 20_000}

    assert most(catalogue_of(1_000_000), ef_search=1000) == 20_000
    assert scan_costs.is_always_exact(catalogue_of(20_000))
    assert not scan_costs.is_always_exact(catalogue_of(20_001))


@pytest.fixture
def shop() -> tuple[Checkpoint, list[Product], Any]:
    checkpoint = fake_checkpoint(name="v1", folder="v1")
    vectors = unit(np.random.default_rng(5).normal(size=(PRODUCTS, checkpoint.width)))
    products = make_products(PRODUCTS, name=lambda n: f"red thing {n}")
    embed(checkpoint, products, vectors)
    partitions.build_ann_index(checkpoint)
    return checkpoint, products, vectors


def search(checkpoint: Checkpoint, vector: Any, **conditions: Any) -> NearestProducts:
    return NearestProducts(
        checkpoint=checkpoint,
        vector=vector,
        kind=Kind.IMAGE,
        allowed=Product.objects.filter(**conditions),
    )


def is_streamed(asked: NearestProducts) -> bool:
    heard: list[str] = []

    def hear(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        heard.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(hear):
        assert len(asked.block(0).matches) == BLOCK
    return any("AS e ORDER BY" in sql for sql in heard)


def test_search__of_everything_reads_the_index_and_of_few_compares(shop: Any) -> None:
    checkpoint, _, vectors = shop

    assert is_streamed(search(checkpoint, vectors[0]))
    assert not is_streamed(search(checkpoint, vectors[0], price__lt=90))


def test_search__asks_as_many_rows_as_products_where_each_has_one_photo(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, products, vectors = shop
    asked: list[int] = []
    read = nearest.read

    def heard(sql: str, parameters: Any, **how: Any) -> Any:
        if "hnsw.ef_search" in how.get("settings", {}):
            asked.append(parameters[-1])
        return read(sql, parameters, **how)

    monkeypatch.setattr(nearest, "read", heard)
    assert scan_costs.statistics(checkpoint).has_one_photo_each
    search(checkpoint, vectors[0]).block(0)

    embed(checkpoint, products[:1000], vectors[:1000], position=1)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {partitions.partition_name(checkpoint)}")
    later = time.monotonic() + scan_costs.BELIEVED_SECONDS + 1
    monkeypatch.setattr(scan_costs.time, "monotonic", lambda: later)
    search(checkpoint, vectors[0]).block(0)

    assert asked == [BLOCK, 2 * BLOCK]


def test_probe__measures_what_searches_of_a_middling_catalogue_read(shop: Any) -> None:
    checkpoint, _, _ = shop

    assert "its recall was never measured" in _index_findings()
    assert set(recall.probe(checkpoint, queries=20)["kinds"]) == {"image", "text", "composed"}
    assert "recall@10" in _index_findings()


def test_search__of_an_index_that_no_probe_has_measured_finds_what_is_near(shop: Any) -> None:
    checkpoint, products, vectors = shop
    assert checkpoint.recall == {}

    right = 0
    for number in range(30):
        truth = {products[at].pk for at in np.argsort(-(vectors @ vectors[number]))[:10]}
        found = search(checkpoint, vectors[number]).block(0).matches[:10]
        right += len(truth & {match.product_id for match in found})

    assert right / 300 >= 0.97


def test_pages__of_a_middling_catalogue_show_every_product_once(shop: Any) -> None:
    checkpoint, _, vectors = shop

    def pages() -> list[Any]:
        numbers = range(PRODUCTS // BLOCK)
        # Each page is asked for by a visitor who knows nothing of the others.
        blocks = [search(checkpoint, vectors[0]).block(number).matches for number in numbers]
        return [match.product_id for block in blocks for match in block]

    first = pages()
    assert len(first) == len(set(first)) == PRODUCTS
    assert pages() == first


def _index_findings() -> str:
    return " ".join(f.message for f in doctor.examine(ask_workers=False) if f.name == "index")
