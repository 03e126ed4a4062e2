"""Many products quickly: rows written in bulk, photos that share some dozens of files."""

from __future__ import annotations

import io
import itertools
import random

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from PIL import Image

from shop.models import Product, ProductImage
from tests.catalogue import photo
from tests.chaos.encoders import POISON
from visualsearch.testing import COLOURS

_numbers = itertools.count(1)


def photo_files(count: int = 24) -> list[str]:
    """Names of stored photos that all differ."""
    colours = list(COLOURS)
    return [
        default_storage.save(
            f"chaos/{n}.png", ContentFile(photo(colours[n % len(colours)], seed=n, size=32))
        )
        for n in range(count)
    ]


def add_products(count: int, files: list[str]) -> list[Product]:
    """Products of one photo each, by bulk_create: no signal is sent, no doorbell rings."""
    products = Product.objects.bulk_create(
        Product(sku=f"chaos-{n}", name=f"Product {n}", price=10)
        for n in itertools.islice(_numbers, count)
    )
    ProductImage.objects.bulk_create(
        ProductImage(product=product, original=files[n % len(files)])
        for n, product in enumerate(products)
    )
    return products


def poison() -> bytes:
    """A photo that kills the worker that encodes it (`DeadlyEncoder`)."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), POISON).save(buffer, "PNG")
    return buffer.getvalue()


def edit(product_id: int, files: list[str], chance: random.Random) -> None:
    """Give the product another photo, in one of the ways that shops write."""
    name = chance.choice(files)
    photos = ProductImage.objects.filter(product_id=product_id)
    match chance.randrange(3):
        case 0:
            photos.update(original=name)
        case 1:
            for each in photos:
                each.original = name
                each.save()
        case _:
            photos.delete()
            ProductImage.objects.bulk_create([ProductImage(product_id=product_id, original=name)])
