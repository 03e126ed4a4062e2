"""Products that are drawn together: variants of one design, neighbours of one kind, titles a word apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from visualsearch.ml.coding import MISSING, CodedCatalogue, Codes

CLUSTER = 4
"""At most so many variants of one design in a batch."""
JUDGED = 0.5
"""How often two products that people told apart are drawn together, each the other's hard negative."""


@dataclass(frozen=True)
class Cluster:
    """A few products that are variants of each other."""

    members: tuple[int, ...]
    by: Literal["group", "kind", "title"]
    """What they share: of a title all words but one."""


def clusters(
    coded: CodedCatalogue,
    rng: np.random.Generator,
    *,
    kind_pairs: float,
    title_pairs: float = 0.0,
) -> list[Cluster]:
    """Every product once, beside variants of its design or, for some, of its kind or its title.

    kind_pairs: share of the groups whose products are paired by kind. title_pairs: share of the
    products without a cluster of their group that are paired by title, as far as titles allow.
    """
    found = list(_told_apart(coded, rng))
    taken = {index for cluster in found for index in cluster.members}
    groups: dict[int, list[int]] = {}
    alone: list[int] = []
    for index, group in enumerate(coded.codes[:, coded.group_column].tolist()):
        if index in taken:
            continue
        if group == MISSING:
            alone.append(index)
        else:
            groups.setdefault(group, []).append(index)
    for members in groups.values():
        if len(members) == 1 or rng.random() < kind_pairs:
            alone.extend(members)
            continue
        order = [members[i] for i in rng.permutation(len(members))]
        parts = -(-len(order) // CLUSTER)
        for part in range(parts):
            found.append(Cluster(tuple(order[part::parts]), "group"))
    if title_pairs:
        chosen = [index for index in alone if rng.random() < title_pairs]
        by_title = list(_title_pairs(coded, chosen, rng))
        paired = {index for cluster in by_title for index in cluster.members}
        alone = [index for index in alone if index not in paired]
        found.extend(by_title)
    found.extend(_kind_pairs(coded, np.array(alone, dtype=np.int64), rng))
    return [found[i] for i in rng.permutation(len(found))]


def _told_apart(coded: CodedCatalogue, rng: np.random.Generator) -> Iterator[Cluster]:
    """Pairs that people say are not similar; not those of one design, which are right all the same."""
    groups = coded.codes[:, coded.group_column]
    taken: set[int] = set()
    for number in rng.permutation(len(coded.catalogue.apart)) if coded.catalogue.apart else ():
        one, other = coded.catalogue.apart[number]
        is_one_design = groups[one] == groups[other] != MISSING
        if is_one_design or taken & {one, other} or rng.random() >= JUDGED:
            continue
        taken |= {one, other}
        yield Cluster((one, other), "kind")


def _kind_pairs(
    coded: CodedCatalogue, alone: npt.NDArray[np.int64], rng: np.random.Generator
) -> Iterator[Cluster]:
    """Pairs products of one kind that differ in as few attributes as possible, but in one."""
    alone = rng.permutation(alone)
    labels = coded.codes[alone, 0]
    for label in np.unique(labels):
        members = alone[labels == label]
        for start in range(0, len(members), 64):
            block = members[start : start + 64]
            attributes = coded.codes[block, coded.attribute_columns]
            distance = (attributes[:, None] != attributes[None]).sum(axis=2)
            yield from _nearest_first(block, distance)


def _nearest_first(block: npt.NDArray[np.int64], distance: Codes) -> Iterator[Cluster]:
    distance = np.where(distance == 0, 999, distance)
    free = np.ones(len(block), dtype=bool)
    for row in range(len(block)):
        if not free[row]:
            continue
        free[row] = False
        options = np.where(free, distance[row], 1_000)
        partner = int(options.argmin()) if len(options) else 0
        if options[partner] >= 999:
            yield Cluster((int(block[row]),), "kind")
            continue
        free[partner] = False
        yield Cluster((int(block[row]), int(block[partner])), "kind")


def _title_pairs(
    coded: CodedCatalogue, chosen: Sequence[int], rng: np.random.Generator
) -> Iterator[Cluster]:
    """Pairs products whose titles differ in one word, each product at most once."""
    free: dict[str, list[int]] = {}
    for index in rng.permutation(chosen).astype(np.int64).tolist():
        if title := coded.title(index):
            free.setdefault(title, []).append(index)
    families = coded.title_families
    names = list(families)
    for place in rng.permutation(len(names)):
        # Products of one title are equally good partners: the first one that is left.
        titles = [title for _, title in families[names[place]] if free.get(title)]
        while len(titles) > 1:
            titles = [titles[i] for i in rng.permutation(len(titles))]
            for one, other in zip(titles[::2], titles[1::2], strict=False):
                yield Cluster((free[one].pop(), free[other].pop()), "title")
            titles = [title for title in titles if free[title]]
