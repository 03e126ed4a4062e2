"""Load a real catalogue into the shop: a folder or zip of products.csv (or styles.csv) and images."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from shop.importing.reading import BadRow, Record, Table
from shop.importing.source import Source, SourceError, open_source
from shop.importing.storing import Photos, create, place_of
from shop.models import Product
from shop.progress import ProgressLine

BATCH = 200
LISTED = 50


class Command(BaseCommand):
    help = "Loads a folder or zip of products.csv (or the Kaggle styles.csv) and images."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", help="folder or zip file")
        parser.add_argument("--limit", type=int, help="load at most this many products")
        parser.add_argument(
            "--all-bad-rows", action="store_true", help=f"list every bad row, not only {LISTED}"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        limit = options["limit"]
        if limit is not None and limit < 1:
            raise CommandError(f"--limit is {limit}: give a number of products from 1.")
        try:
            with open_source(options["path"]) as source:
                self._load(
                    source,
                    limit,
                    quiet=options["verbosity"] == 0,
                    every=options["all_bad_rows"],
                )
        except SourceError as error:
            raise CommandError(str(error)) from error

    def _load(self, source: Source, limit: int | None, *, quiet: bool, every: bool) -> None:
        table = Table(source)
        self._say_columns(table, quiet=quiet)
        known = set(Product.objects.values_list("sku", flat=True))
        total = min(table.count(), limit or table.count())
        line = ProgressLine(self.stdout, total=total, what="products", quiet=quiet)  # type: ignore[arg-type]
        bad: list[BadRow] = []
        batch: list[tuple[Product, Photos]] = []
        loaded = kept = 0
        for entry in table.records(known):
            match entry:
                case BadRow():
                    bad.append(entry)
                    continue
                case str():
                    kept += 1
                case Record():
                    batch.append((_product(entry), entry.photos))
            if len(batch) == BATCH:
                loaded += create(batch)
                batch.clear()
            line.update(loaded + len(batch) + kept)
            if loaded + len(batch) + kept == limit:
                break
        if batch:
            loaded += create(batch)
        line.finish(loaded + kept)
        self._report(loaded, kept, bad, source.refused, every=every)

    def _say_columns(self, table: Table, *, quiet: bool) -> None:
        if quiet:
            return
        columns = table.columns
        pairs = {
            "id": columns.id,
            "title": columns.title,
            "description": columns.description,
            "category": columns.label,
            "style": columns.group,
            "image": columns.image,
        }
        found = ", ".join(f"{name} = {column}" for name, column in pairs.items() if column)
        self.stdout.write(f"Columns: {found}.")
        self.stdout.write(f"Attributes: {', '.join(columns.attributes) or 'none'}.")
        if columns.image is None:
            self.stdout.write("No column names the images: taking images/<id>.jpg.")
        invented = [name for name in ("price", "stock") if getattr(columns, name) is None]
        if invented:
            self.stdout.write(
                self.style.WARNING(
                    f"No column for {' and '.join(invented)}: the demo shop makes up plausible "
                    "values, the same for the same id every time."
                )
            )

    def _report(
        self, loaded: int, kept: int, bad: list[BadRow], refused: list[str], *, every: bool
    ) -> None:
        for row in bad if every else bad[:LISTED]:
            name = f" ({row.sku})" if row.sku else ""
            self.stderr.write(f"line {row.line}{name}: skipped, {row.reason}")
        if len(bad) > LISTED and not every:
            self.stderr.write(f"… and {len(bad) - LISTED} more; --all-bad-rows lists them.")
        for name in refused[:LISTED]:
            self.stderr.write(f"refused: {name!r} leads out of the folder")
        text = f"Loaded {loaded:,} products"
        if kept:
            text += f", kept {kept:,} that were there already"
        text += f", skipped {len(bad):,} bad row{'' if len(bad) == 1 else 's'}."
        self.stdout.write(self.style.SUCCESS(text))


def _product(record: Record) -> Product:
    return Product(
        sku=record.sku,
        name=record.name,
        description=record.description,
        category=record.category,
        style_code=record.style_code,
        colour=record.colour,
        pattern=record.pattern,
        material=record.material,
        attributes=record.attributes,
        price=record.price,
        stock=record.stock,
        place=place_of(record.sku),
    )
