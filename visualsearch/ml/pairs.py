"""Draws batches of training examples: photos, texts that describe them, and "like this but…" pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from visualsearch.ml import phrases
from visualsearch.ml.cluster_queue import Queue
from visualsearch.ml.clusters import Cluster, clusters
from visualsearch.ml.coding import MISSING, CodedCatalogue, Codes, fulfils
from visualsearch.ml.descriptive_texts import text_of, texts_of
from visualsearch.ml.hard_negatives import Nearest


def modification_of(
    coded: CodedCatalogue,
    reference: int,
    target: int,
    *,
    by: Literal["group", "kind", "title"],
    rng: np.random.Generator,
) -> tuple[str, Codes] | None:
    """The sentence that leads from one product to another, and what fulfils it.

    None if the two differ in no attribute, or by title in nothing. Within a group every product of
    it with the asked attribute is right; within a kind only one that equals the target in every
    attribute; by title every one of the target's title.
    """
    if by == "title":
        return _changed_word(coded, reference, target, rng)
    before, after = coded.codes[reference], coded.codes[target]
    names = [
        name
        for column, name in enumerate(coded.names, start=1)
        if before[column] != after[column] and after[column] != MISSING
    ]
    if not names:
        return None
    wanted = coded.nothing()
    if by == "group":
        # The first differing attribute is the colour where it differs: what variants differ in.
        pick = 0 if rng.random() < 0.7 else int(rng.integers(len(names)))
        asked = [names[pick]]
        wanted[coded.group_column] = after[coded.group_column]
    else:
        asked = names[:2]
        wanted[0] = after[0]
        wanted[coded.attribute_columns] = after[coded.attribute_columns]
    sentences = []
    old_values = coded.catalogue.items[reference].attributes
    new_values = coded.catalogue.items[target].attributes
    for name in asked:
        column = 1 + coded.names.index(name)
        wanted[column] = after[column]
        old = old_values.get(name, "")
        sentences.append(phrases.modification(name, old=old, new=new_values[name], rng=rng))
    return phrases.join(sentences), wanted


def _changed_word(
    coded: CodedCatalogue, reference: int, target: int, rng: np.random.Generator
) -> tuple[str, Codes] | None:
    before, after = coded.title(reference).split(), coded.title(target).split()
    changed = [(old, new) for old, new in zip(before, after, strict=False) if old != new]
    if len(before) != len(after) or len(changed) != 1:
        return None
    wanted = coded.nothing()
    wanted[coded.title_column] = coded.codes[target, coded.title_column]
    old, new = changed[0]
    return phrases.changed_word(old=old, new=new, rng=rng), wanted


def _no_rows() -> npt.NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


def _no_masks() -> npt.NDArray[np.bool_]:
    return np.zeros((0, 0), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's examples. Rows index the B products of the batch unless said otherwise."""

    products: npt.NDArray[np.int64]
    # [B] indices into the catalogue; the last `views` repeat earlier ones, shown a second time
    images: npt.NDArray[np.int64]
    # [B] rows of the pixels
    wild: npt.NDArray[np.bool_]
    # [B] rows that are to be shown as a phone photo
    repeats: npt.NDArray[np.int64] = field(default_factory=_no_rows)
    # [V] for each of the last V rows, the row that shows the same product
    texts: list[str] = field(default_factory=list)
    text_rows: npt.NDArray[np.int64] = field(default_factory=_no_rows)
    # [T] the product that each text describes
    text_right: npt.NDArray[np.bool_] = field(default_factory=_no_masks)
    # [T, B] every product that the text describes
    modifications: list[str] = field(default_factory=list)
    references: npt.NDArray[np.int64] = field(default_factory=_no_rows)
    targets: npt.NDArray[np.int64] = field(default_factory=_no_rows)
    # [M] each
    target_right: npt.NDArray[np.bool_] = field(default_factory=_no_masks)
    # [M, B] every product that fulfils the modification; never the reference
    triplets: npt.NDArray[np.int64] = field(default_factory=_no_rows)
    # [T, 3] query, positive and negative, of a batch that is made of them; else empty


