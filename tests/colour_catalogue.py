"""A small catalogue for the tests of search: plain colours, embedded by the fake encoder."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from shop.models import Product
from visualsearch.models import Checkpoint, Embedding, SimilarProduct
from visualsearch.photos.images import open_image, to_pixels
from visualsearch.testing import COLOURS, FakeEncoder


def photo(colour: str = "red", *, format: str = "PNG", size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture filled with one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, format)
    return buffer.getvalue()


def product(sku: str, colour: str = "red", **fields: Any) -> Product:
    values: dict[str, Any] = {
        "name": f"{colour} dress",
        "colour": colour,
        "category": "dresses",
        "price": 20,
        "stock": 1,
    }
    return Product.objects.create(sku=sku, **values | fields)


def embed(checkpoint: Checkpoint, *products: Product, position: int = 0) -> None:
    """Store what the fake encoder makes of a photo in each product's colour."""
    encoder = FakeEncoder()
    for each in products:
        pixels = to_pixels(open_image(photo(each.colour)), size=encoder.image_size)
        Embedding.objects.create(
            checkpoint=checkpoint,
            product=each,
            position=position,
            image=f"products/{each.sku}.png",
            content_hash=b"0" * 16,
            version=1,
            vector=encoder.encode_image(pixels[None])[0].tolist(),
        )


def set_neighbours(checkpoint: Checkpoint, source: Product, *targets: Product) -> None:
    SimilarProduct.objects.bulk_create(
        SimilarProduct(
            checkpoint=checkpoint,
            source=source,
            target=target,
            rank=rank,
            score=float(np.round(1 - rank / 100, 2)),
            position=0,
        )
        for rank, target in enumerate(targets, 1)
    )
