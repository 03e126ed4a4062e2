"""The shop's pages: the grid and the product page."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.http import require_safe

from shop.filters import GridFilters
from shop.models import Product
from visualsearch.models import Checkpoint, TrainingRun

PER_PAGE = 24
MOST_VARIANTS = 24


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The grid of products, filtered by the query string."""
    form = GridFilters(request.GET)
    products = form.apply(Product.objects.published()).for_cards()
    page = Paginator(products, PER_PAGE).get_page(request.GET.get("page"))
    kept = request.GET.copy()
    kept.pop("page", None)
    filtered = any(value for key, value in kept.items() if key in form.fields and key != "order")
    return render(
        request,
        "shop/home.html",
        {
            "form": form,
            "page": page,
            "query": kept.urlencode(),
            "filtered": filtered,
            "learning": _learning(),
            "elided": page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1),
        },
    )


@require_safe
def product(request: HttpRequest, sku: str) -> HttpResponse:
    """One product; its primary key in the address leads to the address with its SKU."""
    products = Product.objects.published().prefetch_related("images")
    if "\x00" in sku:
        return _gone(request)
    found = products.filter(sku=sku).first()
    if found is None:
        numeric = sku.isascii() and sku.isdigit() and len(sku) < 19
        by_key = products.filter(pk=int(sku)).first() if numeric else None
        if by_key is None:
            return _gone(request)
        return redirect(by_key, permanent=False)
    colours, other = _variants(found)
    return render(
        request,
        "shop/product.html",
        {
            "product": found,
            "images": list(found.images.all()),
            "colours": colours,
            "others": other,
            "attributes": found.all_attributes(),
        },
    )


@require_safe
def icon(request: HttpRequest) -> HttpResponse:
    """The shop's icon, for pages that name none."""
    return redirect(static("shop/icon.svg"))


def _gone(request: HttpRequest) -> HttpResponse:
    """The shop's own page for what it does not sell, where DEBUG would show Django's for developers."""
    return render(request, "404.html", status=404)


def _learning() -> TrainingRun | None:
    """The run that makes the shop's first checkpoint; None once there is one."""
    run = TrainingRun.objects.open().first()
    return run if run is not None and Checkpoint.objects.live() is None else None


def _variants(chosen: Product) -> tuple[list[Product], list[Product]]:
    """The same design in other colours (the chosen one included), and other cuts of the style."""
    if not chosen.style_code:
        return [], []
    family = list(
        Product.objects.published()
        .filter(style_code=chosen.style_code)
        .for_cards()
        .order_by("pk")[: MOST_VARIANTS * 2]
    )

    def design(item: Product) -> dict[str, str]:
        return {
            name: value for name, value in item.all_attributes().items() if "colour" not in name
        }

    own = design(chosen)
    colours = [item for item in family if design(item) == own or item.pk == chosen.pk]
    same = {item.pk for item in colours}
    others = [item for item in family if item.pk not in same]
    # Other cuts in the colour that is looked at come first.
    others.sort(key=lambda item: (item.colour != chosen.colour, item.pk))
    return colours[:MOST_VARIANTS] if len(colours) > 1 else [], others[:8]
