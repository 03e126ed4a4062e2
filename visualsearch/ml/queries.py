"""The query sets of an evaluation: fixed by the catalogue and a seed, with what is right for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visualsearch.ml import phrases
from visualsearch.ml.coding import ANY, MISSING, CodedCatalogue, fulfils

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TextQueries:
    """Q texts and the products that each describes."""

    texts: list[str]
    right: Bools
    # [Q, N]


@dataclass(frozen=True)
class ComposedQueries:
    """Q references with a modification, and the products that fulfil it."""

    references: npt.NDArray[np.int64]
    texts: list[str]
    right: Bools
    # [Q, N]; never the reference
    groups: list[str]
    attribute: str


def title_queries(coded: CodedCatalogue, *, limit: int, seed: int) -> TextQueries:
    """Each distinct title once; right is every product of that title."""
    column = coded.codes[:, coded.title_column]
    _, first = np.unique(column, return_index=True)
    chosen = _sample([int(i) for i in first if column[i] != MISSING], limit=limit, seed=seed)
    texts = [coded.catalogue.items[i].texts[0] for i in chosen]
    return TextQueries(texts, column[chosen][:, None] == column[None, :])


def full_text_queries(
    coded: CodedCatalogue, attribute: str, *, limit: int, seed: int
) -> TextQueries:
    """Title, value of `attribute` and description of products; right shares all of them.

    Descriptions are often shared by all colours of a design, so the colour is part of the query.
    """
    wanted: list[np.ndarray] = []
    texts: list[str] = []
    items = coded.catalogue.items
    whole = [i for i, item in enumerate(items) if len(item.texts) > 1]
    seen: set[bytes] = set()
    for index in _sample(whole, limit=len(whole), seed=seed):
        item, code = items[index], coded.codes[index]
        requirement = coded.nothing()
        requirement[coded.title_column] = code[coded.title_column]
        requirement[coded.description_column] = code[coded.description_column]
        if attribute:
            column = 1 + coded.names.index(attribute)
            # A product without the value asks for none: the text can't say what is missing.
            requirement[column] = code[column] if code[column] != MISSING else ANY
        if requirement.tobytes() in seen or len(texts) >= limit:
            continue
        seen.add(requirement.tobytes())
        value = item.attributes.get(attribute, "").lower()
        texts.append(" ".join(filter(None, [value, item.texts[0], *item.texts[1:]])))
        wanted.append(requirement)
    return TextQueries(texts, _right(wanted, coded))


def attribute_queries(coded: CodedCatalogue, *, limit: int, seed: int) -> TextQueries:
    """Each combination "value kind" there is, as "blue dress", for the first attributes."""
    wanted: dict[bytes, tuple[str, np.ndarray]] = {}
    for item, code in zip(coded.catalogue.items, coded.codes, strict=True):
        for column, name in enumerate(coded.names, start=1):
            value = item.attributes.get(name, "")
            if not value or not item.label:
                continue
            requirement = coded.nothing()
            requirement[0], requirement[column] = code[0], code[column]
            text = f"{value.lower()} {item.label.lower()}"
            wanted.setdefault(requirement.tobytes(), (text, requirement))
    entries = list(wanted.values())
    chosen = [entries[i] for i in _sample(list(range(len(entries))), limit=limit, seed=seed)]
    return TextQueries([text for text, _ in chosen], _right([row for _, row in chosen], coded))


def variant_attributes(coded: CodedCatalogue) -> list[str]:
    """The attributes in which products of a group differ, the most frequent difference first.

    Among equals the first wins; a finer attribute (48 colours) beats its coarser sister.
    """
    counts = np.zeros(len(coded.names))
    for members in _groups(coded).values():
        codes = coded.codes[members][:, coded.attribute_columns]
        counts += (codes[:, None] != codes[None]).sum(axis=(0, 1))
    order = np.argsort(-counts, kind="stable")
    return [coded.names[i] for i in order if counts[i] > 0]


def composed_queries(
    coded: CodedCatalogue, attribute: str, *, limit: int, seed: int
) -> ComposedQueries:
    """Every product of a group asked for in every other value of `attribute` its group has."""
    column = 1 + coded.names.index(attribute)
    entries: list[tuple[int, int, int]] = []
    for group, members in _groups(coded).items():
        for reference in members:
            others = set(coded.codes[members, column].tolist()) - {
                int(coded.codes[reference, column]),
                MISSING,
            }
            entries += [(reference, value, group) for value in sorted(others)]
    entries = [entries[i] for i in _sample(list(range(len(entries))), limit=limit, seed=seed)]
    items = coded.catalogue.items
    name_of = {
        int(code): item.attributes[attribute]
        for item, code in zip(items, coded.codes[:, column], strict=True)
        if code != MISSING
    }
    references = np.array([reference for reference, _, _ in entries], dtype=np.int64)
    groups = np.array([group for _, _, group in entries], dtype=np.int64)
    values = np.array([value for _, value, _ in entries], dtype=np.int64)
    right = (groups[:, None] == coded.codes[None, :, coded.group_column]) & (
        values[:, None] == coded.codes[None, :, column]
    )
    right[np.arange(len(references)), references] = False
    texts = [
        phrases.plain_modification(
            attribute, old=items[reference].attributes.get(attribute, ""), new=name_of[value]
        )
        for reference, value, _ in entries
    ]
    return ComposedQueries(references, texts, right, [str(g) for g in groups], attribute)


def joined(sets: list[ComposedQueries]) -> ComposedQueries:
    """Several sets as one."""
    return ComposedQueries(
        np.concatenate([part.references for part in sets]),
        [text for part in sets for text in part.texts],
        np.concatenate([part.right for part in sets]),
        [group for part in sets for group in part.groups],
        "any attribute",
    )


def _groups(coded: CodedCatalogue) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for index, group in enumerate(coded.codes[:, coded.group_column].tolist()):
        if group != MISSING:
            groups.setdefault(group, []).append(index)
    return {group: members for group, members in groups.items() if len(members) > 1}


def _right(wanted: list[np.ndarray], coded: CodedCatalogue) -> Bools:
    if not wanted:
        return np.zeros((0, len(coded.codes)), dtype=bool)
    return fulfils(np.stack(wanted), coded.codes)


def _sample(indices: list[int], *, limit: int, seed: int) -> list[int]:
    order = np.random.default_rng(seed).permutation(len(indices))[:limit]
    return [indices[i] for i in order]
