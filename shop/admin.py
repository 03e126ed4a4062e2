"""The shop's catalogue in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from shop.models import Product, ProductImage


class ProductImageInline(admin.TabularInline):
    model = ProductImage
    extra = 0


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "sku", "category", "colour", "price", "stock", "published")
    list_filter = ("published", "category", "colour", "pattern", "material")
    search_fields = ("name", "sku", "style_code")
    list_per_page = 50
    readonly_fields = ("in_stock", "created_at")
    inlines = (ProductImageInline,)


admin.site.site_title = "Drawn & Worn"
admin.site.site_header = _("Drawn & Worn: administration")
