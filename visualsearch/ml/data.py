"""A catalogue in memory: products with their texts, groups and attributes, and one array of pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from visualsearch.exceptions import NotEnoughDataError

MIN_PRODUCTS = 8


@dataclass(frozen=True, kw_only=True)
class Item:
    """One product as training and evaluation see it."""

    id: str
    images: tuple[int, ...]
    # rows of the catalogue's pixels
    texts: tuple[str, ...] = ()
    # the first is the title
    label: str = ""
    # what counts as the same kind; empty: unknown
    group: str = ""
    # variants of one design; empty: the product stands alone
    attributes: Mapping[str, str] = field(default_factory=dict)
    # what "like this but…" may change; empty values are left out
    side: Literal["", "train", "holdout"] = ""
    # of the split, where the data set says so; empty: decided by `split`


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """A product, sentences that people wrote about another one seen beside it, and that other one."""

    reference: int
    target: int
    # places in the catalogue's items
    sentences: tuple[str, ...]
    # in any order, all of them true


@dataclass(frozen=True)
class Catalogue:
    """Products and their decoded images."""

    items: Sequence[Item]
    pixels: npt.NDArray[np.uint8]
    # uint8 [N, S, S, 3]; may be a memory map
    triplets: Sequence[Triplet] = ()
    # sentences to train composition on, beside those that attributes give
    apart: Sequence[tuple[int, int]] = ()
    # places of two products that people say are not similar: hard examples

    def subset(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Catalogue:
        """The products at `indices`; the pixels are shared, not copied.

        Triplets and pairs stay where both their products do.
        """
        named = self.triplets or self.apart
        places = {int(old): new for new, old in enumerate(indices)} if named else {}
        triplets = [
            replace(each, reference=places[each.reference], target=places[each.target])
            for each in self.triplets
            if each.reference in places and each.target in places
        ]
        apart = [(places[a], places[b]) for a, b in self.apart if a in places and b in places]
        return Catalogue([self.items[i] for i in indices], self.pixels, triplets, apart)

    @property
    def image_size(self) -> int:
        return int(self.pixels.shape[1])


@dataclass(frozen=True)
class Split:
    """Two catalogues with no group in common."""

    train: Catalogue
    holdout: Catalogue


def split(catalogue: Catalogue, *, holdout: float = 0.2, seed: int = 0) -> Split:
    """Splits by group: variants of one design never stand on both sides.

    The side is a hash of the group's name (of the product's id where it has no group), so a group
    stays on its side when the catalogue grows, and figures of two runs compare. A product whose
    `side` is given stands there.
    """
    kept: list[int] = []
    held: list[int] = []
    for index, item in enumerate(catalogue.items):
        name = f"group:{item.group}" if item.group else f"id:{item.id}"
        decided = item.side == "holdout" if item.side else _fraction(name, seed=seed) < holdout
        (held if decided else kept).append(index)
    return Split(catalogue.subset(kept), catalogue.subset(held))


def _fraction(name: str, *, seed: int) -> float:
    """`name` hashed to [0, 1)."""
    digest = hashlib.blake2b(
        name.encode("utf-8", "surrogatepass"), digest_size=8, salt=str(seed).encode()
    ).digest()
    return int.from_bytes(digest, "big") / 2**64


def check_enough(catalogue: Catalogue, *, reads_text: bool = True) -> None:
    """Raises NotEnoughDataError where nothing could be learned; `reads_text`: from texts, too."""
    if len(catalogue.items) < MIN_PRODUCTS:
        raise NotEnoughDataError(
            f"The catalogue has {len(catalogue.items)} products with a readable image; training "
            f"needs at least {MIN_PRODUCTS}. Add products, or photos to those that have none."
        )
    blank = [item.id for item in catalogue.items if not item.images]
    if blank:
        raise NotEnoughDataError(
            f"{len(blank)} products have no photo, such as {blank[0]!r}: leave them out, or add one."
        )
    groups = {item.group for item in catalogue.items}
    if len(groups) == 1 and "" not in groups:
        raise NotEnoughDataError(
            f"All {len(catalogue.items)} products are of the group {groups.pop()!r}, so none can be "
            "held out to judge by. Give the field that names a design, not the shop, as group_field."
        )
    if reads_text and not catalogue.triplets:
        _check_words(catalogue)
    rows = [item.images[0] for item in catalogue.items[:256]]
    sample = catalogue.pixels[rows]
    if (sample == sample[0]).all():
        raise NotEnoughDataError(
            "All product photos of the catalogue are the same picture. Replace the placeholder by "
            "real photos before training."
        )


def _check_words(catalogue: Catalogue) -> None:
    fault = ""
    if not any(item.texts or item.attributes for item in catalogue.items):
        fault = "No product of the catalogue has a text or an attribute"
    elif (
        len({(i.texts, i.label, tuple(sorted(i.attributes.items()))) for i in catalogue.items}) == 1
    ):
        fault = "All products of the catalogue have the same texts and attributes"
    if fault:
        raise NotEnoughDataError(
            f"{fault}, so there is nothing to learn from. Give text_fields or attribute_fields in "
            "your VisualIndex."
        )


def attribute_values(catalogue: Catalogue) -> dict[str, list[str]]:
    """Attribute name -> its values, sorted; names in the order of first appearance."""
    values: dict[str, set[str]] = {}
    for item in catalogue.items:
        for name, value in item.attributes.items():
            if value:
                values.setdefault(name, set()).add(value)
    return {name: sorted(found) for name, found in values.items()}
