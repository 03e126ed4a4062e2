"""How the shop's products map to visual search."""

from __future__ import annotations

from typing import Any

from django.db.models import Model, QuerySet
from django.http import HttpRequest

import visualsearch
from shop.models import Product


@visualsearch.register(Product)
class ProductIndex(visualsearch.VisualIndex):
    image_field = "images__original"
    text_fields = ("name", "description")
    label_field = "category"
    group_field = "style_code"
    attribute_fields = ("colour", "pattern", "material")
    filter_fields = ("category", "colour", "price", "in_stock")
    price_field = "price"
    related = {"images": "product"}

    def get_queryset(self) -> QuerySet[Any]:
        return Product.objects.all()

    def visible_to(self, request: HttpRequest | None, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(published=True)

    def get_attributes(self, product: Model) -> dict[str, str]:
        assert isinstance(product, Product)
        return product.all_attributes()
