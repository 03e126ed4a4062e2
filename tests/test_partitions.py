"""The tables of a checkpoint come and go without keeping shoppers or editors waiting."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from tests.catalogue import make_product, photo
from visualsearch import indexing, partitions, promotion
from visualsearch.exceptions import TablesBusyError
from visualsearch.models import Checkpoint, Embedding
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db(transaction=True)


def test_drop__gives_way_to_a_long_reader_and_leaves_the_table(
    monkeypatch: pytest.MonkeyPatch, in_transaction: Any
) -> None:
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 2)
    monkeypatch.setattr("visualsearch.doorbell.ring", lambda _: None)
    old = fake_checkpoint(live=False, state=Checkpoint.State.REFUSED)

    with in_transaction(lambda: Embedding.objects.count()):
        with pytest.raises(TablesBusyError, match=f"DROP TABLE.*_c{old.pk}.*pg_stat_activity"):
            partitions.drop(old)
        assert partitions.exists(old)
        assert promotion.prune() == []

    partitions.drop(old)
    assert not partitions.exists(old)


def test_create__needs_no_lock_that_a_reader_has(
    monkeypatch: pytest.MonkeyPatch, in_transaction: Any
) -> None:
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 1)
    make_product(photo("red"))

    with in_transaction(lambda: Embedding.objects.count()):
        made = fake_checkpoint(live=False)

    assert partitions.exists(made)
    assert indexing.embed_checkpoint(made) == 1


def test_create__what_a_product_takes_along_when_it_is_deleted_in_sql() -> None:
    made = fake_checkpoint(live=False)
    product = make_product(photo("red"))
    indexing.embed_checkpoint(made)

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM shop_productimage")
        cursor.execute("DELETE FROM shop_product WHERE id = %s", [product.pk])

    assert not Embedding.objects.exists()


def test_build_ann_index__one_whose_build_broke_off_is_built_again() -> None:
    made = fake_checkpoint(live=False)
    name = f"{partitions.partition_name(made)}_hnsw"
    partitions.build_ann_index(made)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name]
        )

    partitions.build_ann_index(made)

    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [name])
        assert cursor.fetchone() == (True,)
