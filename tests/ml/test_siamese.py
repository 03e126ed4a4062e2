"""Triplets of photos: what is a positive, and negatives in class as often as asked."""

from __future__ import annotations

import dataclasses
from itertools import islice

import numpy as np
import pytest

from tests.ml.catalogues import coloured_shapes
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Catalogue
from visualsearch.ml.pairs import Batch
from visualsearch.ml.siamese import triplet_batches


def _drawn(
    catalogue: Catalogue, *, batches: int = 30, in_class: float = 0.7, wild: float = 0.4
) -> tuple[CodedCatalogue, list[Batch]]:
    coded = CodedCatalogue(catalogue)
    rng = np.random.default_rng(0)
    stream = triplet_batches(coded, size=60, in_class_negatives=in_class, wild_views=wild, rng=rng)
    return coded, list(islice(stream, batches))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_negatives__are_in_class_at_the_asked_share(share: float) -> None:
    coded, drawn = _drawn(coloured_shapes(designs=3), in_class=share)
    kinds = coded.codes[:, 0]
    inside = [
        kinds[batch.products[query]] == kinds[batch.products[negative]]
        for batch in drawn
        for query, _, negative in batch.triplets
    ]
    assert len(inside) == 600
    # Three standard deviations of a share of 600 draws.
    assert np.mean(inside) == pytest.approx(share, abs=3 * (share * (1 - share) / 600) ** 0.5)


def test_triplets__positives_share_the_design_and_negatives_never_do() -> None:
    coded, drawn = _drawn(coloured_shapes(designs=3, photos=2))
    groups = coded.codes[:, coded.group_column]
    ways = {"photo": 0, "view": 0, "variant": 0}
    for batch in drawn:
        assert batch.triplets.shape == (20, 3)
        assert sorted(batch.triplets.ravel()) == list(range(60))
        for query, positive, negative in batch.triplets:
            of, design = batch.products, groups[batch.products]
            assert design[query] == design[positive] != design[negative]
            if of[query] != of[positive]:
                ways["variant"] += 1
            else:
                same = batch.images[query] == batch.images[positive]
                ways["view" if same else "photo"] += 1
            for row in (query, positive, negative):
                assert batch.images[row] in coded.catalogue.items[of[row]].images
    assert min(ways.values()) > 150


def test_triplets__every_product_is_the_query_once_before_any_is_twice() -> None:
    coded, drawn = _drawn(coloured_shapes(designs=5), batches=4)
    assert len(coded.codes) == 80
    queries = [int(row) for batch in drawn for row in batch.products[batch.triplets[:, 0]]]
    assert sorted(queries) == list(range(80))


def test_wild__only_queries_and_at_the_asked_share() -> None:
    _, drawn = _drawn(coloured_shapes(designs=3), wild=0.4)
    assert not any(batch.wild[batch.triplets[:, 1:]].any() for batch in drawn)
    share = np.mean([batch.wild[batch.triplets[:, 0]].mean() for batch in drawn])
    assert share == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize("missing", [{"label": ""}, {"group": ""}, {"label": "", "group": ""}])
def test_triplets__without_kinds_or_groups_the_negative_is_another_product(
    missing: dict[str, str],
) -> None:
    whole = coloured_shapes(designs=2)
    items = [dataclasses.replace(item, **missing) for item in whole.items]
    _, drawn = _drawn(Catalogue(items, whole.pixels), batches=5)
    for batch in drawn:
        for query, _, negative in batch.triplets:
            assert batch.products[query] != batch.products[negative]


def test_negatives__a_kind_of_one_design_takes_them_from_others() -> None:
    coded, drawn = _drawn(coloured_shapes(designs=1), in_class=1.0)
    groups = coded.codes[:, coded.group_column]
    for batch in drawn:
        for query, _, negative in groups[batch.products][batch.triplets]:
            assert query != negative
