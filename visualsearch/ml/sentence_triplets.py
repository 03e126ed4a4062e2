"""Draws batches of the catalogue's own triplets: a photo, what somebody wrote, and the photo meant."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from visualsearch.ml import phrases
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Triplet
from visualsearch.ml.pairs import Batch, photo


def with_triplets(
    coded: CodedCatalogue, own: Iterator[Batch], *, size: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Batches of triplets in turn with `own` ones, which texts and attributes give.

    Where no product has a text or an attribute, all of them are of triplets.
    """
    asked = triplet_sentence_batches(coded, size=size, rng=rng)
    described = any(item.texts or item.attributes for item in coded.catalogue.items)
    while True:
        if described:
            yield next(own)
        yield next(asked)


def triplet_sentence_batches(
    coded: CodedCatalogue, *, size: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Batches of at most `size` photos without end; every triplet comes once before any twice.

    Targets within a batch differ, since losses count the other targets as wrong; references may
    be shared, and one product may be the reference of one triplet and the target of another.
    """
    triplets = coded.catalogue.triplets
    queue: deque[int] = deque()
    while True:
        chosen: list[Triplet] = []
        products: dict[int, None] = {}
        targets: set[int] = set()
        later: list[int] = []
        refilled = False
        while len(products) + 2 <= size:
            if not queue:
                if refilled:
                    break
                refilled = True
                queue.extend(rng.permutation(len(triplets)).tolist())
            place = queue.popleft()
            triplet = triplets[place]
            if triplet.target in targets:
                later.append(place)
                continue
            targets.add(triplet.target)
            chosen.append(triplet)
            products |= dict.fromkeys((triplet.reference, triplet.target))
        queue.extendleft(reversed(later))
        yield _batch(coded, chosen, list(products), rng)


def _batch(
    coded: CodedCatalogue, chosen: list[Triplet], products: list[int], rng: np.random.Generator
) -> Batch:
    rows = {product: row for row, product in enumerate(products)}
    targets = np.array([rows[each.target] for each in chosen], dtype=np.int64)
    return Batch(
        products=np.array(products, dtype=np.int64),
        images=np.array([photo(coded, index, rng) for index in products], dtype=np.int64),
        wild=np.zeros(len(products), dtype=bool),
        modifications=[sentence_of(each, rng) for each in chosen],
        references=np.array([rows[each.reference] for each in chosen], dtype=np.int64),
        targets=targets,
        target_right=targets[:, None] == np.arange(len(products))[None, :],
        text_right=np.zeros((0, len(products)), dtype=bool),
    )


def sentence_of(triplet: Triplet, rng: np.random.Generator) -> str:
    """All sentences of a triplet as one, in any order: "is blue and has longer sleeves"."""
    order = rng.permutation(len(triplet.sentences))
    return phrases.join([triplet.sentences[i] for i in order])
