"""The first embeddings of a checkpoint are loaded beside a catalogue that goes on living, and lack nothing at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.db import connection

from shop.models import Product, ProductImage
from shop.visual_indexes import ProductIndex
from tests.catalogue import make_product, make_products, photo
from tests.test_indexing import CountingEncoder
from visualsearch.health import doctor
from visualsearch.models import Checkpoint, Embedding, IndexEntry
from visualsearch.photos.images import content_hash
from visualsearch.tables import partitions
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing, loading, storing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def encoder(settings: Any, monkeypatch: pytest.MonkeyPatch) -> type[CountingEncoder]:
    """Two products at a time."""
    monkeypatch.setattr(indexing, "BACKFILL_SECONDS", 0)  # no batch is quicker than that
    monkeypatch.setattr(indexing, "BACKFILL_BATCHES", 1)
    CountingEncoder.images, CountingEncoder.fault = 0, None
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "BATCH_SIZE": 2,
        "ENCODER": "tests.test_indexing.CountingEncoder",
    }
    return CountingEncoder


def new_checkpoint() -> Checkpoint:
    """As training leaves it: with files, and no table yet."""
    checkpoint = fake_checkpoint(live=False)
    partitions.drop(checkpoint)
    return checkpoint


def load_while(checkpoint: Checkpoint, happens: Callable[[], object]) -> None:
    """Load the embeddings; `happens` does so once, when the first two products are there."""
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 1:
            assert not partitions.exists(checkpoint)
            happens()

    indexing.embed_checkpoint(checkpoint, progress=progress)
    assert len(seen) > 1


def execute(sql: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def replace_photo(product: Product) -> bytes:
    data = photo("green", seed=77)
    name = ProductImage.objects.get(product=product).original.storage.save(
        "loading/new.png", ContentFile(data)
    )
    ProductImage.objects.filter(product=product).update(original=name)
    return data


def hashes(checkpoint: Checkpoint) -> dict[Any, bytes]:
    rows = Embedding.objects.filter(checkpoint=checkpoint).values_list("product_id", "content_hash")
    return {product_id: bytes(digest) for product_id, digest in rows}


def test_load__the_table_becomes_the_partition_with_key_and_reference() -> None:
    products = make_products(5, photos=2)
    checkpoint = new_checkpoint()

    assert indexing.embed_checkpoint(checkpoint) == 5

    assert Embedding.objects.filter(checkpoint=checkpoint).count() == 10
    assert not partitions.is_there(partitions.loading_name(checkpoint))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT contype, convalidated FROM pg_constraint WHERE conrelid = %s::regclass "
            "AND contype IN ('p', 'f', 'c') ORDER BY contype::text",
            [partitions.partition_name(checkpoint)],
        )
        kinds = cursor.fetchall()
    assert [kind for kind, _ in kinds if kind != "c"] == ["f", "p"]
    assert all(is_valid for _, is_valid in kinds)
    execute("DELETE FROM shop_productimage WHERE product_id = %s", products[0].pk)
    execute("DELETE FROM shop_product WHERE id = %s", products[0].pk)
    assert Embedding.objects.filter(checkpoint=checkpoint).count() == 8
    assert indexing.embed_checkpoint(checkpoint) == 0


@pytest.mark.parametrize("which", [0, 4], ids=["loaded already", "not yet loaded"])
def test_load__a_product_that_is_deleted_meanwhile_in_sql_leaves_no_ghost(which: int) -> None:
    products = make_products(6)
    checkpoint = new_checkpoint()

    def delete() -> None:
        execute("DELETE FROM shop_productimage WHERE product_id = %s", products[which].pk)
        execute("DELETE FROM shop_product WHERE id = %s", products[which].pk)

    load_while(checkpoint, delete)

    kept = {product.pk for product in products} - {products[which].pk}
    assert set(hashes(checkpoint)) == kept


def test_load__a_product_that_is_deleted_while_its_batch_is_written_leaves_no_ghost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    products = make_products(4)
    checkpoint = new_checkpoint()
    append = loading.append

    def late(*args: Any, **options: Any) -> Any:
        if Product.objects.filter(pk=products[0].pk).exists():
            products[0].delete()
        return append(*args, **options)

    monkeypatch.setattr(loading, "append", late)

    indexing.embed_checkpoint(checkpoint)

    assert set(hashes(checkpoint)) == {product.pk for product in products[1:]}


@pytest.mark.parametrize("is_indexed", [True, False], ids=["indexed by the live one", "waiting"])
def test_load__a_photo_that_is_replaced_meanwhile_is_the_one_embedded(is_indexed: bool) -> None:
    """The worker closes the entry when the live checkpoint has it: it still lacks in the new one."""
    live = fake_checkpoint()
    products = make_products(5)
    indexing.index_pending()
    checkpoint = new_checkpoint()
    data = b""

    def edit() -> None:
        nonlocal data
        data = replace_photo(products[0])
        if is_indexed:
            indexing.index_pending()
            assert IndexEntry.objects.get(product=products[0]).status == "indexed"

    load_while(checkpoint, edit)

    assert hashes(checkpoint)[products[0].pk] == content_hash(data)
    row = Embedding.objects.get(checkpoint=checkpoint, product=products[0])
    assert row.version == IndexEntry.objects.get(product=products[0]).version
    indexing.index_pending()
    assert hashes(live) == hashes(checkpoint)


def test_load__what_is_taken_out_of_the_index_meanwhile_is_not_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = Product.objects.filter(published=True)
    monkeypatch.setattr(ProductIndex, "get_queryset", lambda self: published.all())
    fake_checkpoint()
    products = make_products(5)
    indexing.index_pending()
    checkpoint = new_checkpoint()

    def hide() -> None:
        Product.objects.filter(pk=products[0].pk).update(published=False)
        indexing.index_pending()

    load_while(checkpoint, hide)

    assert set(hashes(checkpoint)) == {product.pk for product in products[1:]}
    found = {each.name: each.level for each in doctor.examine(ask_workers=False)}
    assert (found["I1"], found["I2"], found["I4"]) == ("ok", "ok", "ok")


def test_load__what_is_new_meanwhile_is_in_it() -> None:
    make_products(5)
    checkpoint = new_checkpoint()
    made: list[Product] = []

    load_while(checkpoint, lambda: made.append(make_product(photo("blue", seed=5))))

    assert made[0].pk in hashes(checkpoint)
    assert len(hashes(checkpoint)) == 6


def test_load__that_is_killed_goes_on_where_it_was(encoder: type[CountingEncoder]) -> None:
    make_products(6)
    checkpoint = new_checkpoint()

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_while(checkpoint, die)
    assert not partitions.exists(checkpoint)
    assert encoder.images == 2

    assert indexing.embed_checkpoint(checkpoint) == 4

    assert encoder.images == 6
    assert len(hashes(checkpoint)) == 6


def test_load__that_is_killed_before_its_table_is_attached_embeds_nothing_again(
    encoder: type[CountingEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reference is there already, as it would be after a crash in between."""
    make_products(4)
    checkpoint = new_checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr("visualsearch.tables.unattached.Unattached.attach", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            indexing.embed_checkpoint(checkpoint)
    assert not partitions.exists(checkpoint)

    indexing.embed_checkpoint(checkpoint)

    assert encoder.images == 4
    assert len(hashes(checkpoint)) == 4


def test_load__that_is_killed_when_its_table_was_attached_lacks_no_table_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_products(4)
    checkpoint = new_checkpoint()
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "create", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            indexing.embed_checkpoint(checkpoint)
    assert partitions.exists(checkpoint)

    indexing.embed_checkpoint(checkpoint)

    assert partitions.is_there(partitions.neighbours_name(checkpoint))
    assert len(hashes(checkpoint)) == 4


def test_append__two_processes_that_load_the_same_store_each_row_once() -> None:
    products = make_products(2)
    checkpoint = new_checkpoint()
    loading.begin(checkpoint)

    def write(version: int, digest: bytes) -> None:
        vector = np.eye(checkpoint.width, dtype="float32")[0]
        loading.append(
            checkpoint,
            [
                storing.Change(
                    product_id=product.pk,
                    version=version,
                    positions=[0],
                    rows=[storing.Row(position=0, image="a", content_hash=digest, vector=vector)],
                )
                for product in products
            ],
        )

    write(2, b"2" * 16)
    write(1, b"1" * 16)  # one that began earlier, and was slow
    loading.attach(checkpoint)
    assert set(hashes(checkpoint).values()) == {b"2" * 16}

    # One that was frozen until the table was attached: its rows go where any other writer's do.
    IndexEntry.objects.update(version=3)
    write(3, b"3" * 16)
    assert set(hashes(checkpoint).values()) == {b"3" * 16}


def test_index_pending__has_no_table_of_a_checkpoint_that_is_loading() -> None:
    live = fake_checkpoint()
    new_checkpoint()
    product = make_product(photo("red"))

    counts = indexing.index_pending()

    assert (counts.indexed, counts.deferred, counts.failed) == (1, 0, 0)
    assert set(Embedding.objects.values_list("product_id", "checkpoint_id")) == {
        (product.pk, live.pk)
    }
    found = {each.name: each for each in doctor.examine(ask_workers=False)}
    assert found["I4"].level == "ok", found["I4"]


def test_attach__waits_for_no_reader(monkeypatch: pytest.MonkeyPatch, in_transaction: Any) -> None:
    """A dump holds locks of readers on every table for as long as it takes."""
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 1)
    monkeypatch.setattr(loading, "PRODUCTS_AT_A_TIME", 2)
    fake_checkpoint()
    products = make_products(5, photos=2)
    checkpoint = new_checkpoint()

    with in_transaction(lambda: (Embedding.objects.count(), Product.objects.count())):
        indexing.embed_checkpoint(checkpoint)

    assert Embedding.objects.filter(checkpoint=checkpoint).count() == 10
    Product.objects.filter(pk=products[0].pk).delete()
    assert Embedding.objects.filter(checkpoint=checkpoint).count() == 8
    partitions.drop(checkpoint)
    assert not partitions.is_there(partitions.loading_name(checkpoint))


def test_drop__takes_along_what_was_loaded() -> None:
    make_products(4)
    checkpoint = new_checkpoint()

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_while(checkpoint, die)
    assert partitions.is_there(partitions.loading_name(checkpoint))

    partitions.drop(checkpoint)

    assert not partitions.is_there(partitions.loading_name(checkpoint))
