"""Which column of a shop's CSV means what, by the names that shops commonly use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# The first column that is there wins. Names are compared in lower case, words joined by "_".
WELL_KNOWN: dict[str, tuple[str, ...]] = {
    "id": ("id", "sku", "product_id", "article_id", "item_id", "handle"),
    "title": ("title", "name", "product_display_name", "product_name", "prod_name"),
    "description": ("description", "body", "body_html", "detail_desc", "text"),
    "label": (
        "category",
        "product_type",
        "article_type",
        "product_type_name",
        "type",
        "kind",
        "sub_category",
    ),
    "group": ("group", "style_code", "product_code", "group_id", "item_group_id", "parent_sku"),
    "image": ("image", "images", "image_path", "photo", "photos", "file", "filename", "image_src"),
    "price": ("price", "variant_price", "amount"),
    "stock": ("stock", "quantity", "inventory", "stock_quantity"),
}
# Columns that describe the file or the sale, not how the product looks.
IGNORED = frozenset(
    {
        *("width", "height", "source", "url", "link", "year", "currency", "ean", "gtin", "barcode"),
        *("created_at", "updated_at", "published", "active", "split"),
    }
)
COLOURS = ("colour", "color", "base_colour", "base_color", "colour_name", "color_name")
MAX_VALUES = 250
# A column is an attribute only if its values repeat: at least this many products a value.
MIN_PRODUCTS_A_VALUE = 3
MAX_VALUE_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The column of each meaning; None where the file has none."""

    id: str
    title: str | None
    description: str | None
    label: str | None
    group: str | None
    image: str | None
    price: str | None
    stock: str | None
    attributes: Mapping[str, str]
    # attribute name -> column

    def attributes_of(self, row: Mapping[str, str | None]) -> dict[str, str]:
        """The row's attributes, empty values left out."""
        found = {name: value_of(row, column) for name, column in self.attributes.items()}
        return {name: value for name, value in found.items() if value}

    def images_of(self, row: Mapping[str, str | None]) -> list[str]:
        """Image paths of the row as written; several are separated by ``|`` or ``;``."""
        if self.image is None:
            return []
        return [
            part.strip() for part in re.split(r"[|;]", value_of(row, self.image)) if part.strip()
        ]


def map_columns(
    header: Sequence[str],
    rows: Iterable[Mapping[str, str | None]] = (),
    *,
    overrides: Mapping[str, str] | None = None,
) -> Columns:
    """Maps a CSV's columns by their names; `rows` (a sample will do) decide which are attributes.

    `overrides` gives the column for a meaning by hand, as ``{"group": "design"}``.
    Raises ValueError if there is no column for the id, or an override names no column.
    """
    names = {normal_name(column): column for column in reversed(header) if column}
    chosen: dict[str, str | None] = {}
    for meaning, candidates in WELL_KNOWN.items():
        chosen[meaning] = next((names[name] for name in candidates if name in names), None)
    for meaning, column in (overrides or {}).items():
        if meaning not in WELL_KNOWN:
            raise ValueError(f"No meaning {meaning!r}; choose among {', '.join(WELL_KNOWN)}.")
        if column not in header:
            raise ValueError(f"The file has no column {column!r}; it has {', '.join(header)}.")
        chosen[meaning] = column
    if chosen["id"] is None:
        raise ValueError(
            f"No column for the product's id: name one of {', '.join(WELL_KNOWN['id'])}. "
            f"The file has {', '.join(header)}."
        )
    used = {column for column in chosen.values() if column}
    free = [
        (name, column)
        for column in header
        if column and column not in used
        for name in [normal_name(column)]
        # A second name for the group (product_code beside group) is no attribute.
        if name not in IGNORED and name not in WELL_KNOWN["group"] and name not in WELL_KNOWN["id"]
    ]
    # The finest colour first: "like this but…" is asked for colours more than for anything else.
    free.sort(key=lambda pair: pair[0] not in COLOURS)
    attributes = _low_cardinality(free, list(rows))
    return Columns(**chosen, attributes=attributes)  # type: ignore[arg-type]


def _low_cardinality(
    free: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, str | None]]
) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, column in free:
        counts = Counter(filter(None, (value_of(row, column) for row in rows)))
        filled = counts.total()
        if rows and (
            not 2 <= len(counts) <= MAX_VALUES
            or filled < MIN_PRODUCTS_A_VALUE * len(counts)
            or any(len(value) > MAX_VALUE_LENGTH for value in counts)
            or all(_is_number(value) for value in counts)
        ):
            continue
        attributes[name] = column
    return attributes


def normal_name(column: str) -> str:
    """``productDisplayName``, ``Product Display Name`` -> ``product_display_name``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.strip().lstrip("\ufeff"))
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def value_of(row: Mapping[str, str | None], column: str | None) -> str:
    """The cell without outer blanks; empty where the row is short or the column unknown."""
    value = row.get(column) if column else None
    return value.strip() if isinstance(value, str) else ""


def _is_number(value: str) -> bool:
    try:
        float(value.replace(",", "."))
    except ValueError:
        return False
    return True
