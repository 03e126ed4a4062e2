"""Catalogues from which nothing can be learned: an error that names the fix, or a refusal."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ml.catalogues import coloured_shapes
from visualsearch.exceptions import NotEnoughDataError, TrainingError
from visualsearch.lifecycle import gate
from visualsearch.ml.data import Catalogue, Item
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.train import TrainingResult, train
from visualsearch.photos.images import to_pixels

SIZE = 32
QUICK = Recipe(
    name="quick",
    summary="For tests.",
    trunk="resnet10",
    image_size=SIZE,
    width=16,
    vocabulary_size=300,
    text_length=12,
    token_width=16,
    text_hidden=16,
    attribute_weight=1.0,
    validation=0.0,
    lr=2e-3,
    epochs=2,
)


def _train(catalogue: Catalogue, out: Path, **options: Any) -> TrainingResult:
    return train(catalogue, dataclasses.replace(QUICK, **options), out=out / "out", device="cpu")


def _each(catalogue: Catalogue, **changes: Any) -> Catalogue:
    items = [dataclasses.replace(item, **changes) for item in catalogue.items]
    return Catalogue(items, catalogue.pixels)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_train__too_few_products(tmp_path: Path, count: int) -> None:
    few = coloured_shapes(size=SIZE).subset(range(count))
    with pytest.raises(NotEnoughDataError, match=f"has {count} products.* at least 8"):
        _train(few, tmp_path)


def test_train__products_without_text(tmp_path: Path) -> None:
    silent = _each(coloured_shapes(size=SIZE), texts=(), attributes={}, label="")
    with pytest.raises(NotEnoughDataError, match=r"has a text or an attribute.*text_fields"):
        _train(silent, tmp_path)


def test_train__all_texts_and_attributes_equal(tmp_path: Path) -> None:
    same = _each(coloured_shapes(size=SIZE), texts=("Article",), attributes={}, label="Thing")
    with pytest.raises(NotEnoughDataError, match=r"the same texts and attributes.*text_fields"):
        _train(same, tmp_path)


def test_train__products_without_photos(tmp_path: Path) -> None:
    catalogue = coloured_shapes(size=SIZE)
    items = [dataclasses.replace(catalogue.items[0], images=()), *catalogue.items[1:]]
    with pytest.raises(
        NotEnoughDataError, match="1 products have no photo, such as 'Square-0-Red'"
    ):
        _train(Catalogue(items, catalogue.pixels), tmp_path)
    with pytest.raises(NotEnoughDataError, match="have no photo"):
        _train(_each(catalogue, images=()), tmp_path)


def test_train__all_photos_equal(tmp_path: Path) -> None:
    catalogue = coloured_shapes(size=SIZE)
    with pytest.raises(NotEnoughDataError, match="same picture"):
        _train(Catalogue(catalogue.items, catalogue.pixels[:1].repeat(32, axis=0)), tmp_path)


def test_train__one_group_only(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughDataError, match=r"group 'shop'.*group_field"):
        _train(_each(coloured_shapes(size=SIZE), group="shop"), tmp_path)


def test_train__photos_of_one_pixel_and_titles_without_end(tmp_path: Path) -> None:
    """Odd, but not wrong: plain colours can be learned, and long titles are cut."""
    shapes = coloured_shapes(size=SIZE)
    dots = [Image.fromarray(shapes.pixels[i, 15:16, 15:16]) for i in range(32)]
    assert dots[0].size == (1, 1)
    pixels = np.stack([to_pixels(dot, size=SIZE) for dot in dots])
    words = "very " * 2_000
    items = [
        dataclasses.replace(item, texts=(f"{item.texts[0]} {words}",)) for item in shapes.items
    ]
    assert len(items[0].texts[0]) > 10_000
    result = _train(Catalogue(items, pixels), tmp_path, epochs=1)
    assert np.isfinite(result.history[-1]["loss"])
    assert not gate.judge(result.metrics).promote  # one step teaches nothing


def test_gate__shuffled_labels_are_refused_though_none_is_live(tmp_path: Path) -> None:
    shapes = coloured_shapes(designs=4, size=SIZE)
    order = np.random.default_rng(0).permutation(len(shapes.items))
    items: list[Item] = [
        dataclasses.replace(item, images=shapes.items[other].images)
        for item, other in zip(shapes.items, order, strict=True)
    ]
    result = _train(Catalogue(items, shapes.pixels), tmp_path, epochs=4)
    verdict = gate.judge(result.metrics)
    assert not verdict.promote
    failed = {check.name for check in verdict.checks if not check.passed}
    assert failed & {
        "title R@10 beyond chance",
        "title R@5 beyond chance",
        "title R@1 beyond chance",
    }


def test_gate__a_learning_rate_of_ten_is_an_error_or_refused(tmp_path: Path) -> None:
    catalogue = coloured_shapes(designs=4, size=SIZE)
    try:
        result = _train(catalogue, tmp_path, lr=10.0, epochs=4)
    except TrainingError as error:
        assert "Lower the learning rate" in str(error)
        assert not (tmp_path / "out").exists()
        return
    assert not gate.judge(result.metrics).promote
