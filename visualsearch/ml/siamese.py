"""Draws triplets of photos: a query, the same product or design, and another one, of its kind or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from visualsearch.exceptions import NotEnoughDataError
from visualsearch.ml.coding import MISSING, CodedCatalogue
from visualsearch.ml.pairs import Batch, other_photo, photo

Indices = npt.NDArray[np.int64]


class Kin:
    """Who shares a kind and who shares a design; products without a kind are a kind of their own."""

    def __init__(self, coded: CodedCatalogue) -> None:
        self.kinds = coded.codes[:, 0]
        self.groups = coded.codes[:, coded.group_column]
        self.everyone = np.arange(len(self.kinds))
        self.of_kind = {kind: self.everyone[self.kinds == kind] for kind in np.unique(self.kinds)}
        designs = np.unique(self.groups)
        self.of_group = {group: self.everyone[self.groups == group] for group in designs}
        if len(designs) == 1 and designs[0] != MISSING:
            raise NotEnoughDataError(
                "All products of the catalogue are of one group, so there is nothing to tell apart. "
                "Check group_field: it names the design that variants share, not the shop."
            )

    def variants(self, index: int) -> Indices:
        """The other products of the design of product `index`."""
        group = int(self.groups[index])
        members = self.of_group[group] if group != MISSING else self.everyone[:0]
        return members[members != index]

    def negative(self, index: int, *, in_class: bool, rng: np.random.Generator) -> int:
        """A product of another design, of the same kind or of another one.

        Where the wanted side has none, one of the other side.
        """
        kind = int(self.kinds[index])
        for inside in (in_class, not in_class):
            pool = self.of_kind[kind] if inside else self.everyone
            # A few at random nearly always hold one; else all are looked at.
            for some in (pool[rng.integers(len(pool), size=8)], pool):
                found = some[((self.kinds[some] == kind) == inside) & ~self._same(index, some)]
                if len(found):
                    return int(found[rng.integers(len(found))])
        raise AssertionError("a catalogue of several designs has a product of another one")

    def _same(self, index: int, others: Indices) -> npt.NDArray[np.bool_]:
        group = self.groups[index]
        return (others == index) | ((group != MISSING) & (self.groups[others] == group))


def triplet_batches(
    coded: CodedCatalogue,
    *,
    size: int,
    in_class_negatives: float,
    wild_views: float,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Batches of `size` // 3 triplets without end; every product is the query once before any twice.

    The positive is another photo of the query's product, another product of its design, or the
    same photo varied once more, each as likely where there is one. A share `wild_views` of the
    queries is to be shown as a phone photo (arXiv 1703.02344 trains on both).
    """
    kin = Kin(coded)
    count = max(1, size // 3)
    queue = np.zeros(0, dtype=np.int64)
    while True:
        while len(queue) < count:
            queue = np.concatenate([queue, rng.permutation(len(coded.codes))])
        queries, queue = queue[:count], queue[count:]
        yield _batch(coded, kin, queries, in_class_negatives, wild_views, rng)


def _batch(
    coded: CodedCatalogue,
    kin: Kin,
    queries: Indices,
    in_class_negatives: float,
    wild_views: float,
    rng: np.random.Generator,
) -> Batch:
    shown = [(int(index), photo(coded, int(index), rng)) for index in queries]
    positives = [_positive(coded, kin, index, image, rng) for index, image in shown]
    in_class = rng.random(len(queries)) < in_class_negatives
    negatives = [
        kin.negative(index, in_class=bool(inside), rng=rng)
        for (index, _), inside in zip(shown, in_class, strict=True)
    ]
    shown += positives
    shown += [(index, photo(coded, index, rng)) for index in negatives]
    wild = np.zeros(len(shown), dtype=bool)
    wild[: len(queries)] = rng.random(len(queries)) < wild_views
    products = np.array([index for index, _ in shown], dtype=np.int64)
    return Batch(
        products=products,
        images=np.array([image for _, image in shown], dtype=np.int64),
        triplets=np.arange(len(shown), dtype=np.int64).reshape(3, -1).T,
        wild=wild,
    )


def _positive(
    coded: CodedCatalogue, kin: Kin, index: int, image: int, rng: np.random.Generator
) -> tuple[int, int]:
    choices = [(index, image)]
    if len(coded.catalogue.items[index].images) > 1:
        choices.append((index, other_photo(coded, index, image, rng)))
    variants = kin.variants(index)
    if len(variants):
        variant = int(variants[rng.integers(len(variants))])
        choices.append((variant, photo(coded, variant, rng)))
    return choices[int(rng.integers(len(choices)))]
