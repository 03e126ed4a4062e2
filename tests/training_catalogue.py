"""A catalogue to train on within seconds: drawn shapes in four colours, and a recipe for it."""

from __future__ import annotations

import io
from decimal import Decimal

from django.core.files.base import ContentFile
from PIL import Image

from shop.models import Product, ProductImage
from tests.ml.catalogues import coloured_shapes
from tests.tiny_recipe import TINY

__all__ = ["TINY", "make_shapes"]


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
