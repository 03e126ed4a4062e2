"""How garments map to visual search: hooks where attributes do not reach."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

import visualsearch
from tests.testapp.models import Garment


@visualsearch.register(Garment)
class GarmentIndex(visualsearch.VisualIndex):
    image_field = "shot_set__file"
    text_fields = [
        "design__headline",
        "design__story",
        "design__brand__label",
        "collections__title",
    ]
    label_field = "department"
    group_field = "design_id"
    filter_fields = ["department", "design__brand__label", "cents"]
    related = {"shot_set": "garment", "traits": "wearable"}

    def visible_to(self, request: HttpRequest | None, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if request is not None and request.user.is_authenticated:
            return queryset
        return queryset.filter(members_only=False)

    def get_attributes(self, product: Any) -> dict[str, str]:
        return {trait.name: trait.value for trait in product.traits.all()}

    def get_price(self, product: Any) -> str:
        return f"{product.cents / 100:.2f} €"
