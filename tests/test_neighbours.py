"""Neighbours equal what comparing every pair of photos gives, also after edits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from shop.models import Product
from tests.catalogue import add_photo, make_product, make_products, photo
from visualsearch.models import Checkpoint, Embedding, SimilarProduct
from visualsearch.tables import keys
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import gallery, indexing, neighbours, ranking, repairing

pytestmark = pytest.mark.django_db

K = 5


@pytest.fixture(autouse=True)
def _few_neighbours(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"NEIGHBOURS": K}


@pytest.fixture
def live() -> Checkpoint:
    return fake_checkpoint()


def brute_force(checkpoint: Checkpoint, *, k: int = K) -> dict[int, list[float]]:
    """Product -> the scores of its k nearest others, by comparing every pair of photos."""
    photos = [
        (product_id, np.asarray(vector, dtype=np.float64))
        for product_id, vector in Embedding.objects.filter(checkpoint=checkpoint).values_list(
            "product_id", "vector"
        )
    ]
    best: dict[int, dict[int, float]] = {product_id: {} for product_id, _ in photos}
    for source, a in photos:
        for target, b in photos:
            if source != target:
                score = float(a @ b)
                best[source][target] = max(score, best[source].get(target, -2.0))
    return {source: sorted(found.values(), reverse=True)[:k] for source, found in best.items()}


def assert_right(checkpoint: Checkpoint) -> None:
    expected = brute_force(checkpoint)
    rows = SimilarProduct.objects.filter(checkpoint=checkpoint).order_by("source_id", "rank")
    found: dict[int, list[float]] = {}
    for source, rank, target, score in rows.values_list("source_id", "rank", "target_id", "score"):
        scores = found.setdefault(source, [])
        scores.append(score)
        assert rank == len(scores)
        assert target != source
    assert {source for source, scores in expected.items() if scores} == set(found)
    for source, scores in found.items():
        assert scores == pytest.approx(expected[source], abs=1e-4), source


@pytest.mark.parametrize("photos", [1, 3])
def test_compute__equals_brute_force(live: Checkpoint, photos: int) -> None:
    make_products(30, photos=photos)
    indexing.embed_checkpoint(live)

    assert neighbours.compute(live) == 30

    assert_right(live)


def test_compute__products_with_different_numbers_of_photos(live: Checkpoint) -> None:
    for number, product in enumerate(make_products(20)):
        for position in range(number % 4):
            add_photo(product, photo("red", seed=100 * number + position), position=position + 1)
    indexing.embed_checkpoint(live)

    neighbours.compute(live)

    assert_right(live)


def test_compute__names_the_photo_that_matched(live: Checkpoint) -> None:
    source = make_product(photo("red", seed=1))
    target = make_product(photo("blue", seed=2), photo("green", seed=3), photo("red", seed=1))
    make_products(3)
    indexing.embed_checkpoint(live)

    neighbours.compute(live)

    first = SimilarProduct.objects.get(source=source, rank=1)
    assert (first.target_id, first.position) == (target.pk, 2)
    assert first.score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("block", "part"), [(1, 1), (3, 7), (7, 3)])
def test_compute__the_size_of_the_blocks_changes_nothing(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch, block: int, part: int
) -> None:
    make_products(25, photos=2)
    indexing.embed_checkpoint(live)
    monkeypatch.setattr(ranking, "BLOCK_PHOTOS", block)
    monkeypatch.setattr(ranking, "PART_PHOTOS", part)
    monkeypatch.setattr(neighbours, "PRODUCTS_AT_A_TIME", 10)
    seen: list[tuple[int, int]] = []

    neighbours.compute(live, progress=lambda *args: seen.append(args))

    assert len(seen) > 1
    assert seen[-1] == (25, 25)
    assert_right(live)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_compute__of_an_almost_empty_catalogue(live: Checkpoint, count: int) -> None:
    make_products(count)
    indexing.embed_checkpoint(live)

    assert neighbours.compute(live) == count
    assert SimilarProduct.objects.count() == (2 if count == 2 else 0)


def test_compute__only_products_in_the_index(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shop.visual_indexes import ProductIndex

    products = make_products(8)
    indexing.embed_checkpoint(live)
    out = products[0]
    monkeypatch.setattr(
        ProductIndex, "get_queryset", lambda self: Product.objects.exclude(pk=out.pk)
    )

    neighbours.compute(live)

    assert not SimilarProduct.objects.filter(target=out).exists()
    assert not SimilarProduct.objects.filter(source=out).exists()


def test_compute__keeps_to_its_own_checkpoint(live: Checkpoint) -> None:
    make_products(6)
    beside = fake_checkpoint(live=False)
    indexing.embed_checkpoint(live)
    indexing.embed_checkpoint(beside)
    neighbours.compute(beside)

    neighbours.compute(live)
    neighbours.compute(live)

    assert_right(live)
    assert_right(beside)


def test_index_pending__keeps_the_neighbours_right_through_edits(live: Checkpoint) -> None:
    products = list(make_products(24, photos=2))
    indexing.index_pending()
    assert_right(live)

    products[3].images.all()[0].original.save("a.png", ContentFile(photo("navy", seed=7)))
    indexing.index_pending()
    assert_right(live)

    make_product(photo("orange", seed=8))
    products[5].images.all().delete()
    products[6].images.all()[1].delete()
    indexing.index_pending()
    assert_right(live)


@pytest.mark.parametrize("part", [1, 7])
def test_repair__the_size_of_the_parts_changes_nothing(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(gallery, "PART_PHOTOS", part)
    monkeypatch.setattr(ranking, "BLOCK_PHOTOS", 3)
    products = list(make_products(24, photos=2))
    indexing.index_pending()
    assert_right(live)

    products[3].images.all()[0].original.save("a.png", ContentFile(photo("navy", seed=7)))
    make_product(photo("orange", seed=8))
    products[5].images.all().delete()
    products[6].delete()
    indexing.index_pending()

    assert_right(live)


def test_repair__never_holds_the_whole_gallery(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = make_products(40)
    indexing.index_pending()
    monkeypatch.setattr(gallery, "PART_PHOTOS", 5)
    largest: list[int] = []
    gather = gallery._gather

    def noted(*args: Any, **options: Any) -> gallery.Gallery:
        largest.append(len(made := gather(*args, **options)))
        return made

    monkeypatch.setattr(gallery, "_gather", noted)
    neighbours.repair(live, [products[0].pk])

    lists = neighbours.repair(live, [products[0].pk])
    assert max(largest) <= max(5, lists)
    assert lists < 40
    assert len(largest) >= 2 * 40 / 5


def test_repair__of_more_than_it_may_do_begins_with_the_changed_products(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = make_products(20)
    indexing.index_pending()
    monkeypatch.setattr(neighbours, "REPAIR_PAIRS", 3 * 20)
    changed = products[7]
    changed.images.get().original.save("a.png", ContentFile(photo("navy", seed=7)))
    indexing.embed_products([changed.pk], checkpoints=[live])

    assert neighbours.repair(live, {changed.pk}) == 3

    rows = SimilarProduct.objects.filter(source=changed).order_by("rank")
    expected = brute_force(live)[changed.pk]
    assert list(rows.values_list("score", flat=True)) == pytest.approx(expected, abs=1e-4)
    neighbours.compute(live)
    assert_right(live)


def test_repair__renews_all_lists_of_what_changed_and_a_bounded_number_of_others(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = make_products(20)
    indexing.index_pending()
    monkeypatch.setattr(neighbours, "REPAIR_OTHERS", 2)

    assert neighbours.repair(live, {products[0].pk}) == 1 + 2
    assert neighbours.repair(live, {product.pk for product in products[:6]}) == 6 + 6


def test_index_pending__amid_a_backlog_own_lists_at_once_and_those_of_others_when_it_is_done(
    live: Checkpoint, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"BATCH_SIZE": 1}
    monkeypatch.setattr(repairing, "_unheard", {})
    products = make_products(20)
    indexing.index_pending()
    changed = products[3:5]
    for product in changed:
        product.images.get().original.save("a.png", ContentFile(photo("navy", seed=product.pk)))
    before = {}
    for product in products:
        rows = SimilarProduct.objects.filter(source=product).order_by("rank")
        before[product.pk] = list(rows.values_list("target_id", "score"))

    counts = indexing.index_pending(limit_seconds=0)

    assert (counts.indexed, counts.lists, counts.is_complete) == (1, 1, False)
    differing = [
        pk
        for pk, rows in before.items()
        if rows
        != list(
            SimilarProduct.objects.filter(source_id=pk)
            .order_by("rank")
            .values_list("target_id", "score")
        )
    ]
    assert len(differing) == 1
    assert differing[0] in {product.pk for product in changed}

    assert indexing.index_pending().is_complete
    assert not repairing.is_behind()
    assert_right(live)


def test_index_pending__after_a_large_backlog_lists_are_told_some_changes_a_call(
    live: Checkpoint, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"BATCH_SIZE": 4}
    monkeypatch.setattr(repairing, "_unheard", {})
    monkeypatch.setattr(repairing, "AT_A_TIME", 5)
    make_products(12)
    for _ in range(3):
        assert not indexing.index_pending(limit_seconds=0).is_complete

    calls = [indexing.index_pending() for _ in range(3)]

    assert [call.is_complete for call in calls] == [False, False, True]
    assert all(call.lists and not call.indexed for call in calls)
    assert_right(live)


def test_index_pending__a_repair_that_fails_is_left_to_the_sweep(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repairing, "_unheard", {})
    make_products(3)
    indexing.index_pending(limit_seconds=0)
    assert repairing.is_behind()

    def fail(*_: Any, **__: Any) -> int:
        raise RuntimeError("no")

    with monkeypatch.context() as context:
        context.setattr(neighbours, "repair", fail)
        with pytest.raises(RuntimeError):
            indexing.index_pending()

    assert indexing.index_pending().is_complete


def test_deleted_product__leaves_the_lists_at_once(live: Checkpoint) -> None:
    gone = make_products(8)[2]
    indexing.index_pending()
    assert SimilarProduct.objects.filter(target=gone).exists()

    pk = gone.pk
    gone.delete()

    assert not SimilarProduct.objects.filter(target_id=pk).exists()
    assert not SimilarProduct.objects.filter(source_id=pk).exists()


def test_compute__the_number_of_queries_does_not_grow_with_the_catalogue(live: Checkpoint) -> None:
    def queries(count: int) -> int:
        make_products(count)
        indexing.embed_checkpoint(live)
        with CaptureQueriesContext(connection) as captured:
            neighbours.compute(live)
        return len(captured)

    assert queries(5) == queries(50)


def test_repair__a_list_that_another_process_wrote_meanwhile_is_replaced(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = make_products(10)
    indexing.embed_checkpoint(live)
    neighbours.compute(live)
    delete, calls = neighbours._delete, 0

    def too_early(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:  # the first time, the other process has not committed what it wrote
            delete(*args)

    monkeypatch.setattr(neighbours, "_delete", too_early)
    neighbours.repair(live, [products[0].pk])

    assert calls > 1
    assert_right(live)


def test_compute__keys_of_a_type_whose_binary_format_is_not_known(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_products(12, photos=2)
    indexing.embed_checkpoint(live)
    monkeypatch.setattr(keys, "binary_column", lambda _: None)

    neighbours.compute(live)

    assert_right(live)
