"""Every kind of catalogue change opens the product's index entry, in the transaction that makes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection, transaction

from shop.models import Product, ProductImage
from tests.catalogue import add_photo, make_product, photo
from visualsearch.indexes import get_index
from visualsearch.models import IndexEntry
from visualsearch.tables import capture

pytestmark = pytest.mark.django_db


def execute(sql: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def version(product: Product) -> int:
    return IndexEntry.objects.get(product=product).version


def close_entries() -> None:
    IndexEntry.objects.update(status="indexed")


def copy_photo(product: Product) -> None:
    """As an import by psql does it."""
    with connection.cursor() as cursor:
        statement = "COPY shop_productimage (product_id, original, position) FROM STDIN"
        with cursor.copy(statement) as stream:
            stream.write(f"{product.pk}\tproducts/other.png\t1\n")


CHANGES: dict[str, Callable[[Product], object]] = {
    "save": lambda p: (
        Product.objects.get(pk=p.pk).save(update_fields=["name"]) or _save(p, name="Other")
    ),
    "bulk_update": lambda p: Product.objects.bulk_update([_changed(p, name="Other")], ["name"]),
    "update": lambda p: Product.objects.filter(pk=p.pk).update(name="Other"),
    "raw SQL": lambda p: execute("UPDATE shop_product SET name = 'Other' WHERE id = %s", p.pk),
    "price edit": lambda p: Product.objects.filter(pk=p.pk).update(price=99),
    "new photo": lambda p: add_photo(p, photo("blue"), position=1),
    "bulk-created photo": lambda p: ProductImage.objects.bulk_create(
        [ProductImage(product=p, original="products/other.png", position=1)]
    ),
    "COPY": copy_photo,
    "changed photo": lambda p: p.images.update(original="products/other.png"),
    "deleted photo": lambda p: p.images.all().delete(),
    "raw delete of a photo": lambda p: execute(
        "DELETE FROM shop_productimage WHERE product_id = %s", p.pk
    ),
}


@pytest.mark.django_db(transaction=True)
def test_truncate__of_a_table_of_photos_opens_every_product() -> None:
    products = [make_product(photo()) for _ in range(3)]
    close_entries()
    before = {product.pk: version(product) for product in products}

    execute("TRUNCATE shop_productimage")

    entries = IndexEntry.objects.values_list("product_id", "status", "version")
    assert {pk: (status, version) for pk, status, version in entries} == {
        pk: ("pending", number + 1) for pk, number in before.items()
    }


@pytest.mark.django_db(transaction=True)
def test_truncate__of_the_products_leaves_nothing_behind() -> None:
    make_product(photo())

    execute("TRUNCATE shop_product CASCADE")

    assert not IndexEntry.objects.exists()


def test_missing_triggers__names_a_table_whose_function_is_not_ours_any_more() -> None:
    index = get_index()
    execute(
        f"CREATE OR REPLACE FUNCTION {capture.FUNCTION}() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NULL; END'"
    )
    assert "shop_productimage" in capture.missing_triggers(index)

    capture.install(index)

    assert capture.missing_triggers(index) == []


def _changed(product: Product, **fields: object) -> Product:
    for name, value in fields.items():
        setattr(product, name, value)
    return product


def _save(product: Product, **fields: object) -> None:
    _changed(product, **fields).save()


@pytest.mark.parametrize("kind", CHANGES)
def test_change__opens_the_entry_and_raises_its_version(kind: str) -> None:
    product, other = make_product(photo()), make_product(photo())
    close_entries()
    before, before_other = version(product), version(other)

    CHANGES[kind](product)

    entry = IndexEntry.objects.get(product=product)
    assert entry.status == "pending"
    assert entry.version > before
    assert IndexEntry.objects.get(product=other).status == "indexed"
    assert version(other) == before_other


@pytest.mark.parametrize("kind", CHANGES)
def test_change__rolled_back_leaves_nothing(kind: str) -> None:
    product = make_product(photo())
    close_entries()
    before = version(product)

    with transaction.atomic():
        CHANGES[kind](product)
        transaction.set_rollback(True)

    entry = IndexEntry.objects.get(product=product)
    assert (entry.status, entry.version) == ("indexed", before)


def test_new_products__get_an_entry_however_they_are_written() -> None:
    saved = make_product()
    (bulk,) = Product.objects.bulk_create([Product(sku="bulk", name="Bulk", price=1)])
    columns = [f.column for f in Product._meta.concrete_fields if not f.generated]
    copied = ", ".join(c for c in columns if c not in ("id", "sku"))
    execute(
        f"INSERT INTO shop_product (sku, {copied}) "
        f"SELECT 'raw', {copied} FROM shop_product WHERE id = %s",
        saved.pk,
    )
    raw = Product.objects.get(sku="raw")

    found = dict(IndexEntry.objects.values_list("product_id", "status"))

    assert found == {saved.pk: "pending", bulk.pk: "pending", raw.pk: "pending"}


def test_photo_moved_to_another_product__opens_both() -> None:
    first, second = make_product(photo()), make_product()
    close_entries()

    first.images.update(product=second)

    assert IndexEntry.objects.filter(status="pending").count() == 2


def test_update_that_changes_nothing__opens_nothing() -> None:
    product = make_product(photo())
    close_entries()

    Product.objects.filter(pk=product.pk).update(name=product.name)

    assert IndexEntry.objects.get(product=product).status == "indexed"


def test_change__clears_what_was_held_against_the_old_version() -> None:
    product = make_product(photo())
    IndexEntry.objects.update(status="failed", attempts=4, error_code="crashed", error="…")

    product.images.update(original="products/other.png")

    entry = IndexEntry.objects.get(product=product)
    assert (entry.status, entry.attempts, entry.error_code, entry.error) == ("pending", 0, "", "")


@pytest.mark.parametrize(
    "delete",
    [
        lambda p: p.delete(),
        lambda p: Product.objects.filter(pk=p.pk).delete(),
        lambda p: (
            execute(
                "WITH gone AS (DELETE FROM shop_productimage WHERE product_id = %s) SELECT 1", p.pk
            )
            or execute("DELETE FROM shop_product WHERE id = %s", p.pk)
        ),
    ],
    ids=["delete", "queryset delete", "raw SQL"],
)
def test_deleted_product__takes_its_entry_along(delete: Callable[[Product], object]) -> None:
    product = make_product(photo())
    pk = product.pk

    delete(product)

    assert not IndexEntry.objects.filter(product_id=pk).exists()


def test_table_with_a_column_that_has_no_equality__can_still_be_updated() -> None:
    product = make_product(photo())
    execute("ALTER TABLE shop_product ADD COLUMN extra json")
    close_entries()

    execute("""UPDATE shop_product SET extra = '{"a": 1}' WHERE id = %s""", product.pk)

    assert IndexEntry.objects.get(product=product).status == "pending"


def test_change__a_session_without_a_search_path_can_still_write() -> None:
    product = make_product(photo())
    close_entries()

    execute("SET LOCAL search_path = ''")
    execute("UPDATE public.shop_product SET name = 'Other' WHERE id = %s", product.pk)
    execute("SET LOCAL search_path = DEFAULT")

    assert IndexEntry.objects.get(product=product).status == "pending"


def test_missing_triggers__names_the_table_until_installed_again() -> None:
    execute("DROP TRIGGER visualsearch_capture ON shop_productimage")
    assert capture.missing_triggers(get_index()) == ["shop_productimage"]

    capture.install(get_index())

    assert capture.missing_triggers(get_index()) == []


def test_install__opens_entries_for_products_older_than_the_triggers() -> None:
    execute("ALTER TABLE shop_product DISABLE TRIGGER visualsearch_capture")
    old = make_product()
    assert not IndexEntry.objects.filter(product=old).exists()

    capture.install(get_index())

    assert IndexEntry.objects.get(product=old).status == "pending"