def batches(
    coded: CodedCatalogue,
    *,
    size: int,
    second_views: float,
    kind_pairs: float,
    title_pairs: float = 0.0,
    wild_views: float = 0.0,
    wild_photos: float = 0.0,
    reads_text: bool = True,
    two_texts: bool = False,
    hard_negatives: float = 0.0,
    nearest: Nearest | None = None,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Batches without end; every product comes once before any comes twice.

    `kind_pairs` and `title_pairs` are those of `clusters`. A share `wild_views` of the second views
    and `wild_photos` of the others are to be shown as phone photos. Without `reads_text` there are
    neither texts nor modifications; with `two_texts` those of `texts_of`. `hard_negatives` and
    `nearest` are those of `Queue`.
    """
    views = int(size * second_views) if size >= 8 else 0
    queue = Queue(
        lambda: clusters(coded, rng, kind_pairs=kind_pairs, title_pairs=title_pairs),
        hard_negatives=hard_negatives,
        nearest=nearest,
    )
    while True:
        chosen = queue.take(size - views)
        yield make_batch(
            coded,
            chosen,
            views=views,
            wild_views=wild_views,
            wild_photos=wild_photos,
            reads_text=reads_text,
            two_texts=two_texts,
            rng=rng,
        )


def make_batch(
    coded: CodedCatalogue,
    chosen: Sequence[Cluster],
    *,
    views: int,
    wild_views: float = 0.0,
    wild_photos: float = 0.0,
    reads_text: bool = True,
    two_texts: bool = False,
    rng: np.random.Generator,
) -> Batch:
    """Texts, modifications and the masks of what is right, for some clusters of products."""
    first = np.array([index for cluster in chosen for index in cluster.members], dtype=np.int64)
    repeats = rng.permutation(len(first))[:views]
    products = np.concatenate([first, first[repeats]])
    images = [photo(coded, int(index), rng) for index in first]
    images += [other_photo(coded, int(first[row]), images[row], rng) for row in repeats]
    wild = np.zeros(len(products), dtype=bool)
    if wild_views:
        wild[len(first) :] = rng.random(len(repeats)) < wild_views
    if wild_photos:
        wild[: len(first)] = rng.random(len(first)) < wild_photos
    rows = np.array(images, dtype=np.int64)
    if not reads_text:
        return Batch(products=products, images=rows, wild=wild, repeats=repeats)
    codes = coded.codes[products]
    described = [
        (row, *pair)
        for row, index in enumerate(first.tolist())
        for pair in _texts(coded, index, rng, two=two_texts)
    ]
    asked = list(_modifications(coded, chosen, rng))
    references = np.array([entry[0] for entry in asked], dtype=np.int64)
    targets = np.array([entry[1] for entry in asked], dtype=np.int64)
    target_right = _right([entry[3] for entry in asked], codes)
    # The reference itself never is what was asked for, whatever its attributes say.
    target_right &= products[None, :] != products[references][:, None]
    return Batch(
        products=products,
        images=rows,
        wild=wild,
        repeats=repeats,
        texts=[text for _, text, _ in described],
        text_rows=np.array([row for row, _, _ in described], dtype=np.int64),
        text_right=_right([wanted for _, _, wanted in described], codes),
        modifications=[entry[2] for entry in asked],
        references=references,
        targets=targets,
        target_right=target_right,
    )


def _texts(
    coded: CodedCatalogue, index: int, rng: np.random.Generator, *, two: bool
) -> list[tuple[str, Codes]]:
    if two:
        return texts_of(coded, index, rng)
    text = text_of(coded, index, rng)
    return [] if text is None else [text]


def _modifications(
    coded: CodedCatalogue, chosen: Sequence[Cluster], rng: np.random.Generator
) -> Iterator[tuple[int, int, str, Codes]]:
    start = 0
    for cluster in chosen:
        count = len(cluster.members)
        for offset, reference in enumerate(cluster.members):
            if count == 1:
                continue
            # Any other member, each as likely: so that reverse queries come as often.
            other = (offset + int(rng.integers(1, count))) % count
            asked = modification_of(
                coded, reference, cluster.members[other], by=cluster.by, rng=rng
            )
            if asked is not None:
                yield start + offset, start + other, *asked
        start += count


def _right(requirements: list[Codes], codes: Codes) -> npt.NDArray[np.bool_]:
    if not requirements:
        return np.zeros((0, len(codes)), dtype=bool)
    return fulfils(np.stack(requirements), codes)


def photo(coded: CodedCatalogue, index: int, rng: np.random.Generator) -> int:
    """One of the product's photos, as a row of the pixels."""
    images = coded.catalogue.items[index].images
    return images[int(rng.integers(len(images)))]


def other_photo(coded: CodedCatalogue, index: int, image: int, rng: np.random.Generator) -> int:
    """Another photo of the product than `image`, or `image` where it has no other."""
    others = [other for other in coded.catalogue.items[index].images if other != image]
    return others[int(rng.integers(len(others)))] if others else image
