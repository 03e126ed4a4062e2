"""Query sets: frozen, asked of held-out products only, and right about what is right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.ml import linear_encoders
from tests.ml.catalogues import coloured_shapes
from tests.ml.linear_encoders import LinearEncoder
from visualsearch.ml import modifications, queries
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Catalogue, split
from visualsearch.ml.evaluate import evaluate
from visualsearch.ml.wild_photos import wild_sets


@pytest.fixture(scope="module")
def coded() -> CodedCatalogue:
    return CodedCatalogue(linear_encoders.shop(copies=2))


def test_sample__hardly_changes_when_the_catalogue_grows() -> None:
    names = [str(i) for i in range(1_000)]
    before = queries.sample(names, key=str, limit=200, seed=0)
    after = queries.sample([*names, *(f"new {i}" for i in range(50))], key=str, limit=200, seed=0)
    assert len(set(before) & set(after)) >= 180
    assert before != queries.sample(names, key=str, limit=200, seed=1)


def test_queries__do_not_depend_on_the_order_of_the_products(coded: CodedCatalogue) -> None:
    reverse = CodedCatalogue(coded.catalogue.subset(range(len(coded.codes) - 1, -1, -1)))
    for make in (queries.product_queries, queries.attribute_queries, queries.title_queries):
        assert make(coded, limit=30, seed=0).keys == make(reverse, limit=30, seed=0).keys


def test_value_queries__a_kind_and_a_colour_are_asked_by_their_name(coded: CodedCatalogue) -> None:
    kinds = queries.value_queries(coded, 0, limit=10, seed=0)
    assert sorted(kinds.texts) == ["bar", "cross", "ring", "square"]
    assert (kinds.right(coded).sum(axis=1) == 80).all()
    colours = queries.value_queries(coded, 1, limit=10, seed=0)
    assert sorted(colours.texts) == ["blue", "green", "red", "yellow"]


def test_similar_columns__kind_colour_and_gender_together() -> None:
    shapes = coloured_shapes(designs=1)
    items = [
        dataclasses.replace(item, attributes={"gender": "Men", **item.attributes})
        for item in shapes.items
    ]
    coded = CodedCatalogue(Catalogue(items, shapes.pixels))
    columns = queries.similar_columns(coded, attributes=4)
    names = coded.names
    colour, gender = 1 + names.index("colour"), 1 + names.index("gender")
    assert columns["kind + colour"] == [0, colour]
    assert columns["kind + colour + gender"] == [0, colour, gender]
    assert "kind + colour + gender" not in queries.similar_columns(
        CodedCatalogue(shapes), attributes=4
    )


def test_title_word_queries__one_word_changes_and_all_products_of_the_title_are_right(
    coded: CodedCatalogue,
) -> None:
    colours, words = modifications.title_word_queries(coded, limit=5_000, seed=0)
    assert (colours.name, words.name) == ("title colour", "title word")
    for asked in (colours, words):
        right = asked.right(coded)
        for row in range(len(asked)):
            before, after = asked.before[row].split(), asked.after[row].split()
            changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
            ((old, new),) = changed
            assert asked.texts[row] == f"{new} instead of {old}"
            titles = {coded.catalogue.items[i].texts[0].lower() for i in np.flatnonzero(right[row])}
            assert titles == {asked.after[row]}
    assert {text.split()[0] for text in colours.texts} == {"red", "green", "blue", "yellow"}
    assert not {"red", "blue"} & {text.split()[0] for text in words.texts}


def test_title_word_queries__unrelated_one_word_titles_are_no_family() -> None:
    shapes = coloured_shapes(designs=1)
    items = [
        dataclasses.replace(item, texts=(f"name{number}",))
        for number, item in enumerate(shapes.items)
    ]
    coded = CodedCatalogue(Catalogue(items, shapes.pixels))
    assert [len(each) for each in modifications.title_word_queries(coded, limit=9, seed=0)] == [
        0,
        0,
    ]


def test_evaluate__in_the_whole_catalogue_the_same_queries_are_harder() -> None:
    whole = linear_encoders.shop(copies=2, seed=3)
    held = split(whole).holdout
    encoder = LinearEncoder(linear_encoders.shop(seed=1), examples=80)

    report = evaluate(encoder, held, whole=whole, with_baselines=False)

    assert (report.gallery, report.whole) == (len(held.items), 320)
    inner = report.per_query["text", "title MRR", "encoder"]
    outer = report.per_query["text (whole)", "title MRR", "encoder"]
    assert inner.keys == outer.keys
    assert (outer.values <= inner.values + 1e-9).all()
    assert outer.values.mean() < inner.values.mean()
    assert report.value("composed (whole)", "colour R@10", "composed") <= report.value(
        "composed", "colour R@10", "composed"
    )


def test_evaluate__slices_of_a_hundred_queries_are_reported_and_smaller_ones_are_not() -> None:
    shop = linear_encoders.shop(copies=1)
    # A title of its own for each product; squares are 60 % of the shop.
    items = [
        dataclasses.replace(
            item,
            texts=(f"{item.texts[0]} n{number}",),
            label="Square" if number < 110 else "Ring",
            attributes={**item.attributes, "gender": "Women"},
        )
        for number, item in enumerate(shop.items)
    ]
    report = evaluate(LinearEncoder(shop), Catalogue(items, shop.pixels), with_baselines=False)
    metrics = [line.metric for line in report.lines if line.section == "slices"]
    assert metrics == ["title MRR, kind Square", "title MRR, gender Women"]
    whole = report.per_query["text", "title MRR", "encoder"]
    women = report.per_query["slices", "title MRR, gender Women", "encoder"]
    assert women.values.tolist() == whole.values.tolist()


def test_wild_sets__are_the_same_for_every_checkpoint_and_differ_by_strength() -> None:
    pixels = coloured_shapes(designs=1).pixels
    first, second = dict(wild_sets(pixels, seed=0)), dict(wild_sets(pixels, seed=0))
    assert list(first) == ["wild photo (mild)", "wild photo (background)"]
    for name in first:
        assert (first[name] == second[name]).all()
        assert first[name].shape == pixels.shape and first[name].dtype == np.uint8
    changed = {
        name: np.abs(photos.astype(int) - pixels.astype(int)).mean()
        for name, photos in first.items()
    }
    assert changed["wild photo (background)"] > changed["wild photo (mild)"] > 0
