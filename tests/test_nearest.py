"""Nearest-neighbour SQL: complete under any filter, one hit a product, the same on every page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from django.db import connection, models

from shop.models import Product
from visualsearch.exceptions import NoCheckpointError
from visualsearch.models import Checkpoint, Embedding
from visualsearch.search import nearest, scan_costs
from visualsearch.search.nearest import Kind, NearestProducts
from visualsearch.search.results import BLOCK, Match
from visualsearch.tables import deadlines, partitions
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db

Vectors = npt.NDArray[np.float32]
PRODUCTS = 2000


def unit(rows: npt.NDArray[Any]) -> Vectors:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def make_products(count: int, **fields: Any) -> list[Product]:
    start = Product.objects.count()
    return Product.objects.bulk_create(
        Product(
            **{"sku": f"p{start + n}", "name": f"product {n}", "price": n % 100, "stock": n % 3}
            | {name: value(n) if callable(value) else value for name, value in fields.items()}
        )
        for n in range(count)
    )


def embed(
    checkpoint: Checkpoint, products: Sequence[Product], vectors: Vectors, position: int = 0
) -> None:
    Embedding.objects.bulk_create(
        Embedding(
            checkpoint=checkpoint,
            product=product,
            position=position,
            image=f"{product.sku}-{position}.jpg",
            content_hash=b"0" * 16,
            version=1,
            vector=vector.tolist(),
        )
        for product, vector in zip(products, vectors, strict=True)
    )


@pytest.fixture
def checkpoint() -> Checkpoint:
    return fake_checkpoint()


@pytest.fixture
def crowd(checkpoint: Checkpoint) -> tuple[Checkpoint, list[Product], Vectors]:
    """2,000 products in 20 clusters, one category each, with an HNSW index."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(20, checkpoint.width))
    products = make_products(PRODUCTS, category=lambda n: f"kind {n % 20}")
    vectors = unit(
        np.array([centres[n % 20] for n in range(PRODUCTS)])
        + 0.4 * random.normal(size=(PRODUCTS, checkpoint.width))
    )
    embed(checkpoint, products, vectors)
    partitions.build_ann_index(checkpoint)
    return checkpoint, products, vectors


@pytest.fixture
def threshold(settings: Any) -> Callable[[int], None]:
    def set_to(value: int) -> None:
        settings.VISUALSEARCH = settings.VISUALSEARCH | {"EXACT_THRESHOLD": value}

    return set_to


def ask(
    checkpoint: Checkpoint,
    vector: Vectors,
    queryset: models.QuerySet[Product] | None = None,
    *,
    blocks: int = 1,
    kind: Kind = Kind.IMAGE,
) -> list[Match]:
    allowed = Product.objects.all() if queryset is None else queryset
    source = NearestProducts(checkpoint=checkpoint, vector=vector, kind=kind, allowed=allowed)
    return [match for number in range(blocks) for match in source.block(number).matches]


def truth(vectors: Vectors, query: Vectors, products: Sequence[Product], k: int) -> list[int]:
    return [products[at].pk for at in np.argsort(-(vectors @ query), kind="stable")[:k]]


def plan_of_stream(
    checkpoint: Checkpoint, vector: Vectors, queryset: models.QuerySet[Product]
) -> str:
    """EXPLAIN of the last statement that reads the HNSW index."""
    with connection.execute_wrapper(recorder := _Recorder()):
        ask(checkpoint, vector, queryset)
    sql, parameters = next((s, p) for s, p in recorder.statements if "ORDER BY distance LIMIT" in s)
    with deadlines.bounded() as cursor:
        deadlines.set_locally(cursor, {"enable_sort": "off"})
        cursor.execute(f"EXPLAIN {sql}", parameters)
        return "\n".join(row[0] for row in cursor.fetchall())


class _Recorder:
    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.statements.append((sql, params))
        return execute(sql, params, many, context)


def test_exact__agrees_with_brute_force(crowd: Any, threshold: Any) -> None:
    checkpoint, products, vectors = crowd
    threshold(PRODUCTS)
    for query in vectors[:5]:
        # halfvec keeps about three digits, so near ties may change places.
        found = [match.product_id for match in ask(checkpoint, query)][:20]
        assert len(set(found) & set(truth(vectors, query, products, 20))) >= 19
        assert found[0] == truth(vectors, query, products, 1)[0]


