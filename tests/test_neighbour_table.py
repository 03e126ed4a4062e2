"""All lists computed anew take the place of the old ones at once, and lose no edit made meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection

from shop.models import Product
from tests.catalogue import add_photo, make_product, make_products, photo
from tests.test_neighbours import assert_right
from visualsearch.models import Checkpoint, SimilarProduct
from visualsearch.tables import partitions
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing, neighbours
from visualsearch.upkeep.neighbour_table import FreshTable

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def live(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"NEIGHBOURS": 5}
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda _: None)
    return fake_checkpoint()


def indexed(live: Checkpoint, count: int = 12) -> list[Product]:
    products = list(make_products(count))
    indexing.index_pending()
    neighbours.compute(live)
    return products


def tables(checkpoint: Checkpoint) -> list[str]:
    """Every table that is, or was to become, the checkpoint's neighbours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ %s ORDER BY 1",
            [f"^{partitions.neighbours_name(checkpoint)}(_|$)"],
        )
        return [name for (name,) in cursor.fetchall()]


def before(monkeypatch: pytest.MonkeyPatch, step: str, do: Callable[[], Any]) -> None:
    """Have `do` done once, before that step of a computation."""
    original: Any = getattr(FreshTable, step)

    def with_it(self: FreshTable, *args: Any) -> Any:
        monkeypatch.setattr(FreshTable, step, original)
        do()
        return original(self, *args)

    monkeypatch.setattr(FreshTable, step, with_it)


@pytest.mark.parametrize("step", ["append", "complete", "put_in_place"])
def test_compute__what_is_edited_meanwhile_is_in_the_new_lists(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    products = indexed(live)

    def edit() -> None:
        products[3].images.get().original.save("a.png", ContentFile(photo("navy", seed=7)))
        add_photo(products[4], photo("orange", seed=9), position=1)
        make_product(photo("orange", seed=8))
        products[5].delete()
        indexing.index_pending()

    before(monkeypatch, step, edit)
    neighbours.compute(live)

    assert Product.objects.count() == 12
    assert_right(live)
    assert tables(live) == [partitions.neighbours_name(live)]


def test_compute__a_product_that_sql_deletes_meanwhile_is_in_no_list(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = indexed(live)[5].pk

    def delete() -> None:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM shop_productimage WHERE product_id = %s", [gone])
            cursor.execute("DELETE FROM shop_product WHERE id = %s", [gone])

    before(monkeypatch, "complete", delete)
    neighbours.compute(live)

    for product in ("source_id", "target_id"):
        assert not SimilarProduct.objects.filter(**{product: gone}).exists()
    assert SimilarProduct.objects.values("source_id").distinct().count() == 11


def test_compute__the_new_table_has_the_keys_of_the_old_one(live: Checkpoint) -> None:
    def definitions() -> list[tuple[str, str]]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT contype::text, pg_get_constraintdef(oid) || convalidated::text "
                "FROM pg_constraint WHERE conrelid = to_regclass(%s) UNION ALL "
                "SELECT 'index', substring(pg_get_indexdef(indexrelid) FROM 'USING.*') "
                "FROM pg_index WHERE indrelid = to_regclass(%s) ORDER BY 1, 2",
                [partitions.neighbours_name(live)] * 2,
            )
            return list(cursor.fetchall())

    created = definitions()
    products = indexed(live)

    assert definitions() == created
    assert len([kind for kind, _ in created if kind == "f"]) == 2
    pk = products[0].pk
    products[0].delete()
    assert not SimilarProduct.objects.filter(target_id=pk).exists()


def test_compute__a_reader_finds_all_old_or_all_new_lists(
    live: Checkpoint, in_transaction: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """One whose transaction began before, as a dump's, keeps its lists; then they change one by one."""
    indexed(live)
    make_product(photo("red", seed=3))
    indexing.embed_checkpoint(live)
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 2)

    with (
        in_transaction(lambda: SimilarProduct.objects.count()),
        caplog.at_level(logging.WARNING, logger="visualsearch.upkeep.neighbours"),
    ):
        neighbours.compute(live)

    assert "replace the old ones list by list" in caplog.text
    assert_right(live)
    assert tables(live) == [partitions.neighbours_name(live)]


def test_compute__waits_for_no_editor_and_edits_are_kept_when_one_holds_a_product(
    live: Checkpoint, in_transaction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = indexed(live)[0]
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 2)

    with in_transaction(lambda: Product.objects.filter(pk=product.pk).update(name="held")):
        neighbours.compute(live)

    assert_right(live)


def test_compute__what_a_process_left_that_died_is_dropped(live: Checkpoint) -> None:
    FreshTable(live, []).create()
    assert len(tables(live)) == 2

    indexed(live)

    assert tables(live) == [partitions.neighbours_name(live)]
    FreshTable(live, []).create()
    partitions.drop(live)
    assert tables(live) == []


def test_compute__of_two_processes_the_later_one_goes_on(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    make_products(12)
    indexing.embed_checkpoint(live)
    before(monkeypatch, "append", lambda: neighbours.compute(live))

    with caplog.at_level(logging.INFO, logger="visualsearch.upkeep.neighbours"):
        assert neighbours.compute(live) == 12

    assert "are computed by another process" in caplog.text
    assert_right(live)


def test_compute__one_that_fails_leaves_the_old_lists(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed(live)

    def fail() -> None:
        raise RuntimeError("cancelled")

    before(monkeypatch, "complete", fail)
    with pytest.raises(RuntimeError, match="cancelled"):
        neighbours.compute(live)

    assert_right(live)
    assert tables(live) == [partitions.neighbours_name(live)]


def test_drop__a_partition_that_is_dropped_meanwhile_does_not_come_back(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed(live)
    before(monkeypatch, "append", lambda: partitions.drop(live))

    neighbours.compute(live)

    assert tables(live) == []
    assert not partitions.exists(live)
