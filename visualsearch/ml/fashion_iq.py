"""Reads the Fashion-IQ annotation files as they are, with images from wherever they lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from visualsearch.exceptions import ImageError, NotEnoughDataError, TrainingError
from visualsearch.ml.catalogue_folder import (
    IMAGE_SUFFIXES,
    MAX_CSV_BYTES,
    MAX_IMAGE_BYTES,
    Folder,
    open_folder,
)
from visualsearch.ml.data import Catalogue, Item, Triplet
from visualsearch.photos.images import open_image, to_pixels

CATEGORIES = ("dress", "shirt", "toptee")
SPLITS = ("train", "val")
"""The test split has no captions."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One category of one split, as places in the catalogue."""

    triplets: tuple[Triplet, ...]
    gallery: tuple[int, ...]
    # the products of the split file that have an image
    annotated: int
    # triplets in the annotation file
    listed: int
    # products in the split file


@dataclass(frozen=True)
class FashionIQ:
    """The data set with its images; `catalogue.triplets` are those to train on."""

    catalogue: Catalogue
    parts: Mapping[tuple[str, str], Part]
    # by category and split
    unreadable: tuple[str, ...] = field(default=())
    # images that were there and could not be decoded

    def summary(self) -> str:
        """What is there and what is missing, a line a category and split."""
        lines = [
            f"{category} {split}: {len(part.triplets)} of {part.annotated} triplets and "
            f"{len(part.gallery)} of {part.listed} products of the split file have images"
            for (category, split), part in self.parts.items()
        ]
        if self.unreadable:
            shown = ", ".join(self.unreadable[:5])
            lines.append(f"{len(self.unreadable)} images could not be read: {shown}")
        return "\n".join(lines)


def load_fashion_iq(
    path: Path | str,
    *,
    size: int,
    images: Path | str | None = None,
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FashionIQ:
    """Reads `captions/cap.*.json` and `image_splits/split.*.json` of a folder or zip.

    `images`: the folder or zip that has the images, NAME.jpg or .png somewhere in it; by default
    `path` itself. `limit`: only so many triplets of each file. Triplets without both images are left
    out and counted. Raises TrainingError for
    files that are not of the format, NotEnoughDataError if no triplet has its images.
    """
    with open_folder(path, needs="captions/cap.dress.val.json") as folder:
        found = dict(_annotations(folder, splits, limit))
    if not found:
        raise TrainingError(
            f"{path} has no captions/cap.{{{','.join(CATEGORIES)}}}.{{{','.join(splits)}}}.json: "
            "give the folder or zip of the Fashion-IQ annotations."
        )
    with open_folder(images or path, needs="NAME.jpg or NAME.png") as folder:
        places, items, pixels, unreadable = _decoded(folder, found, size, progress)
    parts = {key: each.placed(places) for key, each in found.items()}
    if not any(part.triplets for part in parts.values()):
        raise NotEnoughDataError(
            f"No triplet of {path} has both its images in {images or path}: the files must be "
            "called like the products, as B0084Y8XIU.jpg. Give their folder or zip with --images."
        )
    train = [t for (_, split), part in parts.items() if split == "train" for t in part.triplets]
    return FashionIQ(Catalogue(items, pixels, train), parts, tuple(unreadable))


@dataclass(frozen=True, kw_only=True)
class _Annotation:
    """The files of one category of one split."""

    category: str
    split: str
    triplets: tuple[tuple[str, str, tuple[str, ...]], ...]
    # names of reference and target, captions
    gallery: tuple[str, ...]

    @property
    def names(self) -> dict[str, None]:
        """The images that are needed: for training only those of triplets."""
        names = {name: None for triplet in self.triplets for name in triplet[:2]}
        return names if self.split == "train" else names | dict.fromkeys(self.gallery)

    def placed(self, places: Mapping[str, int]) -> Part:
        return Part(
            triplets=tuple(
                Triplet(reference=places[reference], target=places[target], sentences=captions)
                for reference, target, captions in self.triplets
                if reference in places and target in places
            ),
            gallery=tuple(places[name] for name in self.gallery if name in places),
            annotated=len(self.triplets),
            listed=len(self.gallery),
        )


def _annotations(
    folder: Folder, splits: Sequence[str], limit: int | None
) -> Iterator[tuple[tuple[str, str], _Annotation]]:
    by_name = {PurePosixPath(name).name: name for name in folder.names}
    for category in CATEGORIES:
        for split in splits:
            captions = by_name.get(f"cap.{category}.{split}.json")
            listing = by_name.get(f"split.{category}.{split}.json")
            if captions is None:
                continue
            rows = _read_json(folder, captions)[:limit]
            triplets = tuple(_triplet(row, captions, place) for place, row in enumerate(rows))
            # Without a split file the gallery is what the triplets name.
            named = dict.fromkeys(name for triplet in triplets for name in triplet[:2])
            gallery = _read_json(folder, listing) if listing else list(named)
            if not all(isinstance(name, str) for name in gallery):
                raise TrainingError(f"{listing} is not a list of names, as Fashion-IQ's are.")
            yield (
                (category, split),
                _Annotation(
                    category=category, split=split, triplets=triplets, gallery=tuple(gallery)
                ),
            )


def _read_json(folder: Folder, name: str) -> list[Any]:
    try:
        value = json.loads(folder.read(name, limit=MAX_CSV_BYTES))
    except ValueError as error:
        raise TrainingError(f"{name} is not JSON: {error}.") from error
    if not isinstance(value, list):
        raise TrainingError(f"{name} is not a list, as the files of Fashion-IQ are.")
    return value


def _triplet(row: Any, name: str, place: int) -> tuple[str, str, tuple[str, ...]]:
    try:
        reference, target = row["candidate"], row["target"]
        captions = tuple(clean for text in row["captions"] if (clean := text.strip(" .?,\n\t")))
    except (TypeError, KeyError, AttributeError) as error:
        raise TrainingError(
            f"{name}, entry {place}: candidate, target and captions are needed, as Fashion-IQ has "
            "them."
        ) from error
    if not isinstance(reference, str) or not isinstance(target, str):
        raise TrainingError(f"{name}, entry {place}: candidate and target are names of images.")
    return reference, target, captions


def _decoded(
    folder: Folder,
    found: Mapping[tuple[str, str], _Annotation],
    size: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, int], list[Item], np.ndarray, list[str]]:
    files = {
        PurePosixPath(name).stem: name
        for name in folder.names
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
    }
    # A few products are in two files. One that training reads is on that side, as in the papers.
    sides = {name: (each.category, "holdout") for each in found.values() for name in each.names}
    trained = [each for each in found.values() if each.split == "train"]
    sides |= {name: (each.category, "train") for each in trained for name in each.names}
    pixels: list[np.ndarray] = []
    items: list[Item] = []
    unreadable: list[str] = []
    for done, (name, (category, side)) in enumerate(sides.items(), start=1):
        if progress is not None:
            progress(done, len(sides))
        if name not in files:
            continue
        try:
            image = open_image(folder.read(files[name], limit=MAX_IMAGE_BYTES))
            pixels.append(to_pixels(image, size=size))
        except (ImageError, TrainingError, OSError) as error:
            unreadable.append(f"{files[name]} ({error})")
            continue
        # A group of its own: nothing in the data says which products are variants.
        items.append(
            Item(
                id=name,
                images=(len(items),),
                label=category,
                group=name,
                side="train" if side == "train" else "holdout",
            )
        )
    stacked = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
    return {item.id: place for place, item in enumerate(items)}, items, stacked, unreadable