def test_exact__never_reads_the_hnsw_index(crowd: Any, threshold: Any) -> None:
    checkpoint, _, vectors = crowd
    threshold(PRODUCTS)
    with connection.execute_wrapper(recorder := _Recorder()):
        ask(checkpoint, vectors[0])
    sql, parameters = next((s, p) for s, p in recorder.statements if "nearest AS" in s)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {sql}", parameters)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "hnsw" not in plan


@pytest.mark.parametrize(
    "queryset",
    [
        Product.objects.all(),
        Product.objects.filter(published=True, price__lt=80),
        Product.objects.annotate(n=models.Count("images")).filter(n=0),
        Product.objects.filter(pk__in=Product.objects.order_by("pk")[:1900].values("pk")),
        Product.objects.distinct(),
    ],
    ids=["all", "filtered", "aggregated", "sliced", "distinct"],
)
def test_stream__reads_the_hnsw_index_in_its_order(
    crowd: Any, threshold: Any, queryset: models.QuerySet[Product]
) -> None:
    checkpoint, _, vectors = crowd
    threshold(10)
    plan = plan_of_stream(checkpoint, vectors[0], queryset.all())
    assert f"{partitions.partition_name(checkpoint)}_hnsw" in plan
    assert "Sort" not in plan.split("_hnsw")[0], "the order of the index was lost"


def test_stream__recall_against_brute_force(crowd: Any, threshold: Any) -> None:
    checkpoint, products, vectors = crowd
    threshold(10)
    random = np.random.default_rng(2)
    queries = unit(vectors[:40] + 0.2 * random.normal(size=(40, checkpoint.width)))
    right = sum(
        len(
            set(truth(vectors, query, products, 10))
            & {match.product_id for match in ask(checkpoint, query)[:10]}
        )
        for query in queries
    )
    assert right / 400 >= 0.97


@pytest.mark.parametrize("limit", [0, 10])
@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ({}, 2000),
        ({"price__lt": 50}, 1000),
        ({"category": "kind 7"}, 100),
        ({"category": "kind 7", "price__gte": 40, "price__lt": 50}, 20),
        ({"sku": "p1999"}, 1),
        ({"sku": "no such"}, 0),
    ],
)
def test_filters__always_give_as_many_as_match(
    crowd: Any, threshold: Any, conditions: dict[str, Any], count: int, limit: int
) -> None:
    checkpoint, _, vectors = crowd
    threshold(limit)
    queryset = Product.objects.filter(**conditions)
    assert queryset.count() == count
    # The query lies in another cluster than what the filter leaves: the hard case for HNSW.
    matches = ask(checkpoint, vectors[0], queryset)
    assert len(matches) == min(BLOCK, count)
    assert {m.product_id for m in matches} <= set(queryset.values_list("pk", flat=True))


