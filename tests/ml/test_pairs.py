"""Training examples: what is asked for is what the masks call right."""

from __future__ import annotations

import numpy as np

from tests.ml.catalogues import coloured_shapes
from visualsearch.ml.clusters import clusters
from visualsearch.ml.coding import ANY, CodedCatalogue, fulfils
from visualsearch.ml.data import Catalogue, Item
from visualsearch.ml.pairs import Batch, batches


def _batch(seed: int = 0, **options: float) -> tuple[CodedCatalogue, Batch]:
    coded = CodedCatalogue(coloured_shapes(designs=3, photos=2))
    chosen = {"size": 24, "second_views": 0.25, "kind_pairs": 0.3, **options}
    rng = np.random.default_rng(seed)
    return coded, next(batches(coded, rng=rng, **chosen))  # type: ignore[arg-type]


def test_clusters__hold_every_product_once() -> None:
    coded = CodedCatalogue(coloured_shapes(designs=3))
    for share in (0.0, 0.5, 1.0):
        found = clusters(coded, np.random.default_rng(0), kind_pairs=share)
        members = sorted(index for cluster in found for index in cluster.members)
        assert members == list(range(48))


def test_clusters__are_of_one_group_or_of_one_kind() -> None:
    coded = CodedCatalogue(coloured_shapes(designs=3))
    for cluster in clusters(coded, np.random.default_rng(0), kind_pairs=0.5):
        column = coded.group_column if cluster.by == "group" else 0
        assert len(set(coded.codes[list(cluster.members), column])) == 1


def _titled(*titles: str) -> CodedCatalogue:
    items = [
        Item(id=f"p{number}", images=(0,), texts=(title,), label="shirt", group=f"g{number}")
        for number, title in enumerate(titles)
    ]
    return CodedCatalogue(Catalogue(items, np.zeros((1, 8, 8, 3), np.uint8)))


TITLES = ("Lana slim shirt", "Lana wide  shirt", "Lana long shirt", "Mia Skirt", "a", "b", "")


def test_clusters__by_title_pair_what_differs_in_one_word_and_hold_every_product_once() -> None:
    coded = _titled(*TITLES)
    found = clusters(coded, np.random.default_rng(0), kind_pairs=0.0, title_pairs=1.0)

    by_title = [cluster.members for cluster in found if cluster.by == "title"]
    assert len(by_title) == 1
    assert set(by_title[0]) < {0, 1, 2}, "names of one word have nothing in common"
    members = sorted(index for cluster in found for index in cluster.members)
    assert members == list(range(len(TITLES)))


def test_batch__a_changed_word_leads_to_every_product_of_that_title() -> None:
    coded = _titled("Lana slim shirt", "Lana wide shirt", "Lana wide shirt", "Lana slim shirt")
    options = {"size": 4, "second_views": 0.0, "kind_pairs": 0.0, "title_pairs": 1.0}
    batch = next(batches(coded, rng=np.random.default_rng(0), **options))  # type: ignore[arg-type]

    assert len(batch.modifications) == 4
    for row, sentence in enumerate(batch.modifications):
        was_slim = batch.products[batch.references[row]] in (0, 3)
        after = "wide" if was_slim else "slim"
        assert after in sentence
        right = {int(batch.products[i]) for i in np.flatnonzero(batch.target_right[row])}
        assert right == ({1, 2} if after == "wide" else {0, 3})


def test_batch__the_reference_is_never_right() -> None:
    for seed in range(10):
        _, batch = _batch(seed)
        assert len(batch.modifications) > 10
        for row, reference in enumerate(batch.references):
            shown_again = batch.products == batch.products[reference]
            assert not batch.target_right[row][shown_again].any()


def test_batch__the_target_is_right_and_has_what_the_sentence_says() -> None:
    coded, batch = _batch()
    items = coded.catalogue.items
    for row, (target, text) in enumerate(zip(batch.targets, batch.modifications, strict=True)):
        assert batch.target_right[row, target]
        values = [value.lower() for value in items[batch.products[target]].attributes.values()]
        assert any(value in text for value in values)


def test_batch__right_texts_are_all_products_that_the_text_describes() -> None:
    coded, batch = _batch(3)
    items = coded.catalogue.items
    for row, text in enumerate(batch.texts):
        assert batch.text_right[row, batch.text_rows[row]]
        for column, index in enumerate(batch.products):
            if text == items[index].texts[0]:
                assert batch.text_right[row, column]


def test_batch__second_views_show_the_same_product_on_another_photo() -> None:
    _, batch = _batch()
    views = len(batch.repeats)
    assert views == 6
    assert (batch.products[-views:] == batch.products[batch.repeats]).all()
    assert (batch.images[-views:] != batch.images[batch.repeats]).all()


def test_fulfils__compares_only_what_is_asked() -> None:
    codes = np.array([[0, 1], [0, 2], [1, 1]])
    wanted = np.array([[0, ANY], [ANY, 1], [ANY, ANY], [1, 2]])
    assert fulfils(wanted, codes).tolist() == [
        [True, True, False],
        [True, False, True],
        [True, True, True],
        [False, False, False],
    ]


def test_batch__of_two_texts_has_one_with_the_title_and_one_without() -> None:
    coded, batch = _batch(two_texts=True)
    items = coded.catalogue.items
    fresh = len(batch.products) - len(batch.repeats)
    assert batch.text_rows.tolist() == [row for row in range(fresh) for _ in range(2)]
    for titled, short in zip(batch.texts[::2], batch.texts[1::2], strict=True):
        row = batch.text_rows[batch.texts.index(titled)]
        words = set(items[batch.products[row]].texts[0].lower().split())
        assert words & set(titled.lower().split())
        assert short not in {item.texts[0] for item in items}
    assert batch.text_right[np.arange(len(batch.texts)), batch.text_rows].all()


def test_batch__a_share_of_the_photos_that_texts_describe_is_shown_as_phone_photos() -> None:
    shown = np.zeros(2)
    for seed in range(20):
        _, batch = _batch(seed, wild_photos=0.5)
        fresh = len(batch.images) - len(batch.repeats)
        shown += batch.wild[:fresh].sum(), fresh
        assert not batch.wild[fresh:].any(), "second views have a share of their own"
    assert 0.4 < shown[0] / shown[1] < 0.6
