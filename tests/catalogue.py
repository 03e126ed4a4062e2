"""A small catalogue for tests: products of the demo shop with real photo files, made from colours."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
from django.core.files.base import ContentFile
from PIL import Image

from shop.models import Product, ProductImage
from visualsearch.testing import COLOURS

_numbers = itertools.count(1)


def photo(colour: str = "red", *, seed: int | None = None, size: int = 48) -> bytes:
    """A PNG of one colour; with a seed, patches of light and dark that differ by seed."""
    pixels = np.full((size, size, 3), COLOURS[colour], dtype=np.float64)
    if seed is not None:
        random = np.random.default_rng(seed)
        patches = random.uniform(0.3, 1.0, size=(4, 4, 1)).repeat(size // 4, 0).repeat(size // 4, 1)
        pixels = pixels * patches + random.uniform(0, 60, size=3)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


BROKEN = photo()[:60]
"""A photo that was cut short."""


def make_product(*photos: bytes, **fields: Any) -> Product:
    """A product with these photos, in this order."""
    number = next(_numbers)
    values = {"sku": f"test-{number}", "name": f"Product {number}", "price": 10}
    product = Product.objects.create(**values | fields)
    for position, data in enumerate(photos):
        add_photo(product, data, position=position)
    return product


def add_photo(product: Product, data: bytes, *, position: int) -> ProductImage:
    image = ProductImage(product=product, position=position)
    image.original.save(f"{product.sku}-{position}.png", ContentFile(data))
    return image


def make_products(count: int, *, photos: int = 1) -> list[Product]:
    """Products whose photos all differ."""
    colours = list(COLOURS)
    return [
        make_product(
            *(
                photo(colours[(n + p) % len(colours)], seed=1000 * n + p + 10_000)
                for p in range(photos)
            )
        )
        for n in range(count)
    ]
