"""Catalogue -> examples to learn from: every product's texts, groups and decoded photos."""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visualsearch import encoding
from visualsearch.conf import get_settings
from visualsearch.exceptions import DiskFullError, ImageError, NotEnoughDataError
from visualsearch.indexes import get_index
from visualsearch.photos.decoding import MAX_FILE_BYTES
from visualsearch.tables import judgements

if TYPE_CHECKING:
    from django.db.models.fields.files import FieldFile

    from visualsearch.ml.data import Catalogue, Item

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of products done and of all."""

SAMPLE = 200
"""Products from whose photos the number of all photos is estimated."""
CHECKPOINT_BYTES = 512 * 1024 * 1024
"""Room that is left for the checkpoint itself."""
READ_AT_A_TIME = 200
PIXELS_NAME = "pixels.u8"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What was found in the catalogue."""

    catalogue: Catalogue
    skipped_images: int
    """Photos that could not be read or decoded."""
    skipped_products: int
    """Products without a photo that could be used."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Numbers of a catalogue, without looking at any photo."""

    products: int
    photos: int
    texts: int
    groups: int
    attributes: tuple[str, ...]
    is_sample: bool
    """Whether all but `products` are estimates from the first products."""


def collect(
    folder: Path, *, size: int, held_out_only: bool = False, progress: Progress | None = None
) -> Examples:
    """Every product in the index, its photos decoded to `size` in a memory map inside `folder`.

    With `held_out_only` only the products that training never sees. A photo that cannot be used
    is left out, and a product without any as well. Raises NotEnoughDataError for an empty index,
    TrainingError when the disk is too small.
    """
    from visualsearch.ml.data import Catalogue

    index = get_index()
    total = index.get_queryset().count()
    if total == 0:
        raise NotEnoughDataError(
            f"There is no {index.model._meta.verbose_name} in the index: add some with photos, or "
            "look at get_queryset() of your VisualIndex."
        )
    check_room(folder, size=size)
    drafts: list[Item] = []
    rows: list[list[int]] = []
    waiting: deque[int] = deque()
    skipped = 0

    def photos() -> Iterator[bytes]:
        nonlocal skipped
        for number, product in enumerate(_products(), start=1):
            item = _item(product)
            if not held_out_only or _is_held_out(item):
                drafts.append(item)
                rows.append([])
                for file in index.get_images(product):
                    data = _read(file)
                    if data is None:
                        skipped += 1
                        continue
                    waiting.append(len(drafts) - 1)
                    yield data
            if progress is not None:
                progress(number, max(number, total))

    path = folder / PIXELS_NAME
    count = 0
    with path.open("wb") as stream:
        for pixels in encoding.decoder().decode_many(photos(), size=size):
            product = waiting.popleft()
            if isinstance(pixels, ImageError):
                skipped += 1
                continue
            stream.write(pixels.tobytes())
            rows[product].append(count)
            count += 1
    items = [replace(d, images=tuple(r)) for d, r in zip(drafts, rows, strict=True) if r]
    # Mapped, not read: a hundred thousand photos need not fit into memory.
    shape = (count, size, size, 3)
    pixels_of_all = (
        np.memmap(path, dtype=np.uint8, mode="r", shape=shape) if count else np.zeros(shape, "u1")
    )
    if skipped:
        logger.warning("%d photos could not be used for training and were left out.", skipped)
    catalogue = Catalogue(items, pixels_of_all)
    catalogue = replace(catalogue, apart=judgements.pairs(catalogue, judgements.APART))
    return Examples(
        catalogue=catalogue,
        skipped_images=skipped,
        skipped_products=len(drafts) - len(items),
    )


def look(*, sample: int = SAMPLE) -> Found:
    """What training would find, counted on the first products and scaled up."""
    index = get_index()
    products = index.get_queryset().count()
    seen = list(index.with_related(index.get_queryset().order_by("pk"))[:sample])
    share = products / len(seen) if seen else 0.0
    attributes = dict.fromkeys(name for each in seen for name in index.get_attributes(each))
    groups = {index.get_group(each) for each in seen}
    return Found(
        products=products,
        photos=round(share * sum(len(index.get_images(each)) for each in seen)),
        texts=round(share * sum(len(index.get_text(each)) for each in seen)),
        groups=round(share * len(groups)),
        attributes=tuple(attributes),
        is_sample=products > len(seen),
    )


def check_room(folder: Path, *, size: int) -> None:
    """Raise DiskFullError unless the decoded photos and a checkpoint fit into the file system."""
    needed = look().photos * size * size * 3 + CHECKPOINT_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"Training needs about {needed / 1e9:.1f} GB below {folder} for decoded photos and the "
            f"checkpoint, and {free / 1e9:.1f} GB are free: make room, or move CHECKPOINT_ROOT "
            f"({get_settings().CHECKPOINT_ROOT}) to a larger disk."
        )


def _products() -> Iterator[Any]:
    """The products in the index in the order of their keys; no cursor stays open meanwhile."""
    index = get_index()
    last: Any = None
    while True:
        rest = index.get_queryset().order_by("pk")
        if last is not None:
            rest = rest.filter(pk__gt=last)
        batch = list(index.with_related(rest)[:READ_AT_A_TIME])
        if not batch:
            return
        yield from batch
        last = batch[-1].pk


def _item(product: Any) -> Item:
    from visualsearch.ml.data import Item

    index = get_index()
    return Item(
        id=str(product.pk),
        images=(),
        texts=tuple(index.get_text(product)),
        label=index.get_label(product),
        group=index.get_group(product),
        attributes=index.get_attributes(product),
    )


def _is_held_out(item: Item) -> bool:
    from visualsearch.ml.data import Catalogue, split

    return bool(split(Catalogue([item], np.zeros((0, 1, 1, 3), "u1"))).holdout.items)


def _read(file: FieldFile) -> bytes | None:
    try:
        with file.storage.open(file.name or "", "rb") as stream:
            return bytes(stream.read(MAX_FILE_BYTES + 1))  # the decoder refuses the last byte
    except (OSError, ValueError) as error:
        logger.warning("%s is left out: %s", file.name, error)
        return None
