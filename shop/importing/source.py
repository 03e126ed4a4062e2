"""A folder or zip file with a catalogue's CSV and its images, opened for reading only."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

CSV_NAMES = ("products.csv", "styles.csv")
MAX_CSV_BYTES = 512 * 1024 * 1024
MAX_IMAGE_BYTES = 25 * 1024 * 1024


class SourceError(Exception):
    """The folder or zip cannot be used at all."""


class Source(ABC):
    """Names inside are relative, with forward slashes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused: list[str] = []  # names that would lead out of the folder

    @abstractmethod
    def names(self) -> frozenset[str]:
        """Every file inside."""

    @abstractmethod
    def read(self, name: str, *, limit: int = MAX_IMAGE_BYTES) -> bytes:
        """The bytes of a file; SourceError when it is larger than ``limit`` or damaged."""

    def table(self) -> str:
        """The name of the CSV that lists the products: the one nearest to the top."""
        tables = [name for name in self.names() if PurePosixPath(name).name.lower() in CSV_NAMES]
        if not tables:
            raise SourceError(
                f"{self.path} holds no {' or '.join(CSV_NAMES)}: put the table of products beside "
                "its images."
            )
        order = {name: index for index, name in enumerate(CSV_NAMES)}
        return min(tables, key=lambda n: (n.count("/"), order[PurePosixPath(n).name.lower()], n))


def is_safe(name: str) -> bool:
    """Whether a name stays inside: relative, no ``..``, no drive, no backslash."""
    parts = name.split("/")
    return not (
        name.startswith("/") or "\\" in name or ":" in parts[0] or ".." in parts or "\x00" in name
    )


class FolderSource(Source):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._root = path.resolve()
        found = []
        for file in self._root.rglob("*"):
            if not file.is_file():
                continue
            name = file.relative_to(self._root).as_posix()
            # A link may point anywhere, for example to a file that only the server may read.
            inside = not file.is_symlink() or file.resolve().is_relative_to(self._root)
            (found if inside else self.refused).append(name)
        self._names = frozenset(found)

    def names(self) -> frozenset[str]:
        return self._names

    def read(self, name: str, *, limit: int = MAX_IMAGE_BYTES) -> bytes:
        try:
            with (self._root / name).open("rb") as file:
                return _limited(file.read(limit + 1), name, limit)
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {error.strerror or error}") from error


class ZipSource(Source):
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        super().__init__(path)
        self._archive = archive
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        self.refused = [name for name in names if not is_safe(name)]
        self._names = frozenset(names) - frozenset(self.refused)

    def names(self) -> frozenset[str]:
        return self._names

    def read(self, name: str, *, limit: int = MAX_IMAGE_BYTES) -> bytes:
        try:
            # The size in the zip's directory may lie, so no more than the limit is unpacked.
            with self._archive.open(name) as file:
                return _limited(file.read(limit + 1), name, limit)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
            raise SourceError(f"{name} cannot be read from the zip: {error}") from error


def _limited(data: bytes, name: str, limit: int) -> bytes:
    if len(data) > limit:
        raise SourceError(f"{name} is larger than {limit // 1024 // 1024} MB")
    return data


@contextmanager
def open_source(path: Path | str) -> Iterator[Source]:
    """A folder, or a zip file that is read in place; nothing is unpacked to disk."""
    path = Path(path)
    if path.is_dir():
        yield FolderSource(path)
        return
    if not path.is_file():
        raise SourceError(f"{path} does not exist: give a folder or a zip file.")
    if not zipfile.is_zipfile(path):
        raise SourceError(f"{path} is neither a folder nor a zip file.")
    with zipfile.ZipFile(path) as archive:
        yield ZipSource(path, archive)
