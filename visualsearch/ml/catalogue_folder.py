"""Reads a folder or zip of one CSV and its images into a catalogue; bad rows are listed, not fatal."""

from __future__ import annotations

import csv
import io
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from visualsearch.exceptions import ImageError, TrainingError
from visualsearch.ml.columns import Columns, map_columns, value_of
from visualsearch.ml.data import Catalogue, Item
from visualsearch.photos.images import open_image, to_pixels

logger = logging.getLogger(__name__)

CSV_NAMES = ("products.csv", "styles.csv")
MAX_CSV_BYTES = 512 << 20
MAX_IMAGE_BYTES = 50 << 20
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class BadRow:
    """A row that was skipped, and why."""

    line: int
    id: str
    reason: str


@dataclass(frozen=True)
class LoadedFolder:
    """A catalogue with the rows that could not be used."""

    catalogue: Catalogue
    bad_rows: list[BadRow]
    columns: Columns


class Folder:
    """A folder or zip: lists its files and reads them by their path inside it."""

    def __init__(self, path: Path, names: list[str], read: Callable[[str, int], bytes]) -> None:
        self.path = path
        self.names = names
        self._read = read
        # Everything is looked up in this listing, so no path of a CSV can lead out of the folder.
        self._known = set(names)
        self.root = ""

    def read(self, name: str, *, limit: int) -> bytes:
        return self._read(name, limit)

    def find(self, name: str) -> str | None:
        """The listed name for a path as a CSV writes it, relative to the CSV; None if absent."""
        clean = str(PurePosixPath(name.replace("\\", "/")))
        candidates = (self.root + clean, f"{self.root}images/{clean}")
        return next((candidate for candidate in candidates if candidate in self._known), None)


@contextmanager
def open_folder(path: Path | str, *, needs: str = "a products.csv") -> Iterator[Folder]:
    """Opens a folder or zip file; raises TrainingError if it is neither."""
    path = Path(path)
    if path.is_dir():
        names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())

        def read_file(name: str, limit: int) -> bytes:
            with (path / name).open("rb") as file:
                return _limited(file.read(limit + 1), name, limit)

        yield Folder(path, names, read_file)
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:

            def read_member(name: str, limit: int) -> bytes:
                # Reads at most limit + 1 bytes whatever the archive's header claims.
                try:
                    with archive.open(name) as file:
                        return _limited(file.read(limit + 1), name, limit)
                except (RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
                    # Encrypted, packed by an unknown method, cut off or damaged.
                    raise TrainingError(f"{name} in {path} cannot be read: {error}.") from error

            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            yield Folder(path, names, read_member)
    else:
        raise TrainingError(f"{path} is neither a folder nor a zip file with {needs}.")


def read_table(folder: Folder) -> tuple[list[str], list[dict[str, str | None]]]:
    """Header and rows of the folder's CSV (products.csv, or styles.csv of the Kaggle layout)."""
    found = [n for n in folder.names if PurePosixPath(n).name.lower() in CSV_NAMES]
    if not found:
        raise TrainingError(f"{folder.path} has no {' or '.join(CSV_NAMES)}.")
    name = min(found, key=lambda n: (n.count("/"), n))
    folder.root = name[: -len(PurePosixPath(name).name)]
    text = folder.read(name, limit=MAX_CSV_BYTES).decode("utf-8-sig", "replace")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    # Kaggle's styles.csv has rows with too many cells: they land under the key None, unread.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return list(reader.fieldnames or []), list(reader)
    except csv.Error as error:
        raise TrainingError(f"{name}, line {reader.line_num}: {error}.") from error


def image_names(folder: Folder, columns: Columns, row: Mapping[str, str | None]) -> list[str]:
    """Listed names of a row's images: those its image column names, else ``images/<id>.jpg``."""
    written = columns.images_of(row)
    if not written:
        stem = value_of(row, columns.id)
        written = [f"images/{stem}{suffix}" for suffix in IMAGE_SUFFIXES]
    return [name for name in map(folder.find, written) if name]


def item_of(
    columns: Columns, row: Mapping[str, str | None], *, images: tuple[int, ...] = ()
) -> Item:
    """The product of one row."""
    texts = [value_of(row, columns.title), value_of(row, columns.description)]
    return Item(
        id=value_of(row, columns.id),
        images=images,
        texts=tuple(text for text in texts if text),
        label=value_of(row, columns.label),
        group=value_of(row, columns.group),
        attributes=columns.attributes_of(row),
    )


def load_folder(
    path: Path | str,
    *,
    size: int,
    limit: int | None = None,
    overrides: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LoadedFolder:
    """Reads and decodes a whole catalogue to `size` pixels.

    `limit`: only so many usable products. `overrides`: column names by hand, see `map_columns`.
    Rows without id, with an id twice, or without a readable image are skipped and listed.
    """
    items: list[Item] = []
    pixels: list[np.ndarray] = []
    bad: list[BadRow] = []
    seen: set[str] = set()
    with open_folder(path) as folder:
        header, rows = read_table(folder)
        try:
            columns = map_columns(header, rows, overrides=overrides)
        except ValueError as error:
            raise TrainingError(f"{path}: {error}") from error
        for line, row in enumerate(rows, start=2):
            if limit is not None and len(items) >= limit:
                break
            identity = value_of(row, columns.id)
            if not identity or identity in seen:
                reason = f"id {identity} appears twice" if identity else "no id"
                bad.append(BadRow(line, identity, reason))
                continue
            decoded, reason = _decode(folder, image_names(folder, columns, row), size)
            if not decoded:
                bad.append(BadRow(line, identity, reason))
                continue
            seen.add(identity)
            slots = tuple(range(len(pixels), len(pixels) + len(decoded)))
            items.append(item_of(columns, row, images=slots))
            pixels.extend(decoded)
            if progress is not None:
                progress(line - 1, len(rows))
    stacked = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
    if bad:
        logger.warning("%s: %d of %d rows skipped", path, len(bad), len(rows))
    return LoadedFolder(Catalogue(items, stacked), bad, columns)


def _decode(folder: Folder, names: list[str], size: int) -> tuple[list[np.ndarray], str]:
    decoded: list[np.ndarray] = []
    reason = "no image file"
    for name in names:
        try:
            image = open_image(folder.read(name, limit=MAX_IMAGE_BYTES))
            decoded.append(to_pixels(image, size=size))
        except (ImageError, TrainingError, OSError) as error:
            reason = f"{name}: {error}"
    return decoded, reason


def _limited(data: bytes, name: str, limit: int) -> bytes:
    if len(data) > limit:
        raise TrainingError(f"{name} is larger than {limit >> 20} MB.")
    return data
