"""The third catalogue: a text primary key, with every character a key may have."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from tests.testapp.books.models import Book
from tests.testapp.photos import photo_file
from visualsearch.models import Embedding, IndexEntry
from visualsearch.search import searching
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = [
    "978-3-16-148410-0",
    "a b",
    "it's",
    "100%",
    'say "hi"',
    "back\\slash",
    "ключ/1",
    "{x}",
    "NULL",
]


@pytest.fixture
def shelf() -> dict[str, Book]:
    """Indexed books: one with each key, each in a colour of its own."""
    fake_checkpoint()
    colours = ["red", "orange", "yellow", "green", "blue", "navy", "purple", "pink", "black"]
    books = {
        key: Book.objects.create(isbn=key, title=f"{colour} book", cover=photo_file(colour))
        for key, colour in zip(KEYS, colours, strict=True)
    }
    indexing.index_pending()
    return books


def test_check__finds_nothing_wrong_with_the_declaration() -> None:
    call_command("check", databases=["default"], fail_level="ERROR")


def test_index_pending__embeds_books_whatever_their_key(shelf: dict[str, Book]) -> None:
    assert set(Embedding.objects.values_list("product_id", flat=True)) == set(KEYS)
    assert IndexEntry.objects.filter(status="indexed").count() == len(KEYS)


def test_embed_checkpoint__goes_through_text_keys(shelf: dict[str, Book], settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"BATCH_SIZE": 1}
    other = fake_checkpoint(live=False)

    assert indexing.embed_checkpoint(other) == len(KEYS)
    assert Embedding.objects.filter(checkpoint=other).count() == len(KEYS)


def test_similar_to__finds_the_nearest(shelf: dict[str, Book]) -> None:
    blue = Book.objects.get(title="blue book")

    assert next(iter(searching.similar_to(blue, limit=3))).product.title == "navy book"


@pytest.mark.parametrize("key", KEYS)
def test_delete__in_raw_sql_leaves_no_ghost(key: str, shelf: dict[str, Book]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM books_book WHERE isbn = %s", [key])

    assert not Embedding.objects.filter(product_id=key).exists()
    assert not IndexEntry.objects.filter(product_id=key).exists()
    assert key not in [hit.product.pk for hit in searching.search("book", limit=20)]


def test_a_book_without_cover__is_no_fault(shelf: dict[str, Book]) -> None:
    Book.objects.create(isbn="bare", title="bare book")

    counts = indexing.index_pending()

    assert counts.failed == 0
    assert not Embedding.objects.filter(product_id="bare").exists()


def test_a_changed_key__takes_its_embedding_along(shelf: dict[str, Book]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE books_book SET isbn = 'c d' WHERE isbn = 'a b'")

    counts = indexing.index_pending()

    assert (counts.indexed, counts.embedded) == (1, 0)
    assert Embedding.objects.filter(product_id="c d").exists()
    assert not Embedding.objects.filter(product_id="a b").exists()


@pytest.mark.parametrize("key", [key for key in KEYS if "/" not in key])
def test_api__takes_any_key_without_a_slash(
    key: str, shelf: dict[str, Book], client: Client
) -> None:
    answer = client.get(f"/rest/products/{quote(key, safe='')}/similar/")

    assert answer.status_code == 200
    assert key not in [hit["id"] for hit in answer.json()["hits"]]


def test_api__an_endless_key_is_not_found(shelf: dict[str, Book], client: Client) -> None:
    assert client.get(f"/rest/products/{'x' * 500}/similar/").status_code == 404
