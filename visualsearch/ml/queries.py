"""The query sets of an evaluation: fixed by the catalogue and a seed, with what is right for each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from visualsearch.ml import phrases
from visualsearch.ml.coding import ANY, MISSING, CodedCatalogue, Codes, fulfils

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
T = TypeVar("T")

GENDERS = ("gender", "sex", "audience", "target_group")
"""Names of the attribute that says whom a product is for."""


@dataclass(frozen=True)
class Queries:
    """Q queries by photo or by text, and what a product must be to be right.

    Two checkpoints are asked the same queries, and `keys` say which answers belong together.
    """

    products: Indices
    # [Q] the product that each was made of
    wanted: Codes
    # [Q, C] requirements
    keys: list[str]
    units: list[str]
    # [Q] what is resampled for an interval: the design, since its products are alike
    texts: list[str]
    # [Q]; none for queries by photo

    def __len__(self) -> int:
        return len(self.keys)

    def right(self, coded: CodedCatalogue) -> Bools:
        """bool [Q, N]: the right products, the queried one among them."""
        return fulfils(self.wanted, coded.codes)

    def take(self, rows: Indices) -> Queries:
        """Some of the queries."""
        return Queries(
            self.products[rows],
            self.wanted[rows],
            [self.keys[i] for i in rows],
            [self.units[i] for i in rows],
            [self.texts[i] for i in rows] if self.texts else [],
        )


def product_queries(
    coded: CodedCatalogue, *, limit: int, seed: int, among: Sequence[int] | None = None
) -> Queries:
    """Products to look for others by their photo; `wanted` asks for nothing yet."""
    items = coded.catalogue.items
    chosen = sample(_among(coded, among), key=lambda i: items[i].id, limit=limit, seed=seed)
    wanted = np.tile(coded.nothing(), (len(chosen), 1))
    return _queries(coded, chosen, wanted, [items[i].id for i in chosen], [])


def similar_columns(coded: CodedCatalogue, *, attributes: int) -> dict[str, list[int]]:
    """What "similar" may mean, by name: the columns in which two products must agree.

    Kind, the first attributes, and together: kind and colour (the first attribute where none is a
    colour), and both with gender where the catalogue has one.
    """
    columns = {"kind": [0]}
    for column, name in enumerate(coded.names[:attributes], start=1):
        columns[name if name not in columns else f"{name} (attribute)"] = [column]
    if coded.names:
        colour = next((name for name in coded.names if phrases.is_colour(name)), coded.names[0])
        together = [0, 1 + coded.names.index(colour)]
        columns[f"kind + {colour}"] = together
        if gender := gender_attribute(coded):
            columns[f"kind + {colour} + {gender}"] = [*together, 1 + coded.names.index(gender)]
    return columns


def gender_attribute(coded: CodedCatalogue) -> str:
    """The attribute that says whom a product is for, or ""."""
    return next((name for name in coded.names if name.casefold() in GENDERS), "")


def title_queries(
    coded: CodedCatalogue, *, limit: int, seed: int, among: Sequence[int] | None = None
) -> Queries:
    """Each distinct title once; right is every product of that title."""
    first: dict[int, int] = {}
    for index in _among(coded, among):
        code = int(coded.codes[index, coded.title_column])
        if code != MISSING:
            first.setdefault(code, index)
    items = coded.catalogue.items

    def key(index: int) -> str:
        return items[index].texts[0].casefold()

    chosen = sample(list(first.values()), key=key, limit=limit, seed=seed)
    wanted = _asking(coded, chosen, [coded.title_column])
    texts = [items[i].texts[0] for i in chosen]
    return _queries(coded, chosen, wanted, [key(i) for i in chosen], texts)


def full_text_queries(
    coded: CodedCatalogue,
    attribute: str,
    *,
    limit: int,
    seed: int,
    among: Sequence[int] | None = None,
) -> Queries:
    """Title, value of `attribute` and description of products; right shares all of them.

    Descriptions are often shared by all colours of a design, so the colour is part of the query.
    """
    items = coded.catalogue.items
    whole = [i for i in _among(coded, among) if len(items[i].texts) > 1]
    columns = [coded.title_column, coded.description_column]
    if attribute:
        columns.append(1 + coded.names.index(attribute))
    wanted = _asking(coded, whole, columns)
    # A product without the value asks for none: the text can't say what is missing.
    wanted[wanted == MISSING] = ANY
    first: dict[bytes, int] = {}
    for row in range(len(whole)):
        first.setdefault(wanted[row].tobytes(), row)

    def text(row: int) -> str:
        item = items[whole[row]]
        value = item.attributes.get(attribute, "").lower()
        return " ".join(filter(None, [value, item.texts[0], *item.texts[1:]]))

    rows = sample(list(first.values()), key=text, limit=limit, seed=seed)
    texts = [text(row) for row in rows]
    return _queries(coded, [whole[row] for row in rows], wanted[rows], texts, texts)


def attribute_queries(
    coded: CodedCatalogue, *, limit: int, seed: int, among: Sequence[int] | None = None
) -> Queries:
    """Each combination "value kind" there is, as "blue dress", for every attribute."""
    first: dict[str, tuple[int, Codes]] = {}
    for index in _among(coded, among):
        item, code = coded.catalogue.items[index], coded.codes[index]
        for column, name in enumerate(coded.names, start=1):
            value = item.attributes.get(name, "")
            if value and item.label:
                requirement = coded.nothing()
                requirement[0], requirement[column] = code[0], code[column]
                key = f"{name}: {value.lower()} {item.label.lower()}"
                first.setdefault(key, (index, requirement))
    return _short(coded, first, limit=limit, seed=seed)


def value_queries(
    coded: CodedCatalogue,
    column: int,
    *,
    limit: int,
    seed: int,
    among: Sequence[int] | None = None,
) -> Queries:
    """Each value of one column as a query of its own: "dress", or "blue"."""
    first: dict[str, tuple[int, Codes]] = {}
    name = coded.names[column - 1] if column else "kind"
    for index in _among(coded, among):
        item = coded.catalogue.items[index]
        value = item.attributes.get(name, "") if column else item.label
        if value:
            requirement = coded.nothing()
            requirement[column] = coded.codes[index, column]
            first.setdefault(f"{name}: {value.lower()}", (index, requirement))
    return _short(coded, first, limit=limit, seed=seed)


def sample(entries: Iterable[T], *, key: Callable[[T], str], limit: int, seed: int) -> list[T]:
    """At most `limit` entries, chosen by a hash of their keys and in its order.

    Whether an entry is chosen hardly depends on the others: a catalogue that has grown a little is
    asked nearly the same.
    """
    salt = str(seed).encode()

    def rank(entry: T) -> bytes:
        text = key(entry).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=8, salt=salt).digest()

    return sorted(entries, key=rank)[:limit]


def _short(
    coded: CodedCatalogue, first: dict[str, tuple[int, Codes]], *, limit: int, seed: int
) -> Queries:
    keys = sample(list(first), key=lambda each: each, limit=limit, seed=seed)
    wanted = [first[key][1] for key in keys]
    texts = [key.partition(": ")[2] for key in keys]
    stacked = np.stack(wanted) if wanted else np.zeros((0, len(coded.nothing())), np.int64)
    queries = _queries(coded, [first[key][0] for key in keys], stacked, keys, texts)
    # What a short query asks for has nothing to do with the design it was first seen at.
    return Queries(queries.products, queries.wanted, keys, keys, texts)


def _queries(
    coded: CodedCatalogue, chosen: list[int], wanted: Codes, keys: list[str], texts: list[str]
) -> Queries:
    items = coded.catalogue.items
    units = [f"group:{items[i].group}" if items[i].group else f"id:{items[i].id}" for i in chosen]
    return Queries(np.array(chosen, dtype=np.int64), wanted, keys, units, texts)


def _asking(coded: CodedCatalogue, chosen: list[int], columns: list[int]) -> Codes:
    wanted = np.tile(coded.nothing(), (len(chosen), 1))
    if chosen:
        wanted[:, columns] = coded.codes[chosen][:, columns]
    return wanted


def _among(coded: CodedCatalogue, among: Sequence[int] | None) -> Sequence[int]:
    return range(len(coded.codes)) if among is None else among
