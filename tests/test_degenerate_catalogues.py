"""Training runs on catalogues that teach nothing: failed with the fix, or refused; never live."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.base import ContentFile
from PIL import Image

from shop.models import Product, ProductImage
from tests.training_catalogue import TINY, make_shapes
from visualsearch.lifecycle import training
from visualsearch.ml.recipes import RECIPES
from visualsearch.models import Checkpoint, TrainingRun

State = TrainingRun.State
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def network(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real network in the place of the fake encoder, and a recipe that is small."""
    root = tmp_path / "checkpoints"
    settings.VISUALSEARCH = django_settings.VISUALSEARCH | {
        "CHECKPOINT_ROOT": root,
        "ENCODER": "",
        "DEVICE": "cpu",
    }
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    return root


def _failed(said: str) -> None:
    run = training.train_now("tiny", epochs=1)
    assert run.state == State.FAILED
    assert said in run.error
    assert not Checkpoint.objects.exists()


def _refused() -> None:
    run = training.train_now("tiny", epochs=3)
    if run.state == State.FAILED:
        assert "Lower the learning rate" in run.error
        assert not Checkpoint.objects.exists()
        return
    checkpoint = Checkpoint.objects.get()
    assert run.state == State.SUCCEEDED, run.error
    assert checkpoint.state == Checkpoint.State.REFUSED
    assert checkpoint.verdict
    assert Checkpoint.objects.live() is None


@pytest.mark.parametrize("count", [1, 5])
def test_train_now__too_few_products(count: int) -> None:
    kept = [product.pk for product in make_shapes(designs=1)[:count]]
    Product.objects.exclude(pk__in=kept).delete()
    _failed(f"{count} products with a readable image; training needs at least 8")


def test_train_now__no_product_at_all() -> None:
    _failed("There is no product in the index")


def test_train_now__products_without_photos() -> None:
    make_shapes(designs=1)
    ProductImage.objects.all().delete()
    _failed("0 products with a readable image")


def test_train_now__products_without_texts() -> None:
    make_shapes(designs=1)
    Product.objects.update(name="", description="", category="", colour="")
    _failed("text_fields")


def test_train_now__all_texts_equal() -> None:
    make_shapes(designs=1)
    Product.objects.update(name="Article", description="", category="", colour="")
    _failed("the same texts and attributes")


def test_train_now__all_photos_equal() -> None:
    make_shapes(designs=1)
    data = io.BytesIO()
    Image.new("RGB", (40, 40), "grey").save(data, "PNG")
    for image in ProductImage.objects.all():
        image.original.save("placeholder.png", ContentFile(data.getvalue()), save=True)
    _failed("All product photos of the catalogue are the same picture")


def test_train_now__one_group_only() -> None:
    make_shapes(designs=1)
    Product.objects.update(style_code="shop")
    _failed("group_field")


def test_train_now__shuffled_labels_are_refused() -> None:
    make_shapes()
    images = list(ProductImage.objects.order_by("pk"))
    files = [image.original.name for image in images]
    for image, name in zip(images, files[7:] + files[:7], strict=True):
        ProductImage.objects.filter(pk=image.pk).update(original=name)
    _refused()


def test_train_now__a_learning_rate_of_ten_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "tiny", dataclasses.replace(TINY, lr=10.0, optimizer="sgd"))
    make_shapes()
    _refused()
