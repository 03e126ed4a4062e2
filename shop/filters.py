"""The filters of the grid: a plain GET form and what it asks of the catalogue."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django import forms
from django.core.cache import cache
from django.utils.translation import gettext_lazy as _

from shop.models import Product, ProductQuerySet

ORDERS = {
    "": (_("Featured"), ("-in_stock", "place", "pk")),
    "new": (_("Newest"), ("-created_at", "-pk")),
    "price": (_("Price, low to high"), ("price", "pk")),
    "-price": (_("Price, high to low"), ("-price", "pk")),
}
CHOICES_SECONDS = 30
MOST_CHOICES = 300


def values_of(field: str) -> list[str]:
    """The values of a field that visitors can find products for; remembered for a short while."""
    key = f"shop:values:{field}"
    found: list[str] | None = None
    cache_answers = True
    try:
        found = cache.get(key)
    except Exception:  # caches share no base error
        cache_answers = False  # and is not waited for a second time
    if found is None:
        values = Product.objects.published().order_by(field).values_list(field, flat=True)
        found = [value for value in values.distinct()[:MOST_CHOICES] if value]
        if cache_answers:
            with suppress(Exception):
                cache.set(key, found, CHOICES_SECONDS)
    return found


class GridFilters(forms.Form):
    """Category, colour, price and stock; a value that is not understood is reported, not obeyed."""

    category = forms.ChoiceField(required=False, label=_("Category"))
    colour = forms.ChoiceField(required=False, label=_("Colour"))
    min_price = forms.DecimalField(
        required=False, min_value=0, max_digits=8, label=_("Lowest price"), localize=False
    )
    max_price = forms.DecimalField(
        required=False, min_value=0, max_digits=8, label=_("Highest price")
    )
    in_stock = forms.BooleanField(required=False, label=_("In stock only"))
    order = forms.ChoiceField(
        required=False, label=_("Sort by"), choices=[(key, each[0]) for key, each in ORDERS.items()]
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("category", "colour"):
            choices = [(value, value[:1].upper() + value[1:]) for value in values_of(name)]
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [("", _("Any")), *choices]
        for name in ("min_price", "max_price"):
            self.fields[name].widget.attrs.update(min=0, step="1", inputmode="decimal")

    def apply(self, products: ProductQuerySet) -> ProductQuerySet:
        """The products that the valid part of the form asks for, in its order."""
        self.full_clean()
        asked = getattr(self, "cleaned_data", {})
        for name in ("category", "colour"):
            if asked.get(name):
                products = products.filter(**{name: asked[name]})
        lowest, highest = asked.get("min_price"), asked.get("max_price")
        if lowest is not None and highest is not None:
            lowest, highest = sorted((lowest, highest))  # whichever was typed where
        if lowest is not None:
            products = products.filter(price__gte=lowest)
        if highest is not None:
            products = products.filter(price__lte=highest)
        if asked.get("in_stock"):
            products = products.filter(stock__gt=0)
        return products.order_by(*ORDERS[asked.get("order") or ""][1])
