"""VisualIndex: what the easy declarations read from a product, and how it is registered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.test.utils import isolate_apps

import visualsearch
from shop.models import Product, ProductImage
from visualsearch import indexes
from visualsearch.indexes import VisualIndex


class PlainIndex(VisualIndex):
    image_field = "images__original"
    text_fields = ("name", "description")
    label_field = "category"
    group_field = "style_code"
    attribute_fields = ("colour", "pattern")
    price_field = "price"


@pytest.fixture
def index() -> VisualIndex:
    return PlainIndex(Product)


@pytest.fixture
def dress(db: None) -> Product:
    product = Product.objects.create(
        sku="d1",
        name=" Summer dress ",
        category="dress",
        style_code="s9",
        colour="red",
        price=Decimal("19.90"),
    )
    ProductImage.objects.create(product=product, original="back.jpg", position=2)
    ProductImage.objects.create(product=product, original="front.jpg", position=1)
    ProductImage.objects.create(product=product, original="", position=0)
    return product


def test_get_images__in_the_relations_order_and_without_empty_files(
    index: VisualIndex, dress: Product
) -> None:
    assert [file.name for file in index.get_images(dress)] == ["front.jpg", "back.jpg"]


def test_get_text__strips_and_leaves_empty_texts_out(index: VisualIndex, dress: Product) -> None:
    assert index.get_text(dress) == ["Summer dress"]
    assert index.get_title(dress) == "Summer dress"


def test_get_title__without_any_text_is_what_the_model_says(dress: Product) -> None:
    assert VisualIndex(Product).get_title(dress) == str(dress)


def test_get_label_and_group__read_their_fields(index: VisualIndex, dress: Product) -> None:
    assert index.get_label(dress) == "dress"
    assert index.get_group(dress) == "s9"


def test_get_group__a_product_without_one_is_its_own(index: VisualIndex, dress: Product) -> None:
    dress.style_code = ""

    assert index.get_group(dress) == f"pk:{dress.pk}"
    assert VisualIndex(Product).get_group(dress) == f"pk:{dress.pk}"


def test_get_attributes__empty_values_are_left_out(index: VisualIndex, dress: Product) -> None:
    assert index.get_attributes(dress) == {"colour": "red"}


def test_get_price__reads_its_field(index: VisualIndex, dress: Product) -> None:
    assert index.get_price(dress) == Decimal("19.90")
    assert VisualIndex(Product).get_price(dress) is None


def test_get_url__is_the_models_own(index: VisualIndex, dress: Product) -> None:
    assert index.get_url(dress) == dress.get_absolute_url()
    assert index.get_url(dress.images.all()[0]) == ""


def test_undeclared__gives_nothing_and_does_not_fail(dress: Product) -> None:
    bare = VisualIndex(Product)

    assert bare.get_images(dress) == []
    assert bare.get_text(dress) == []
    assert bare.get_label(dress) == ""
    assert bare.get_attributes(dress) == {}


def test_visible_to__everything_by_default(index: VisualIndex, dress: Product) -> None:
    assert list(index.visible_to(None, index.get_queryset())) == [dress]


def test_with_related__two_queries_for_any_number_of_products(
    index: VisualIndex, dress: Product, django_assert_num_queries: Any
) -> None:
    for number in range(3):
        other = Product.objects.create(sku=f"x{number}", name="x", price=1)
        ProductImage.objects.create(product=other, original="x.jpg")

    with django_assert_num_queries(2):
        found = [index.get_images(p) for p in index.with_related(index.get_queryset())]

    assert len(found) == 4
    assert all(found)


def test_values_at__reaches_through_relations_and_skips_none(dress: Product) -> None:
    assert indexes.values_at(dress, "images__position") == [0, 1, 2]
    assert indexes.values_at(dress.images.all()[0], "product__name") == [" Summer dress "]
    assert indexes.values_at(dress, "nothing__at__all") == []
    assert indexes.values_at(dress, "") == []


def test_resolve_path__gives_every_step() -> None:
    assert [f.name for f in indexes.resolve_path(Product, "images__original")] == [
        "images",
        "original",
    ]


@pytest.mark.parametrize("path", ["nothing", "name__more", "images__nothing"])
def test_resolve_path__names_what_is_missing(path: str) -> None:
    with pytest.raises(FieldDoesNotExist, match=path.split("__")[-1]):
        indexes.resolve_path(Product, path)


@isolate_apps("shop")
def test_resolve_path__takes_the_accessor_that_attribute_access_takes() -> None:
    class Bag(models.Model):
        class Meta:
            app_label = "shop"

    class Photo(models.Model):
        bag = models.ForeignKey(Bag, models.CASCADE)
        file = models.ImageField()

        class Meta:
            app_label = "shop"

    assert indexes.resolve_path(Bag, "photo_set__file")[-1].name == "file"
    # A lookup may say "photo"; reading bag.photo would find nothing.
    with pytest.raises(FieldDoesNotExist):
        indexes.resolve_path(Bag, "photo__file")


def test_relation_of__is_what_prefetch_related_takes() -> None:
    assert indexes.relation_of(Product, "images__original") == "images"
    assert indexes.relation_of(Product, "images") == "images"
    assert indexes.relation_of(Product, "name") == ""
    assert indexes.relation_of(Product, "a_property") == ""


# --- the registry -------------------------------------------------------------------------------


def test_autodiscovery__found_the_shops_index() -> None:
    index = indexes.get_index()

    assert type(index).__name__ == "ProductIndex"
    assert index.model is Product
    assert indexes.product_model() is Product


def test_register__gives_the_class_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "_registry", {})

    class OtherIndex(VisualIndex):
        pass

    assert visualsearch.register(ProductImage)(OtherIndex) is OtherIndex
    assert isinstance(indexes.registered()[ProductImage], OtherIndex)


@pytest.mark.parametrize("wrong", [object, PlainIndex(Product), "PlainIndex"])
def test_register__refuses_what_is_no_visual_index(wrong: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="not a subclass"):
        visualsearch.register(Product)(wrong)


def test_registered__is_a_copy() -> None:
    indexes.registered().clear()

    assert indexes.registered()


def test_get_index__without_one_says_where_to_put_it(settings: LazySettings) -> None:
    settings.VISUALSEARCH = {"PRODUCT_MODEL": "shop.ProductImage"}

    with pytest.raises(ImproperlyConfigured, match=r"visual_indexes\.py"):
        indexes.get_index()


def test_product_model__not_installed(settings: LazySettings) -> None:
    settings.VISUALSEARCH = {"PRODUCT_MODEL": "store.Product"}

    with pytest.raises(ImproperlyConfigured, match=r"store\.Product"):
        indexes.product_model()


def test_package__has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        visualsearch.nothing  # noqa: B018


@isolate_apps("shop")
def test_fields__one_that_another_app_adds_while_it_starts_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Translated(models.Model):
        name = models.CharField(max_length=10)

        class Meta:
            app_label = "shop"

    monkeypatch.setattr(apps, "ready", False)
    assert "name_de" not in indexes.fields_by_attribute(Translated)
    Translated.add_to_class("name_de", models.CharField(max_length=10))
    monkeypatch.setattr(apps, "ready", True)
    assert [f.name for f in indexes.resolve_path(Translated, "name_de")] == ["name_de"]
