"""Fill the shop with the drawn catalogue; what is there already is kept."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from shop.drawing.catalogue import DrawnProduct, product
from shop.drawing.studio import photographed
from shop.importing.storing import Photos, create, place_of
from shop.models import Product
from shop.progress import ProgressLine

BATCH = 100
FIRST = 16
"""The first batch is small: a shop that is being drawn has something to show at once."""
LOOK_UP = 2000
MOST = 1_000_000


class Command(BaseCommand):
    help = "Draws products with two photos each, in parallel; products that exist are skipped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--products", type=int, default=600, help="how many there shall be")
        parser.add_argument("--seed", type=int, default=0, help="another seed, another catalogue")
        parser.add_argument(
            "--workers", type=int, default=0, help="drawing processes; 0 for one per core"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted, seed = options["products"], options["seed"]
        if not 1 <= wanted <= MOST:
            raise CommandError(f"--products is {wanted}: give a number from 1 to {MOST:,}.")
        workers = options["workers"] or len(os.sched_getaffinity(0))
        if workers < 1:
            raise CommandError(f"--workers is {workers}: give 1 or more, or 0 for one per core.")
        line = ProgressLine(
            self.stdout,  # type: ignore[arg-type]
            total=wanted,
            what="products drawn",
            quiet=options["verbosity"] == 0,
        )
        made, kept = self._draw(wanted, seed, workers, line)
        if options["verbosity"]:
            self.stdout.write(
                self.style.SUCCESS(
                    f"Drew {made:,} products, kept {kept:,} that were there already."
                )
            )

    def _draw(self, wanted: int, seed: int, workers: int, line: ProgressLine) -> tuple[int, int]:
        made = 0
        missing = list(_missing(wanted, seed))
        kept = wanted - len(missing)
        batch: list[tuple[Product, Photos]] = []
        for drawn, photos in photographed(missing, seed, workers):
            batch.append((_row(drawn), [(data, ".jpg") for data in photos]))
            if len(batch) >= min(BATCH, FIRST + made):
                made += create(batch)
                batch.clear()
            line.update(kept + made + len(batch))
        if batch:
            made += create(batch)
        line.finish(kept + made)
        return made, kept


def _missing(wanted: int, seed: int) -> Iterator[int]:
    """The numbers of products that the shop does not have yet."""
    for start in range(0, wanted, LOOK_UP):
        numbers = range(start, min(start + LOOK_UP, wanted))
        skus = {product(number, seed=seed).sku: number for number in numbers}
        known = set(Product.objects.filter(sku__in=skus).values_list("sku", flat=True))
        yield from (number for sku, number in skus.items() if sku not in known)


def _row(drawn: DrawnProduct) -> Product:
    return Product(
        sku=drawn.sku,
        name=drawn.name,
        description=drawn.description,
        category=drawn.category,
        style_code=drawn.style_code,
        colour=drawn.design.colour,
        pattern=drawn.design.pattern,
        material=drawn.design.material,
        attributes=drawn.attributes,
        price=drawn.price,
        stock=drawn.stock,
        place=place_of(drawn.sku),
    )
