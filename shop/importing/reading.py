"""From a catalogue's CSV to records: columns mapped by name, every bad row with its reason."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import PurePosixPath

from PIL import Image, UnidentifiedImageError

from shop.importing.source import MAX_CSV_BYTES, Source, SourceError
from visualsearch.ml.columns import COLOURS, Columns, map_columns, normal_name, value_of

SAMPLE_ROWS = 20_000  # enough to tell attributes from free text
FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# What a design's variants share, before a column that marks near duplicates.
DESIGN_COLUMNS = ("style_code", "product_code", "parent_sku", "item_group_id")
MAX_SKU, MAX_TEXT = 64, 20_000
PATTERN_NAMES = ("pattern", "graphical_appearance_name", "graphical_appearance")
# A number with whatever currency before or after it.
PRICE = re.compile(r"[^\d.,-]*(-?\d[\d.,\s']*)\D*")
MATERIAL_NAMES = ("material", "fabric", "composition")


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A line of the CSV that was skipped."""

    line: int
    sku: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """One product as it will be stored, its photos still in the source."""

    line: int
    sku: str
    name: str
    description: str
    category: str
    style_code: str
    colour: str
    pattern: str
    material: str
    attributes: dict[str, str]
    price: Decimal
    stock: int
    photos: tuple[tuple[bytes, str], ...]  # bytes and suffix


class Table:
    """The products of a source, row by row."""

    def __init__(self, source: Source) -> None:
        self.source = source
        name = source.table()
        self.root = name[: len(name) - len(PurePosixPath(name).name)]
        text = source.read(name, limit=MAX_CSV_BYTES).decode("utf-8-sig", errors="replace")
        # csv stops at the first NUL; the row that holds one is bad, not those after it.
        self._text = text.replace("\x00", "\ufffd")
        first = self._text.partition("\n")[0]
        self._delimiter = max(",;\t", key=first.count)
        rows = self._rows()
        self.header = next(rows, (1, []))[1]
        if not any(self.header):
            raise SourceError(f"{name} is empty: its first line must name the columns.")
        sample = (cells for _, cells in itertools.islice(rows, SAMPLE_ROWS))
        mapped = [dict(zip(self.header, cells, strict=False)) for cells in sample]
        overrides = {}
        normal = {normal_name(column): column for column in self.header}
        if design := next((normal[n] for n in DESIGN_COLUMNS if n in normal), None):
            overrides["group"] = design
        try:
            self.columns: Columns = map_columns(self.header, mapped, overrides=overrides)
        except ValueError as error:
            raise SourceError(f"{name}: {error}") from error
        self._files = source.names()
        # Colour, pattern and material have fields of their own, even where no value repeats.
        self._colour, self._pattern, self._material = (
            next((normal[name] for name in names if name in normal), None)
            for names in (COLOURS, PATTERN_NAMES, MATERIAL_NAMES)
        )
        own = {self._colour, self._pattern, self._material}
        self._other = {n: c for n, c in self.columns.attributes.items() if c not in own}

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells; a line that csv cannot read comes as no cells."""
        reader = csv.reader(io.StringIO(self._text, newline=""), delimiter=self._delimiter)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                cells = []
            else:
                if not cells:
                    continue  # an empty line
            yield line, cells

    def count(self) -> int:
        """How many rows there are at most."""
        return max(0, self._text.count("\n") - 1 + (not self._text.endswith("\n")))

    def records(self, known: set[str]) -> Iterator[Record | BadRow | str]:
        """Every row: a record, a bad row, or the SKU of a product in ``known``, left as it is."""
        seen: set[str] = set()
        rows = self._rows()
        next(rows, None)
        for line, cells in rows:
            row, reason = self._row(cells)
            sku = value_of(row, self.columns.id)
            if not reason and (reason := self._refusal(sku, seen)) is None:
                seen.add(sku)
                if sku in known:
                    yield sku
                    continue
                try:
                    yield self._record(line, sku, row)
                    continue
                except (SourceError, ValueError) as error:
                    reason = str(error)
            yield BadRow(line=line, sku=sku[:MAX_SKU], reason=reason or "unreadable")

    def _row(self, cells: list[str]) -> tuple[dict[str, str | None], str | None]:
        width = len(self.header)
        if not cells:
            return {}, "the line is not readable as CSV"
        if len(cells) > width and self.columns.title == self.header[-1]:
            # A title with commas that nobody quoted, as in the Kaggle fashion set.
            cells = [
                *cells[: width - 1],
                self._delimiter.join(cells[width - 1 :]).rstrip(self._delimiter),
            ]
        row: dict[str, str | None] = dict(zip(self.header, cells, strict=False))
        if len(cells) != width:
            return row, f"the line has {len(cells)} cells and the header {width}"
        return row, None

    def _refusal(self, sku: str, seen: set[str]) -> str | None:
        if not sku:
            return f"no value in the column {self.columns.id!r}"
        if len(sku) > MAX_SKU:
            return f"the id is longer than {MAX_SKU} characters"
        if sku in seen:
            return f"the id {sku} appears a second time"
        return None

    def _record(self, line: int, sku: str, row: dict[str, str | None]) -> Record:
        columns = self.columns
        attributes = {name: value_of(row, column) for name, column in self._other.items()}
        name = value_of(row, columns.title) or value_of(row, columns.label)
        if not name:
            raise ValueError("no title")
        return Record(
            line=line,
            sku=sku,
            name=name[:200],
            description=value_of(row, columns.description)[:MAX_TEXT],
            category=value_of(row, columns.label)[:100],
            style_code=value_of(row, columns.group)[:64],
            colour=value_of(row, self._colour)[:60].lower(),
            pattern=value_of(row, self._pattern)[:60].lower(),
            material=value_of(row, self._material)[:60].lower(),
            attributes={name: value for name, value in attributes.items() if value},
            price=read_price(value_of(row, columns.price), sku),
            stock=read_stock(value_of(row, columns.stock), sku),
            photos=self._photos(sku, row),
        )

    def _photos(self, sku: str, row: dict[str, str | None]) -> tuple[tuple[bytes, str], ...]:
        named = self.columns.images_of(row)
        candidates = named or [f"images/{sku}{suffix}" for suffix in SUFFIXES]
        found: list[tuple[bytes, str]] = []
        for name in candidates:
            inside = self._find(name)
            if inside is not None:
                found.append(check_photo(self.source.read(inside), inside))
            elif named:
                raise ValueError(f"the image {name} is not there")
        if not found:
            raise ValueError(
                f"no image: neither images/{sku}.jpg nor another format of it is there"
            )
        return tuple(found)

    def _find(self, name: str) -> str | None:
        """The file that a cell names, relative to the CSV or to an images folder beside it."""
        clean = name.removeprefix("./")
        tries = (self.root + clean, f"{self.root}images/{clean}")
        return next((path for path in tries if path in self._files), None)


def check_photo(data: bytes, name: str) -> tuple[bytes, str]:
    """The bytes with the suffix that their content calls for; reads the header only."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            return data, FORMATS[image.format or ""]
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        KeyError,
    ) as e:
        raise ValueError(f"the image {name} is not a readable JPEG, PNG or WebP file") from e


