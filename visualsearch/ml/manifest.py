"""What a checkpoint folder says about itself, and the check that its files are the ones it names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from visualsearch.exceptions import CheckpointError

MANIFEST_NAME = "checkpoint.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of ``checkpoint.json``; it is written last, so a folder that has it is complete."""

    recipe: str
    # the name of the recipe that made the checkpoint
    options: Mapping[str, Any]
    # every field of that recipe as used, overrides included: enough to rebuild the network
    width: int
    # length of every vector
    image_size: int
    # side of the square images that the network reads, in pixels
    preprocessing: str
    # name of the decoding path; images decoded by another path must not be embedded
    text_length: int
    # tokens per text; 0 where the checkpoint reads no text
    parameters: int
    attributes: Mapping[str, list[str]]
    # attribute name -> its values, as seen in training
    metrics: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    # file name -> sha256 in hexadecimal
    created_at: str = ""
    # ISO 8601, UTC
    format_version: int = FORMAT_VERSION

    @property
    def reads_text(self) -> bool:
        """Whether ``encode_text`` and ``compose`` exist (``pretrained-knn`` has images only)."""
        return self.text_length > 0

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def write(self, folder: Path) -> None:
        """Writes ``checkpoint.json`` into `folder` with the sha256 of every other file in it."""
        names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_NAME)
        files = {name: sha256_of(folder / name) for name in names}
        manifest = dataclasses.replace(self, files=files)
        text = json.dumps(manifest.as_dict(), indent=2, sort_keys=True, allow_nan=False)
        (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str, *, verify: bool = True) -> Manifest:
        """Reads a checkpoint folder's manifest.

        With `verify`, the sha256 of every file is compared first.
        Raises CheckpointError for anything that is missing, changed, unknown or outside the folder.
        """
        folder = Path(folder)
        manifest = cls._parse(folder / MANIFEST_NAME)
        for name, expected in manifest.files.items():
            path = folder / safe_name(name)
            if path.is_symlink() or not path.is_file():
                raise CheckpointError(
                    f"Checkpoint {folder} lacks the file {name!r} that its manifest names. "
                    "Copy the whole folder again, or train a new checkpoint."
                )
            if verify and sha256_of(path) != expected:
                raise CheckpointError(
                    f"Checkpoint file {path} is not the one that was written: its sha256 differs "
                    "from the manifest's. Copy the folder again, or train a new checkpoint."
                )
        return manifest

    @classmethod
    def _parse(cls, path: Path) -> Manifest:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path.parent} is no finished checkpoint: it has no {MANIFEST_NAME}. "
                "Give the folder that training wrote."
            ) from error
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise CheckpointError(f"Cannot read {path}: {error}. Copy the folder again.") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} holds no JSON object. Copy the folder again.")
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format version {version!r}, this release reads {FORMAT_VERSION}. "
                "Train a new checkpoint with this release."
            )
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            manifest = cls(**{name: value for name, value in content.items() if name in known})
        except TypeError as error:
            raise CheckpointError(
                f"{path} is incomplete: {error}. Copy the folder again."
            ) from error
        manifest._check_types(path)
        return manifest

    def _check_types(self, path: Path) -> None:
        for name in ("width", "image_size", "text_length", "parameters"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise CheckpointError(f"{path}: {name} must be a whole number, not {value!r}.")
        for name in ("options", "attributes", "metrics", "files"):
            if not isinstance(getattr(self, name), dict):
                raise CheckpointError(f"{path}: {name} must be an object. Copy the folder again.")


def safe_name(name: str) -> str:
    """`name` if it is a plain file name; a path could lead out of the checkpoint folder."""
    plain = isinstance(name, str) and name not in ("", ".", "..")
    if not plain or "\\" in name or "\0" in name or PurePosixPath(name).name != name:
        raise CheckpointError(
            f"The manifest names the file {name!r}, which is no plain file name inside the "
            "checkpoint folder. Do not use this checkpoint."
        )
    return name


def sha256_of(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
