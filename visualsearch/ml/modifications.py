"""The composed queries of an evaluation: a reference, a sentence, and the products it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visualsearch.ml import phrases
from visualsearch.ml.coding import MISSING, CodedCatalogue, Codes, fulfils
from visualsearch.ml.queries import sample
from visualsearch.ml.title_families import one_word_apart

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

PAIRS_A_FAMILY = 12
"""At most so many pairs of one pattern of titles: a brand's name may fit hundreds."""


@dataclass(frozen=True)
class ComposedQueries:
    """Q references with a modification, and what fulfils it."""

    name: str
    # what changes, as it is called in the table
    references: Indices
    wanted: Codes
    # [Q, C] requirements; the reference itself never is right
    texts: list[str]
    before: list[str]
    after: list[str]
    # texts of the reference as it is and as it shall be: T(after) - T(before) is a direction
    keys: list[str]
    units: list[str]
    # groups or title families; figures are macro-averaged over them
    codes: Codes | None = None
    # [N, C] what `wanted` asks of, if not the catalogue's own codes

    def __len__(self) -> int:
        return len(self.keys)

    def right(self, coded: CodedCatalogue) -> Bools:
        """bool [Q, N]: every product that fulfils the modification."""
        right = fulfils(self.wanted, coded.codes if self.codes is None else self.codes)
        right[np.arange(len(self)), self.references] = False
        return right


@dataclass(frozen=True)
class _Entry:
    reference: int
    text: str
    before: str
    after: str
    key: str
    unit: str
    wanted: Codes


def variant_attributes(coded: CodedCatalogue) -> list[str]:
    """The attributes in which products of a group differ, the most frequent difference first.

    Among equals the first wins; a finer attribute (48 colours) beats its coarser sister.
    """
    counts = np.zeros(len(coded.names))
    for members in _groups(coded, None).values():
        codes = coded.codes[members][:, coded.attribute_columns]
        counts += (codes[:, None] != codes[None]).sum(axis=(0, 1))
    order = np.argsort(-counts, kind="stable")
    return [coded.names[i] for i in order if counts[i] > 0]


def variant_queries(
    coded: CodedCatalogue,
    attribute: str,
    *,
    limit: int,
    seed: int,
    among: Sequence[int] | None = None,
) -> ComposedQueries:
    """Every product of a group asked for in every other value of `attribute` its group has."""
    column = 1 + coded.names.index(attribute)
    items = coded.catalogue.items
    entries: list[_Entry] = []
    for members in _groups(coded, among).values():
        values = {
            int(coded.codes[i, column]): items[i].attributes[attribute]
            for i in members
            if coded.codes[i, column] != MISSING
        }
        for reference in members:
            item = items[reference]
            old = item.attributes.get(attribute, "")
            for code, new in values.items():
                if code == coded.codes[reference, column]:
                    continue
                wanted = coded.nothing()
                wanted[coded.group_column] = coded.codes[reference, coded.group_column]
                wanted[column] = code
                text = phrases.plain_modification(attribute, old=old, new=new)
                entries.append(
                    _Entry(
                        reference,
                        text,
                        f"{old} {item.label}".strip().lower(),
                        f"{new} {item.label}".strip().lower(),
                        f"{item.id} | {attribute} | {new}",
                        item.group,
                        wanted,
                    )
                )
    chosen = sample(entries, key=lambda entry: entry.key, limit=limit, seed=seed)
    return _composed(coded, attribute, chosen)


def title_word_queries(
    coded: CodedCatalogue, *, limit: int, seed: int, among: Sequence[int] | None = None
) -> list[ComposedQueries]:
    """Titles that differ in exactly one word: a photo of the one, "blue instead of black".

    Right is every product of the changed title. Two sets: words that are colours of the catalogue,
    and all others. A family is the title without its changing word. This needs no groups.
    """
    products: dict[str, list[int]] = {}
    for index in range(len(coded.codes)) if among is None else among:
        if title := coded.title(index):
            products.setdefault(title, []).append(index)
    families = one_word_apart(products)
    colours = {
        word
        for name, values in coded.values.items()
        if phrases.is_colour(name)
        for value in values
        for word in value.casefold().split()
    }
    entries: tuple[list[_Entry], list[_Entry]] = ([], [])
    for family, members in families.items():
        pairs = [(a, b) for a in members for b in members if a[0] != b[0]]
        for (old, title), (new, changed) in sample(
            pairs, key=lambda pair: f"{pair[0]} {pair[1]}", limit=PAIRS_A_FAMILY, seed=seed
        ):
            reference = min(products[title], key=lambda i: coded.catalogue.items[i].id)
            wanted = coded.nothing()
            wanted[coded.title_column] = coded.codes[products[changed][0], coded.title_column]
            entry = _Entry(
                reference,
                f"{new} instead of {old}",
                title,
                changed,
                f"{title} | {changed}",
                family,
                wanted,
            )
            entries[0 if old in colours and new in colours else 1].append(entry)
    names = ("title colour", "title word")
    return [
        _composed(coded, name, sample(each, key=lambda e: e.key, limit=limit, seed=seed))
        for name, each in zip(names, entries, strict=True)
    ]


def joined(sets: Sequence[ComposedQueries], *, name: str, limit: int, seed: int) -> ComposedQueries:
    """Several sets as one, of at most `limit` queries."""
    places = [(part, row) for part in sets for row in range(len(part))]
    chosen = sample(places, key=lambda place: place[0].keys[place[1]], limit=limit, seed=seed)
    return ComposedQueries(
        name,
        np.array([part.references[row] for part, row in chosen], dtype=np.int64),
        np.stack([part.wanted[row] for part, row in chosen]),
        [part.texts[row] for part, row in chosen],
        [part.before[row] for part, row in chosen],
        [part.after[row] for part, row in chosen],
        [part.keys[row] for part, row in chosen],
        [part.units[row] for part, row in chosen],
    )


def _composed(coded: CodedCatalogue, name: str, entries: Sequence[_Entry]) -> ComposedQueries:
    wanted = [entry.wanted for entry in entries]
    return ComposedQueries(
        name,
        np.array([entry.reference for entry in entries], dtype=np.int64),
        np.stack(wanted) if wanted else np.zeros((0, len(coded.nothing())), np.int64),
        [entry.text for entry in entries],
        [entry.before for entry in entries],
        [entry.after for entry in entries],
        [entry.key for entry in entries],
        [entry.unit for entry in entries],
    )


def _groups(coded: CodedCatalogue, among: Sequence[int] | None) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for index in range(len(coded.codes)) if among is None else among:
        group = int(coded.codes[index, coded.group_column])
        if group != MISSING:
            groups.setdefault(group, []).append(index)
    return {group: members for group, members in groups.items() if len(members) > 1}