def _number_of(sku: str, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{purpose}:{sku}".encode(), digest_size=4).digest())


def read_price(text: str, sku: str) -> Decimal:
    """The price in a cell; without one, a plausible one that is always the same for the SKU."""
    if not text:
        return Decimal(900 + _number_of(sku, "price") % 8100 // 100 * 100 + 99) / 100
    found = PRICE.fullmatch(text)
    digits = re.sub(r"[\s']", "", found[1]) if found else ""
    if "," in digits:
        # The last sign divides, unless it is one comma before three digits: 1,299.00 and 1.299,00
        # are the same price, and 1,299 is not a little more than one.
        comma, dot = digits.rfind(","), digits.rfind(".")
        thousands = dot > comma or (dot < 0 and len(digits) - comma == 4)
        digits = digits.replace(",", "") if thousands else digits.replace(".", "").replace(",", ".")
    try:
        price = Decimal(digits).quantize(Decimal("0.01"))
    except InvalidOperation:
        raise ValueError(f"the price {text!r} is not a number") from None
    if not 0 <= price < 10**8:
        raise ValueError(f"the price {text!r} is not between 0 and 99999999.99")
    return price


def read_stock(text: str, sku: str) -> int:
    """The stock in a cell; without one, an invented one, with some products sold out."""
    if not text:
        number = _number_of(sku, "stock") % 64
        return 0 if number < 4 else number
    try:
        return min(max(0, int(Decimal(text))), 2**31 - 1)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"the stock {text!r} is not a whole number") from None