def test_filters__with_the_scan_cut_short_the_exact_search_goes_on(
    crowd: Any, threshold: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, _, vectors = crowd
    threshold(0)
    monkeypatch.setattr(
        NearestProducts,
        "_scan_settings",
        lambda self: {
            "hnsw.iterative_scan": "off",
            "hnsw.ef_search": "40",
            "enable_sort": "off",
        },
    )
    queryset = Product.objects.filter(category="kind 7")
    matches = ask(checkpoint, vectors[0], queryset, blocks=100 // BLOCK)
    assert len({match.product_id for match in matches}) == 100


@pytest.mark.parametrize("limit", [0, PRODUCTS])
def test_pages__show_every_product_once(crowd: Any, threshold: Any, limit: int) -> None:
    checkpoint, _, vectors = crowd
    threshold(limit)
    queryset = Product.objects.filter(price__lt=50)
    first = [
        match.product_id for match in ask(checkpoint, vectors[3], queryset, blocks=1000 // BLOCK)
    ]
    assert len(first) == 1000
    assert set(first) == set(queryset.values_list("pk", flat=True))
    again = [
        match.product_id for match in ask(checkpoint, vectors[3], queryset, blocks=1000 // BLOCK)
    ]
    assert again == first


def test_pages__ties_are_broken_by_the_key(checkpoint: Checkpoint) -> None:
    products = make_products(30)
    vector = unit(np.ones((1, checkpoint.width)))
    embed(checkpoint, list(reversed(products)), np.repeat(vector, 30, axis=0))
    found = [match.product_id for match in ask(checkpoint, vector[0], blocks=2)]
    assert found == sorted(product.pk for product in products)


@pytest.mark.parametrize("limit", [0, PRODUCTS])
def test_photos__one_hit_a_product_and_the_best_photo_wins(
    checkpoint: Checkpoint, threshold: Any, limit: int
) -> None:
    random = np.random.default_rng(3)
    products = make_products(300)
    for position in range(4):
        vectors = unit(random.normal(size=(300, checkpoint.width)))
        embed(checkpoint, products, vectors, position)
        if position == 2:
            wanted = vectors
    partitions.build_ann_index(checkpoint)
    threshold(limit)
    matches = ask(checkpoint, wanted[17], blocks=300 // BLOCK)
    assert len(matches) == len({match.product_id for match in matches}) == 300
    assert matches[0].product_id == products[17].pk
    assert (matches[0].position, matches[0].image_name) == (2, "p17-2.jpg")
    assert matches[0].score == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("limit", [0, PRODUCTS])
def test_pages__are_the_same_however_many_are_read_at_once(
    crowd: Any, threshold: Any, limit: int
) -> None:
    checkpoint, _, vectors = crowd
    threshold(limit)
    queryset = Product.objects.filter(price__lt=50)
    alone = ask(checkpoint, vectors[0], queryset, blocks=6)
    together = NearestProducts(
        checkpoint=checkpoint, vector=vectors[0], kind=Kind.IMAGE, allowed=queryset, page=3 * BLOCK
    )
    with connection.execute_wrapper(recorder := _Recorder()):
        found = [match for number in range(3) for match in together.block(number).matches]
    asked = [sql for sql, _ in recorder.statements if "<#>" in sql]
    found += [match for number in range(3, 6) for match in together.block(number).matches]
    assert found == alone
    assert len(asked) == 1 + (limit == 0), "one statement for all three; the first compares if few"


@pytest.mark.parametrize("limit", [0, PRODUCTS])
def test_several_vectors__the_best_pair_counts_on_every_page(
    crowd: Any, threshold: Any, limit: int
) -> None:
    checkpoint, products, vectors = crowd
    threshold(limit)
    photos = vectors[[3, 8]]  # of two clusters
    matches = ask(checkpoint, photos, blocks=2)
    ids = [match.product_id for match in matches]
    assert len(ids) == len(set(ids)) == 2 * BLOCK
    assert {products[3].pk, products[8].pk} <= set(ids[:3])
    best = np.sort((vectors @ photos.T).max(axis=1))[::-1]
    scores = [match.score or 0 for match in matches[:BLOCK]]
    assert scores == sorted(scores, reverse=True)
    assert np.mean(scores[:20]) == pytest.approx(np.mean(best[:20]), abs=0.01)


def test_total__exact_when_compared_and_bounded_when_streamed(crowd: Any, threshold: Any) -> None:
    checkpoint, _, vectors = crowd

    def total(queryset: models.QuerySet[Product]) -> tuple[int, bool]:
        source = NearestProducts(
            checkpoint=checkpoint, vector=vectors[0], kind=Kind.IMAGE, allowed=queryset
        )
        found = source.block(0).total
        assert found is not None
        return found.value, found.exact

    threshold(PRODUCTS)
    assert total(Product.objects.all()) == (2000, True)
    threshold(10)
    assert total(Product.objects.all()) == (1900, False), "at the least, a moment ago"
    assert total(Product.objects.filter(price__lt=50)) == (1000, True)
    assert total(Product.objects.filter(sku="p5")) == (1, True)


def test_total__that_there_are_many_is_not_counted_again_for_a_while(
    crowd: Any, threshold: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, _, vectors = crowd
    threshold(10)

    def counts(queryset: models.QuerySet[Product]) -> int:
        with connection.execute_wrapper(recorder := _Recorder()):
            assert len(ask(checkpoint, vectors[0], queryset)) == BLOCK
        return sum("count(*) FROM (SELECT" in sql for sql, _ in recorder.statements)

    everything, some = Product.objects.filter(price__lt=100), Product.objects.filter(price__lt=50)
    assert [counts(everything), counts(everything)] == [1, 0]
    assert [counts(some), counts(some)] == [1, 1], "a number that is shown is the number now"
    later = time.monotonic() + nearest.MANY_SECONDS + 1
    monkeypatch.setattr(nearest.time, "monotonic", lambda: later)
    assert counts(everything) == 1


def test_total__a_product_without_embedding_does_not_count(checkpoint: Checkpoint) -> None:
    products = make_products(3)
    embed(checkpoint, products[:2], unit(np.eye(2, checkpoint.width)))
    block = NearestProducts(
        checkpoint=checkpoint,
        vector=unit(np.ones(checkpoint.width)),
        kind=Kind.TEXT,
        allowed=Product.objects.all(),
    ).block(0)
    assert block.total is not None
    assert (len(block.matches), block.total.value) == (2, 2)


def test_queryset__that_cannot_match_asks_nothing(
    checkpoint: Checkpoint, django_assert_num_queries: Any
) -> None:
    vector = unit(np.ones(checkpoint.width))
    with django_assert_num_queries(0):
        assert ask(checkpoint, vector, Product.objects.none()) == []


def test_other_checkpoint__its_vectors_are_never_compared(checkpoint: Checkpoint) -> None:
    (product,) = make_products(1)
    other = fake_checkpoint(live=False)
    embed(other, [product], unit(np.ones((1, other.width))))
    assert ask(checkpoint, unit(np.ones(checkpoint.width))) == []


def test_settings__are_as_before_in_the_middle_of_a_transaction(crowd: Any, threshold: Any) -> None:
    checkpoint, _, vectors = crowd
    threshold(0)
    names = ("statement_timeout", "enable_sort", "jit")

    def current() -> tuple[Any, ...]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
            return tuple(cursor.fetchone())

    before = current()
    assert len(ask(checkpoint, vectors[0])) == BLOCK
    assert current() == before
    Product.objects.create(sku="written after the search", name="x", price=1)


def test_dropped_partition__is_an_error_with_a_code(checkpoint: Checkpoint) -> None:
    partitions.drop(checkpoint)
    with pytest.raises(NoCheckpointError):
        ask(checkpoint, unit(np.ones(checkpoint.width)))
    assert Product.objects.count() == 0


def _exact_scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks that the exact scan is asked for, as they come."""
    scans: list[int] = []
    exact = NearestProducts._exact

    def noted(self: NearestProducts, subquery: Any, number: int, **taken: Any) -> Any:
        scans.append(number)
        return exact(self, subquery, number, **taken)

    monkeypatch.setattr(NearestProducts, "_exact", noted)
    return scans


def test_filters__the_index_is_left_soon_when_all_that_matches_is_far(
    crowd: Any, threshold: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, products, vectors = crowd
    threshold(100)
    scans = _exact_scans(monkeypatch)
    by_nearness = np.argsort(-(vectors @ vectors[0]))
    near, far = by_nearness[: PRODUCTS // 2], by_nearness[PRODUCTS // 2 :]

    ask(checkpoint, vectors[0], Product.objects.filter(pk__in=[products[n].pk for n in near]))
    assert scans == []
    queryset = Product.objects.filter(pk__in=[products[n].pk for n in far])
    ask(checkpoint, vectors[0], queryset)
    assert scans == [0]
    found = ask(checkpoint, vectors[0], queryset, blocks=1000 // BLOCK)

    # halfvec keeps about three digits, so near ties may change places.
    nearest_of_all = {products[n].pk for n in far[:100]}
    assert len(nearest_of_all & {match.product_id for match in found[:100]}) >= 98
    assert {match.product_id for match in found} == {products[n].pk for n in far}


def test_filters__what_the_scan_has_happened_to_see_is_no_answer(
    crowd: Any, threshold: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pgvector, stopped at hnsw.max_scan_tuples, gives what it has met on the way as if it were next.
    checkpoint, products, vectors = crowd
    threshold(100)
    monkeypatch.setattr(scan_costs, "SCAN_SHARE", 1)  # 1,000 rows, as many as are nearer
    by_nearness = np.argsort(-(vectors @ vectors[0]))
    far = [products[n].pk for n in by_nearness[PRODUCTS // 2 :]]

    found = ask(checkpoint, vectors[0], Product.objects.filter(pk__in=far), blocks=100 // BLOCK)

    assert len(set(far[:100]) & {match.product_id for match in found}) >= 98


def test_count__is_shared_by_searches_that_leave_out_different_products(
    crowd: Any, threshold: Any
) -> None:
    checkpoint, products, vectors = crowd
    threshold(50)
    alike = Product.objects.filter(price__gte=0)

    def counts(number: int) -> int:
        search = NearestProducts(
            checkpoint=checkpoint,
            vector=vectors[number],
            kind=Kind.IMAGE,
            allowed=alike.exclude(pk=products[number].pk),
            alike=alike,
        )
        with connection.execute_wrapper(recorder := _Recorder()):
            found = search.block(0).matches
        assert products[number].pk not in {match.product_id for match in found}
        return sum("count(*) FROM (SELECT" in sql for sql, _ in recorder.statements)

    nearest._many.clear()
    assert (counts(3), counts(4)) == (1, 0)
