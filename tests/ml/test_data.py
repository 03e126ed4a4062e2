"""Splitting by group, and what a catalogue must have to be trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.ml.catalogues import coloured_shapes
from visualsearch.exceptions import NotEnoughDataError
from visualsearch.ml.data import Catalogue, Item, attribute_values, check_enough, split


def _many(count: int) -> Catalogue:
    items = [
        Item(id=str(i), images=(0,), group=f"g{i // 3}" if i % 5 else "") for i in range(count)
    ]
    return Catalogue(items, np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("seed", range(5))
def test_split__no_group_stands_on_both_sides(seed: int) -> None:
    catalogue = _many(3_000)
    parts = split(catalogue, holdout=0.2, seed=seed)
    groups = [
        {item.group for item in side.items if item.group} for side in (parts.train, parts.holdout)
    ]
    assert not groups[0] & groups[1]
    assert len(parts.train.items) + len(parts.holdout.items) == 3_000
    assert 0.15 < len(parts.holdout.items) / 3_000 < 0.25


def test_split__a_group_keeps_its_side_when_the_catalogue_grows_and_is_reordered() -> None:
    before, after = _many(300), _many(3_000)
    shuffled = Catalogue(list(reversed(after.items)), after.pixels)
    held = {item.id for item in split(before).holdout.items}
    held_later = {item.id for item in split(shuffled).holdout.items}
    assert held == {identity for identity in held_later if int(identity) < 300}


def test_check_enough__names_what_is_missing() -> None:
    shapes = coloured_shapes()
    check_enough(shapes)
    with pytest.raises(NotEnoughDataError, match="at least 8"):
        check_enough(shapes.subset(range(7)))
    with pytest.raises(NotEnoughDataError, match="same picture"):
        check_enough(Catalogue(shapes.items, np.zeros_like(shapes.pixels)))
    bare = [dataclasses.replace(item, texts=(), attributes={}) for item in shapes.items]
    with pytest.raises(NotEnoughDataError, match="nothing to learn"):
        check_enough(Catalogue(bare, shapes.pixels))


def test_attribute_values__are_sorted_and_complete() -> None:
    values = attribute_values(coloured_shapes())
    assert values == {"colour": ["Blue", "Green", "Red", "Yellow"], "line": ["New", "Old"]}
