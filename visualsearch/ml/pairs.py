"""Draws training examples from a catalogue: texts, and "like this but…" pairs of its products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from visualsearch.ml import phrases
from visualsearch.ml.coding import MISSING, CodedCatalogue, Codes, fulfils

CLUSTER = 4
"""At most so many variants of one design in a batch."""
WITHOUT_TITLE, OF_ATTRIBUTES = 0.6, 0.7
"""Shares of the texts of products that have a title and attributes: without the title, and of those
made of attributes instead of a piece of the description."""
WHOLE_TITLE, SHORTENED_TITLE = 0.5, 0.25
"""Shares of the texts with a title: just as it is, with words left out; else with attributes."""


def text_of(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> tuple[str, Codes] | None:
    """A text that describes product `index`, and what a product must be for it to be right.

    Title, title with words dropped, attributes ("blue dress"), a piece of the description, all of
    it: so that whole titles and two-word queries both work. None for a product without any text.
    """
    with_title = coded.has_title(index)
    without = coded.is_described(index) or coded.has_more_texts(index)
    if without and (not with_title or rng.random() < WITHOUT_TITLE):
        return _text_without_title(coded, index, rng)
    return _text_with_title(coded, index, rng) if with_title else None


def texts_of(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> list[tuple[str, Codes]]:
    """A text with the product's title and one without it, as far as it has both; see `text_of`."""
    found = []
    if coded.has_title(index):
        found.append(_text_with_title(coded, index, rng))
    if coded.is_described(index) or coded.has_more_texts(index):
        found.append(_text_without_title(coded, index, rng))
    return found


def _text_with_title(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> tuple[str, Codes]:
    title, wanted = coded.catalogue.items[index].texts[0], coded.nothing()
    form = rng.random()
    if form >= WHOLE_TITLE + SHORTENED_TITLE and coded.is_described(index):
        text, wanted = _attribute_text(coded, index, rng)
        title = f"{title} {text}"
    elif form >= WHOLE_TITLE:
        title = phrases.drop_words(title, rng)
    wanted[coded.title_column] = coded.codes[index, coded.title_column]
    return title, wanted


def _text_without_title(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> tuple[str, Codes]:
    described = coded.is_described(index)
    if described and (not coded.has_more_texts(index) or rng.random() < OF_ATTRIBUTES):
        return _attribute_text(coded, index, rng)
    wanted = coded.nothing()
    wanted[coded.description_column] = coded.codes[index, coded.description_column]
    rest = " ".join(coded.catalogue.items[index].texts[1:])
    return phrases.piece(rest, rng), wanted


def _attribute_text(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> tuple[str, Codes]:
    item, code, wanted = coded.catalogue.items[index], coded.codes[index], coded.nothing()
    present = [name for name in coded.names if item.attributes.get(name)]
    most = min(3, len(present))
    count = int(rng.integers(0 if item.label else 1, most + 1)) if most else 0
    # The first attribute (the colour, where there is one) is what queries name most often.
    chosen = list(rng.permutation(len(present))[:count])
    if count and 0 not in chosen and rng.random() < 0.5:
        chosen[0] = 0
    names = [present[i] for i in chosen]
    label = item.label if not names or rng.random() < 0.8 else ""
    for name in names:
        column = 1 + coded.names.index(name)
        wanted[column] = code[column]
    if label:
        wanted[0] = code[0]
    return phrases.description({name: item.attributes[name] for name in names}, label, rng), wanted


@dataclass(frozen=True)
class Cluster:
    """A few products that are variants of each other: of one group, or of one kind."""

    members: tuple[int, ...]
    same_group: bool


def modification_of(
    coded: CodedCatalogue,
    reference: int,
    target: int,
    *,
    same_group: bool,
    rng: np.random.Generator,
) -> tuple[str, Codes] | None:
    """The sentence that leads from one product to another, and what fulfils it.

    None if the two differ in no attribute. Within a group every product of it with the asked
    attribute is right; within a kind only one that equals the target in every attribute.
    """
    before, after = coded.codes[reference], coded.codes[target]
    names = [
        name
        for column, name in enumerate(coded.names, start=1)
        if before[column] != after[column] and after[column] != MISSING
    ]
    if not names:
        return None
    wanted = coded.nothing()
    if same_group:
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


def clusters(
    coded: CodedCatalogue, rng: np.random.Generator, *, kind_pairs: float
) -> list[Cluster]:
    """Every product once, beside variants of its design or, for some, of its kind."""
    groups: dict[int, list[int]] = {}
    alone: list[int] = []
    for index, group in enumerate(coded.codes[:, coded.group_column].tolist()):
        if group == MISSING:
            alone.append(index)
        else:
            groups.setdefault(group, []).append(index)
    found: list[Cluster] = []
    for members in groups.values():
        if len(members) == 1 or rng.random() < kind_pairs:
            alone.extend(members)
            continue
        order = [members[i] for i in rng.permutation(len(members))]
        parts = -(-len(order) // CLUSTER)
        for part in range(parts):
            found.append(Cluster(tuple(order[part::parts]), True))
    found.extend(_kind_pairs(coded, np.array(alone, dtype=np.int64), rng))
    return [found[i] for i in rng.permutation(len(found))]


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
            yield Cluster((int(block[row]),), False)
            continue
        free[partner] = False
        yield Cluster((int(block[row]), int(block[partner])), False)


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
    wild_views: float = 0.0,
    reads_text: bool = True,
    two_texts: bool = False,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Batches without end; every product comes once before any comes twice.

    A share `wild_views` of the second views is to be shown as phone photos. Without `reads_text`
    there are neither texts nor modifications; with `two_texts` those of `texts_of`.
    """
    views = int(size * second_views) if size >= 8 else 0
    queue: list[Cluster] = []
    while True:
        chosen: list[Cluster] = []
        room = size - views
        while room > 0:
            if not queue:
                queue = clusters(coded, rng, kind_pairs=kind_pairs)
            cluster = queue.pop()
            if len(cluster.members) > room:
                cluster = Cluster(cluster.members[:room], cluster.same_group)
            chosen.append(cluster)
            room -= len(cluster.members)
        yield make_batch(
            coded,
            chosen,
            views=views,
            wild_views=wild_views,
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
                coded, reference, cluster.members[other], same_group=cluster.same_group, rng=rng
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
