"""Products with one small photo each, drawn quickly: for benchmarks of many products."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

SIDE = 64
"""Pixels; a file of about a kilobyte."""
AT_A_TIME = 1000


def photo(number: int, *, seed: int = 0) -> bytes:
    """A JPEG that no other number gives: an object of few colours and stripes on white."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng([seed, number])
    colours = random.integers(0, 230, size=(3, 3))
    pixels = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    top, left = random.integers(2, 18, size=2)
    height, width = random.integers(24, SIDE - 18, size=2)
    thing = pixels[top : top + height, left : left + width]
    thing[:] = colours[0]
    thing[:: random.integers(3, 9)] = colours[1]
    thing[:, : random.integers(2, 16)] = colours[2]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def fill(count: int, *, with_photos: bool = True) -> None:
    """Bring the shop to `count` products, titles and attributes as those of `shop_draw`."""
    from shop.drawing.catalogue import product as drawn
    from shop.importing.storing import create, place_of
    from shop.models import Product

    def batch(numbers: range) -> Iterator[tuple[Any, Any]]:
        for number in numbers:
            each = drawn(number, seed=0)
            row = Product(
                sku=f"small-{number}",
                name=each.name,
                description=each.description,
                category=each.category,
                style_code=f"small-{number // 3}",
                colour=each.design.colour,
                pattern=each.design.pattern,
                material=each.design.material,
                attributes=each.attributes,
                price=each.price,
                stock=each.stock,
                place=place_of(each.sku),
            )
            yield row, [(photo(number), ".jpg")] if with_photos else []

    there = Product.objects.filter(sku__startswith="small-").count()
    for start in range(there, count, AT_A_TIME):
        create(list(batch(range(start, min(start + AT_A_TIME, count)))))


def replace_photos(numbers: list[int], *, seed: int) -> None:
    """Give these products other photos, in the way a shop's editor does: a new file, a saved row."""
    from django.core.files.base import ContentFile

    from shop.models import ProductImage

    skus = [f"small-{number}" for number in numbers]
    images = ProductImage.objects.filter(product__sku__in=skus).select_related("product")
    for image in images:
        number = int(image.product.sku.removeprefix("small-"))
        image.original.save(f"changed-{seed}-{number}.jpg", ContentFile(photo(number, seed=seed)))
