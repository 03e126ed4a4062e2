"""From records to rows and files: products in batches, photos into the shop's storage."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from django.core.files.base import ContentFile
from django.db import transaction

from shop.models import Product, ProductImage

Photos = Sequence[tuple[bytes, str]]  # bytes and suffix


def photo_name(sku: str, position: int, suffix: str) -> str:
    """Where a photo is stored: by the SKU, spread over folders, whatever characters it holds."""
    digest = hashlib.blake2b(sku.encode(), digest_size=5).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", sku).strip("-")[:40] or "product"
    return f"products/{digest[:2]}/{readable}-{digest[2:]}-{position}{suffix}"


def store_photo(sku: str, position: int, data: bytes, suffix: str) -> str:
    """Writes a photo and returns its name; one left by an interrupted run is replaced."""
    storage = ProductImage._meta.get_field("original").storage
    name = photo_name(sku, position, suffix)
    if storage.exists(name):
        storage.delete(name)
    return str(storage.save(name, ContentFile(data)))


def place_of(sku: str) -> int:
    """A place in the grid that looks like chance and is the same in every run."""
    return int.from_bytes(hashlib.blake2b(sku.encode(), digest_size=4).digest()) >> 1


def create(batch: Sequence[tuple[Product, Photos]]) -> int:
    """Stores new products with their photos in one transaction; returns how many."""
    names = [
        [store_photo(product.sku, i, data, suffix) for i, (data, suffix) in enumerate(photos)]
        for product, photos in batch
    ]
    with transaction.atomic():
        products = Product.objects.bulk_create([product for product, _ in batch])
        ProductImage.objects.bulk_create(
            ProductImage(product=product, original=name, position=position)
            for product, own in zip(products, names, strict=True)
            for position, name in enumerate(own)
        )
    return len(products)
