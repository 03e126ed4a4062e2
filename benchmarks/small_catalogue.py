"""The drawn catalogue with one small photo a product, drawn quickly: for benchmarks of many products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

AT_A_TIME = 1000


def photo(number: int, *, seed: int = 0) -> bytes:
    """A JPEG of product `number`, as no other number and no other `seed` gives it."""
    from benchmarks.small_photo import draw
    from shop.drawing.catalogue import product

    return draw(product(number).design, shot=(seed, number))


def fill(products: int, *, with_photos: bool = True) -> None:
    """Bring the shop to so many products, all but the photos as `shop_draw` has them."""
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
                style_code=each.style_code,
                colour=each.design.colour,
                pattern=each.design.pattern,
                material=each.design.material,
                attributes=each.attributes,
                price=each.price,
                stock=each.stock,
                place=place_of(each.sku),
            )
            yield row, [(photo(number), ".jpg")] if with_photos else []

    for start in range(count(), products, AT_A_TIME):
        create(list(batch(range(start, min(start + AT_A_TIME, products)))))


def count() -> int:
    """How many of these products the shop has."""
    from shop.models import Product

    return Product.objects.filter(sku__startswith="small-").count()


def replace_photos(numbers: list[int], *, seed: int) -> None:
    """Give these products other photos, in the way a shop's editor does: a new file, a saved row."""
    from django.core.files.base import ContentFile

    from shop.models import ProductImage

    skus = [f"small-{number}" for number in numbers]
    images = ProductImage.objects.filter(product__sku__in=skus).select_related("product")
    for image in images:
        number = int(image.product.sku.removeprefix("small-"))
        image.original.save(f"changed-{seed}-{number}.jpg", ContentFile(photo(number, seed=seed)))
