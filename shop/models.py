"""The shop's catalogue: products and their photos."""

from __future__ import annotations

import random
from typing import Any

from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

DRAWN_ATTRIBUTES = (_("kind"), _("length"), _("height"), _("sleeve"), _("neckline"))
"""Names in `Product.attributes` that the pages have in other languages too."""


def any_place() -> int:
    """A place in the default order: chance, so that variants do not stand side by side."""
    return random.randrange(2**31)


class ProductQuerySet(models.QuerySet["Product"]):
    def published(self) -> ProductQuerySet:
        """What visitors may see."""
        return self.filter(published=True)

    def for_cards(self) -> ProductQuerySet:
        """With everything that a card in the grid shows, in two queries."""
        return self.defer("description").prefetch_related("images")


class Product(models.Model):
    """One colour of one design; those of a design share ``style_code``."""

    sku = models.CharField("SKU", max_length=64, unique=True)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    category = models.CharField(_("category"), max_length=100, blank=True, db_index=True)
    style_code = models.CharField(max_length=64, blank=True, db_index=True)
    colour = models.CharField(_("colour"), max_length=60, blank=True, db_index=True)
    pattern = models.CharField(_("pattern"), max_length=60, blank=True)
    material = models.CharField(_("material"), max_length=60, blank=True)
    attributes = models.JSONField(default=dict, blank=True)
    price = models.DecimalField(_("price"), max_digits=10, decimal_places=2, db_index=True)
    stock = models.PositiveIntegerField(default=0)
    in_stock = models.GeneratedField(
        verbose_name=_("in stock"),
        expression=models.Q(stock__gt=0),  # type: ignore[arg-type]  # the stubs know no Q here
        output_field=models.BooleanField(),
        db_persist=True,
    )
    published = models.BooleanField(default=True)
    place = models.PositiveIntegerField(
        default=any_place,
        editable=False,
        help_text="Place in the grid when nothing else orders it.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ProductQuerySet.as_manager()

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["pk"]
        indexes = [
            models.Index(models.F("in_stock").desc(), "place", "id", name="shop_product_grid")
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("product", kwargs={"sku": self.sku})

    @property
    def main_image(self) -> ProductImage | None:
        return next(iter(self.images.all()), None)

    @property
    def photo_description(self) -> str:
        """What a screen reader says of the photo."""
        return f"{self.name}, {self.colour}" if self.colour else self.name

    def all_attributes(self) -> dict[str, str]:
        """Every attribute by name, those with a field of their own first."""
        own = {"colour": self.colour, "pattern": self.pattern, "material": self.material}
        more: dict[str, Any] = self.attributes if isinstance(self.attributes, dict) else {}
        pairs = own | {str(name): str(value) for name, value in more.items() if name not in own}
        return {name: value for name, value in pairs.items() if value}


class ProductImage(models.Model):
    """A photo of a product; the one with the lowest position is the main one."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="images")
    original = models.ImageField(upload_to="products/%Y/%m/", max_length=200)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return self.original.name or "no file"
