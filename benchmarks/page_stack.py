"""A demo shop with a drawn catalogue, vectors and neighbours, for the benchmarks of its product page."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from benchmarks import stack

NAME = "page"
SETTINGS = "benchmarks.page_settings"
PRODUCTS = 60


@contextlib.contextmanager
def start(*, products: int = PRODUCTS) -> Iterator[tuple[stack.Stack, str]]:
    """Services, and the path of a product's page whose widget has all its cards, by neighbours or kind.

    Nothing is trained: what a page costs does not depend on which neighbours are shown.
    """
    with contextlib.ExitStack() as undo, stack.start(NAME) as services:
        # What failed half-way is not measured on; else the catalogue is drawn once.
        undo.callback(stack.remove, NAME)
        services.environment["DJANGO_SETTINGS_MODULE"] = SETTINGS
        os.environ.update(services.environment)
        services.manage("migrate", "--verbosity", "0")
        services.manage("shop_draw", "--products", str(products))
        import django

        django.setup()
        from django.db.models import Count

        from shop.models import Product
        from visualsearch.models import Checkpoint
        from visualsearch.testing import fake_checkpoint
        from visualsearch.upkeep import indexing, neighbours

        checkpoint = Checkpoint.objects.live() or fake_checkpoint()
        indexing.index_pending()
        neighbours.compute(checkpoint)
        # A kind with fewer products than the widget has cards would make that page a shorter one.
        kinds = Product.objects.values("category").annotate(number=Count("pk"))
        commonest = kinds.order_by("-number", "category")[0]["category"]
        product = Product.objects.filter(category=commonest, stock__gt=0).order_by("pk")[0]
        yield services, product.get_absolute_url().lstrip("/")
        undo.pop_all()
