"""A catalogue's properties as integers, and requirements on them: what a text or a wish asks for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from visualsearch.ml.data import Catalogue, attribute_values
from visualsearch.ml.title_families import Member, normalised, one_word_apart

Codes = npt.NDArray[np.int64]

ANY = -2
"""A requirement's value for "does not matter"."""
MISSING = -1


class CodedCatalogue:
    """A catalogue's labels, attributes, texts and groups as small integers.

    One column a property: kind, then the attributes, then title, description and group. A
    *requirement* is a row of the same length: a value per column, or ANY. What a text or a
    modification asks for is such a row, and which products fulfil it is one comparison.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.values = attribute_values(catalogue)
        self.names = list(self.values)
        items = catalogue.items
        columns = [_code([item.label for item in items])]
        columns += [_code([item.attributes.get(name, "") for item in items]) for name in self.names]
        self.title_column = len(columns)
        columns.append(_code([item.texts[0].casefold() if item.texts else "" for item in items]))
        columns.append(_code([" ".join(item.texts[1:]).casefold() for item in items]))
        columns.append(_code([item.group for item in items]))
        self.codes: Codes = np.stack(columns, axis=1)

    @property
    def description_column(self) -> int:
        return self.title_column + 1

    @property
    def group_column(self) -> int:
        return self.title_column + 2

    @property
    def attribute_columns(self) -> slice:
        return slice(1, 1 + len(self.names))

    def has_title(self, index: int) -> bool:
        """Whether product `index` has a title."""
        return bool(self.codes[index, self.title_column] != MISSING)

    def title(self, index: int) -> str:
        """The title of product `index` as titles are compared; empty if it has none."""
        texts = self.catalogue.items[index].texts
        return normalised(texts[0]) if texts else ""

    def value_names(self, column: int) -> list[str]:
        """The values of a column, kind (0) or attribute, by their code, as queries name them."""
        found: dict[int, str] = {}
        for item, code in zip(self.catalogue.items, self.codes[:, column].tolist(), strict=True):
            if code != MISSING and code not in found:
                value = item.attributes[self.names[column - 1]] if column else item.label
                found[code] = value.lower()
        return [found[code] for code in range(len(found))]

    @cached_property
    def title_families(self) -> dict[str, list[Member]]:
        """The titles that differ in one word."""
        titles = (self.title(index) for index in range(len(self.codes)))
        return one_word_apart(dict.fromkeys(title for title in titles if title))

    def has_more_texts(self, index: int) -> bool:
        """Whether it has texts beside the title."""
        return bool(self.codes[index, self.description_column] != MISSING)

    def is_described(self, index: int) -> bool:
        """Whether it has a kind or an attribute."""
        return bool((self.codes[index, : self.title_column] != MISSING).any())

    def nothing(self) -> Codes:
        """A requirement that every product fulfils."""
        return np.full(self.codes.shape[1], ANY, dtype=np.int64)


def fulfils(requirements: Codes, codes: Codes) -> npt.NDArray[np.bool_]:
    """bool [Q, N]: which products (codes [N, C]) fulfil which requirements ([Q, C])."""
    result = np.ones((len(requirements), len(codes)), dtype=bool)
    for column in range(codes.shape[1]):
        wanted = requirements[:, column]
        asked = wanted != ANY
        result[asked] &= wanted[asked, None] == codes[None, :, column]
    return result


def _code(values: Sequence[str]) -> Codes:
    """Integers for equal strings, in the order of appearance; empty is MISSING."""
    known: dict[str, int] = {}
    return np.array(
        [MISSING if not value else known.setdefault(value, len(known)) for value in values],
        dtype=np.int64,
    )
