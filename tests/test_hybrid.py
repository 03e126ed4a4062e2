"""Words beside vectors: what a trigger keeps of them, misspellings, article numbers, and the fused list."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from shop.models import Product
from tests.colour_catalogue import embed, product
from visualsearch import indexes
from visualsearch.exceptions import SearchTimeoutError
from visualsearch.models import Checkpoint, SearchDocument
from visualsearch.search import hybrid, nearest, searching, spelling, word_ranking
from visualsearch.search.hybrid import HybridMatches
from visualsearch.search.nearest import Kind, NearestProducts
from visualsearch.search.results import Total
from visualsearch.search.subquery import Subquery
from visualsearch.tables import documents, partitions
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

Shop = dict[str, Product]


@pytest.fixture
def checkpoint() -> Checkpoint:
    return fake_checkpoint()


@pytest.fixture
def shop(checkpoint: Checkpoint) -> Shop:
    colours = ("red", "pink", "blue", "navy", "green", "black", "white", "yellow")
    made = {colour: product(f"SKU-{colour}", colour) for colour in colours}
    embed(checkpoint, *made.values())
    return made


def skus(results: Any) -> list[str]:
    return [hit.product.sku.removeprefix("SKU-") for hit in results]


def words_of(made: Product) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT document::text FROM visualsearch_searchdocument WHERE product_id = %s",
            [made.pk],
        )
        return str(cursor.fetchone()[0])


# --- what is kept of the words ------------------------------------------------------------------


def test_documents__are_written_by_whatever_writes_the_product(db: None) -> None:
    saved = product("a", "red", name="linen skirt", description="for long evenings")
    assert "'linen':1A" in words_of(saved) and "'even'" in words_of(saved)
    saved.name = "woollen skirt"
    saved.save()
    assert "'woollen'" in words_of(saved) and "'linen'" not in words_of(saved)
    Product.objects.filter(pk=saved.pk).update(colour="mauve")
    assert "'mauv'" in words_of(saved)
    bulk = Product.objects.bulk_create(
        [Product(sku=f"b{n}", name=f"parka {n}", price=1) for n in range(3)]
    )
    assert all("'parka'" in words_of(each) for each in bulk)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE shop_product SET name = 'anorak' WHERE sku = 'b1'")
    assert "'anorak'" in words_of(bulk[1])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM shop_product WHERE sku = 'b1'")
    assert not SearchDocument.objects.filter(product_id=bulk[1].pk).exists()


def test_documents__an_edit_of_something_else_writes_nothing(db: None) -> None:
    made = product("a", "red")

    def version() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT xmin, ctid FROM visualsearch_searchdocument")
            return cursor.fetchone()

    before = version()
    Product.objects.filter(pk=made.pk).update(price=99, stock=5)
    assert version() == before


def test_documents__hostile_and_huge_texts_do_not_fail_the_save(db: None) -> None:
    for number, text in enumerate(
        ["'; DROP TABLE x; --", "% %s %%", "\\", "🙂" * 50, "word " * 9999]
    ):
        made = product(f"h{number}", "red", description=text)
        assert "'dress'" in words_of(made)


def test_documents__a_rollback_leaves_none(db: None) -> None:
    with transaction.atomic():
        made = product("a", "red")
        transaction.set_rollback(True)
    assert not SearchDocument.objects.filter(product_id=made.pk).exists()


def test_documents__refresh_writes_what_no_trigger_saw(db: None) -> None:
    made = product("a", "red")
    index = indexes.get_index()
    SearchDocument.objects.all().delete()
    assert documents.missing(index) == 1
    assert documents.refresh(index) == 1
    assert "'dress'" in words_of(made)
    assert (documents.refresh(index), documents.missing(index)) == (0, 0)


def test_documents__a_changed_configuration_is_written_by_migrate(db: None, settings: Any) -> None:
    made = product("a", "red", name="running shoes")
    assert "'run'" in words_of(made)
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"TEXT_SEARCH_CONFIG": "simple"}
    index = indexes.get_index()
    assert documents.install(index) is True
    assert "'running'" in words_of(made)
    assert documents.install(index) is False, "nothing has changed since"
    assert documents.missing_triggers(index) == []


# --- misspelt words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [
        ("", "", 0),
        ("dress", "dress", 0),
        ("drses", "dress", 1),
        ("dres", "dress", 1),
        ("trosuers", "trousers", 1),
        ("blak", "black", 1),
        ("abc", "xyz", 3),
    ],
)
def test_distance__counts_what_fingers_do(one: str, other: str, steps: int) -> None:
    assert spelling.distance(one, other) == spelling.distance(other, one) == steps


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("cardigan", "c"),
        ("cardgian", "c"),
        ("cardigna", "c"),
        ("kardigan", "c"),
        ("trosers", "t"),
        ("trousres", "t"),
        ("card", "c"),
        ("trous", "t"),
        ("Cardigann", "c"),
    ],
)
def test_misspelt_words__find_what_was_meant(db: None, typed: str, meant: str) -> None:
    product("c", "grey", name="soft cardigan", category="knitwear")
    product("t", "grey", name="wide trousers", category="legs")
    product("x", "grey", name="cord jacket", category="jackets")
    assert spelling.collect() > 5
    assert skus(searching.search(typed)) == [meant]


def test_misspelt_words__a_word_that_products_have_means_itself(db: None) -> None:
    product("coat", "grey", name="coat")
    product("boat", "grey", name="boat")
    spelling.collect()
    assert skus(searching.search("boat")) == ["boat"]


def test_words__one_that_no_product_has_leaves_none_out(db: None) -> None:
    product("red", "grey", name="red kaftan")
    product("blue", "grey", name="blue kaftan")
    product("coat", "grey", name="red coat")
    spelling.collect()
    assert skus(searching.search("red kaftan xylophone")) == ["red"]
    assert skus(searching.search("xylophone")) == []


def test_words__a_new_one_counts_before_words_are_collected_again(db: None) -> None:
    product("plain", "grey", name="kaftan")
    spelling.collect()
    product("new", "grey", name="zanzibar kaftan")
    assert skus(searching.search("zanzibar kaftan")) == ["new", "plain"]


def test_misspelt_words__a_number_is_no_misspelling_of_another_number(db: None) -> None:
    product("cable", "grey", name="cable 1205")
    spelling.collect()
    assert spelling.corrections(["cabel", "1206"]) == {"cabel": ["cabl"]}


# --- the fused list -----------------------------------------------------------------------------


def test_hybrid__words_find_what_vectors_cannot_know(shop: Shop, checkpoint: Checkpoint) -> None:
    odd = product("SKU-odd", "black", name="Zanzibar kaftan")
    embed(checkpoint, odd)
    assert skus(searching.search("zanzibar"))[0] == "odd"
    vectors_only = searching.search("zanzibar", hybrid=False)
    assert skus(vectors_only)[0] != "odd"
    assert len(vectors_only) == len(searching.search("zanzibar")) == 9


def test_hybrid__vectors_decide_between_products_with_the_same_words(shop: Shop) -> None:
    # All have the word "dress"; only the vectors know which of them are blue.
    found = skus(searching.search("dress", hybrid=True))
    assert sorted(found) == sorted(shop)
    assert skus(searching.search("blue dress"))[0] == "blue"


def test_hybrid__photos_are_looked_up_for_no_more_than_the_page(
    shop: Shop, checkpoint: Checkpoint, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many match that nobody counts them: the index is read.
    monkeypatch.setattr(nearest, "MANY_SPARE", 1)
    small = {"EXACT_THRESHOLD": 10, "OFFSET_MAX": 0, "LIMIT_MAX": 60}
    settings.VISUALSEARCH = settings.VISUALSEARCH | small
    # Thirty others have the words, farther from what was asked than those that vectors put first.
    embed(checkpoint, *(product(f"w{n}", "white", name="blue thing") for n in range(30)))
    embed(checkpoint, *(product(f"b{n}", "blue", name="blue thing") for n in range(30)))
    partitions.build_ann_index(checkpoint)
    spelling.collect()
    with CaptureQueriesContext(connection) as first_page:
        first = searching.search("blue thing", page=10)[:10]
    with CaptureQueriesContext(connection) as all_of_them:
        found = searching.search("blue thing", page=10)[:60]
    looked_up = [
        sum("DISTINCT ON" in query["sql"] for query in captured.captured_queries)
        for captured in (first_page, all_of_them)
    ]
    assert looked_up[0] == 0 < looked_up[1]
    assert skus(found)[:10] == skus(first)
    assert len({hit.product.pk for hit in found}) == 60


def test_hybrid__a_search_that_took_too_long_is_asked_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = searching.search("dress", hybrid=True)
    with monkeypatch.context() as patched:
        patched.setattr(word_ranking, "best", _times_out)
        with pytest.raises(SearchTimeoutError):
            results[:5]
    assert results.total == len(shop), "and not: nothing was found"


def test_hybrid__a_later_page_that_took_too_long_is_asked_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    matches = HybridMatches(
        NearestProducts(
            checkpoint=Checkpoint.objects.get(),
            vector=np.ones(Checkpoint.objects.get().width, dtype=np.float32),
            kind=Kind.TEXT,
            allowed=Product.objects.all(),
            size=3,
            page=3,
        ),
        text="dress",
        semantic_ratio=0.5,
    )
    monkeypatch.setattr(hybrid, "LEXICAL_LIST", 1)
    first = matches.block(0).matches
    with monkeypatch.context() as patched:
        patched.setattr(nearest, "read", _times_out)
        with pytest.raises(SearchTimeoutError):
            list(matches.block(2).matches)
    found = [match.product_id for number in range(3) for match in matches.block(number).matches]
    assert [match.product_id for match in first] == found[:3]
    assert len(set(found)) == len(found) == len(shop)


def _times_out(*_: Any, **__: Any) -> NoReturn:
    raise SearchTimeoutError("too long")


@pytest.mark.parametrize("typed", ["SKU-green", "sku-green", " sku - green ", "SKU-GREEN"])
def test_hybrid__an_article_number_comes_first(shop: Shop, typed: str) -> None:
    results = searching.search(typed)
    assert skus(results)[0] == "green"
    assert (results[0].match, results[0].explanation.is_code) == (1.0, True)


def test_hybrid__semantic_ratio_goes_from_words_to_vectors(
    shop: Shop, checkpoint: Checkpoint
) -> None:
    named = product("SKU-named", "white", name="navy seal tin", category="tins")
    embed(checkpoint, named)
    by_words = searching.search("navy", hybrid={"semantic_ratio": 0})
    assert set(skus(by_words)) == {"navy", "named"}
    assert by_words.checkpoint is None and not by_words.degraded
    by_both = skus(searching.search("navy", hybrid={"semantic_ratio": 0.5}))
    assert set(by_both[:2]) == {"navy", "named"}
    by_vectors = skus(searching.search("navy", hybrid={"semantic_ratio": 1}))
    assert by_vectors[0] == "navy" and by_vectors.index("named") > 2


def test_hybrid__usual_for_words_alone_and_not_beside_a_photo(
    shop: Shop, checkpoint: Checkpoint
) -> None:
    odd = product("SKU-odd", "black", name="Zanzibar kaftan")
    embed(checkpoint, odd)
    assert searching.search("zanzibar")[0].explanation.by_words == 1
    beside = searching.search("zanzibar", image=shop["red"])
    assert all(hit.explanation.by_words is None for hit in beside)
    asked = searching.search("zanzibar", image=shop["red"], hybrid=True)
    assert "odd" in skus(asked)[:2]


def test_hybrid__every_hit_has_its_photo_and_score(shop: Shop, checkpoint: Checkpoint) -> None:
    odd = product("SKU-odd", "black", name="Zanzibar kaftan")
    embed(checkpoint, odd)
    # More products are nearer than one block holds, so that words alone bring this one in.
    embed(checkpoint, *(product(f"g{n}", "green") for n in range(120)))
    results = searching.search("green zanzibar")
    hit = results[skus(results).index("odd")]
    assert (hit.position, hit.image_name) == (0, "products/SKU-odd.png")
    assert hit.score == pytest.approx(
        next(
            each.score
            for each in searching.search("green zanzibar", hybrid=False)
            if each.product == odd
        ),
        abs=2e-3,
    )


def test_hybrid__what_is_not_embedded_yet_is_found_by_its_words(shop: Shop) -> None:
    product("SKU-new", "red", name="fresh dress")
    results = searching.search("fresh")
    assert (skus(results)[0], results[0].score, results.total) == ("new", None, 9)


def test_hybrid__pages_show_every_product_once(shop: Shop, checkpoint: Checkpoint) -> None:
    made = [
        product(f"p{n}", "red" if n % 3 else "green", name="red dress" if n % 2 else "green hat")
        for n in range(330)
    ]
    embed(checkpoint, *made)
    seen: list[Any] = []
    for start in range(0, 360, 7):  # each page is a request of its own
        seen += [hit.product.pk for hit in searching.search("green dress")[start : start + 7]]
    assert len(seen) == len(set(seen)) == 338


def test_hybrid__conditions_and_visibility_hold_for_words_too(shop: Shop) -> None:
    Product.objects.filter(sku="SKU-red").update(published=False)
    Product.objects.filter(sku="SKU-blue").update(price=500)
    for asked in ("red", "SKU-red", "red dress", "rde", "SKU-blue"):
        results = searching.search(asked, filters={"price__lt": 100})
        assert {"red", "blue"}.isdisjoint(skus(results)), asked
        assert len(results) == results.total == 6


def test_hybrid__takes_a_bounded_number_of_statements(shop: Shop) -> None:
    spelling.collect()
    searching.search("blue dress")  # reads all of the checkpoint's row, once
    with CaptureQueriesContext(connection) as captured:
        results = searching.search("blue dress")
        assert skus(results[:5])[0] == "blue"
    statements = [
        query["sql"]
        for query in captured.captured_queries
        if "set_config" not in query["sql"] and "SAVEPOINT" not in query["sql"]
    ]
    # checkpoint, nearest, stems, words, products
    assert len(statements) == 5, statements
    assert sum("ts_rank" in sql for sql in statements) == 1


def test_hybrid__a_common_word_leaves_out_no_product_that_is_allowed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More products have the word than are ranked, and none of the first of them is allowed.
    monkeypatch.setattr(word_ranking, "RANKED", (2, 2, 3))
    for colour in ("red", "pink", "blue", "navy", "green"):
        Product.objects.filter(sku=f"SKU-{colour}").update(published=False)
    results = searching.search("dress")
    placed = {hit.product.sku for hit in results if hit.explanation.by_words is not None}
    assert placed == {"SKU-black", "SKU-white", "SKU-yellow"}


@pytest.mark.parametrize("text", ["dress", "dress xylophone", "zanzibar dress", "dress trousers"])
def test_ranking__a_common_word_counts_for_what_is_near_whenever_it_was_stored(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    # More products have the word than are ranked, and more match alike than are kept of them.
    monkeypatch.setattr(word_ranking, "RANKED", (2, 2, 3))
    monkeypatch.setattr(word_ranking, "RANKED_SOME", 2)
    product("SKU-legs", "grey", name="trousers", category="legs")
    spelling.collect()
    last = product("SKU-last", "white", name="white dress")
    allowed = Subquery(Product.objects.all())
    before = word_ranking.best(text, allowed, most=2)
    after = word_ranking.best(text, allowed, most=2, near=[last.pk])
    assert last.pk not in [each.product_id for each in before.placed]
    assert (after.placed[0].product_id, after.placed[0].place) == (last.pk, 1)
    assert (before.total, len(after.placed)) == (after.total, 2)


def test_ranking__an_article_number_that_may_not_be_seen_leaves_no_word_out(db: None) -> None:
    seen = [product(f"p{n}", "red") for n in range(3)]
    product("x100", "green", name="green thing", published=False)
    product("t", "blue", name="blue trousers", published=False)
    spelling.collect()
    allowed = Subquery(Product.objects.filter(published=True))
    for text in ("red trousers", "x100 red trousers"):
        placed = word_ranking.best(text, allowed, most=10).placed
        assert [each.product_id for each in placed] == [each.pk for each in seen], text


def test_ranking__those_with_a_new_word_push_none_out(db: None) -> None:
    first = [product(f"a{n}", "red", name="kaftan") for n in range(9)]
    rest = [product(f"b{n}", "red", name="kaftan") for n in range(11)]
    spelling.collect()
    for each in first:
        each.name = "zanzibar kaftan"
        each.save()
    allowed = Subquery(Product.objects.all())
    found = word_ranking.best("zanzibar kaftan", allowed, most=10, near=[rest[0].pk])
    assert [each.product_id for each in found.placed] == [
        *(each.pk for each in first),
        rest[0].pk,
    ]
    assert found.total == Total(value=10, exact=False)


def test_ranking__how_many_have_all_words_is_known_wherever_they_were_found(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_ranking, "RANKED", (2, 2, 3))
    for number in range(8):
        product(f"a{number}", name="kaftan", published=number > 4)
    spelling.collect()
    # Those that are ranked first may not be seen.
    allowed = Subquery(Product.objects.filter(published=True))
    found = word_ranking.best("kaftan", allowed, most=10)
    assert (len(found.placed), found.total) == (3, Total(value=3, exact=True))
    some = word_ranking.best("kaftan xylophone", Subquery(Product.objects.filter(sku="a7")), most=9)
    assert (len(some.placed), some.total) == (1, Total(value=1, exact=True))
    product("b", name="trousers", published=False)
    spelling.collect()
    assert word_ranking.best("kaftan trousers", allowed, most=10).total is None


def test_ranking__places_are_shared_by_those_that_match_alike_near_or_not(shop: Shop) -> None:
    allowed, near = Subquery(Product.objects.all()), [shop["white"].pk]
    placed = word_ranking.best("dress", allowed, most=10, near=near).placed
    assert [each.place for each in placed] == [1] * len(shop)


@pytest.mark.parametrize(
    "text",
    ["'\"\\ & | ! ( ) :* <->", "%_%s", "🙂", "a" * 256, "-", "💥 " * 60, "the", "''' or \"", "\\'"],
)
def test_hybrid__hostile_words_are_no_error(shop: Shop, text: str) -> None:
    assert len(list(searching.search(text))) == 8
