"""A catalogue to train on within seconds: drawn shapes in four colours, and a recipe for it."""

from __future__ import annotations

import dataclasses
import io
from decimal import Decimal

from django.core.files.base import ContentFile
from PIL import Image

from shop.models import Product, ProductImage
from tests.ml.catalogues import coloured_shapes
from visualsearch.ml.recipes import RECIPES, Recipe

TINY: Recipe = dataclasses.replace(
    RECIPES["default"],
    name="tiny",
    summary="For tests.",
    trunk="resnet10",
    gradients=False,
    colours=False,
    head_hidden=0,
    head_epochs=0,
    wild_views=0.0,
    average=0.0,
    text="gru",
    thumbnail=8,
    image_size=32,
    width=32,
    vocabulary_size=300,
    text_length=16,
    token_width=32,
    text_hidden=32,
    attribute_weight=1.0,
    lr=2e-3,
    epochs=24,
    min_steps=0,
    small_first=0.0,
)


def make_shapes(*, designs: int = 3) -> list[Product]:
    """16 x `designs` products: a group of four colours for each kind and design."""
    catalogue = coloured_shapes(designs=designs, size=48)
    products = []
    for item in catalogue.items:
        product = Product.objects.create(
            sku=item.id,
            name=item.texts[0],
            description=item.texts[1],
            category=item.label,
            style_code=item.group,
            colour=item.attributes["colour"].lower(),
            price=Decimal(10),
        )
        data = io.BytesIO()
        Image.fromarray(catalogue.pixels[item.images[0]]).save(data, "PNG")
        image = ProductImage(product=product)
        image.original.save(f"{item.id}.png", ContentFile(data.getvalue()), save=True)
        products.append(product)
    return products
