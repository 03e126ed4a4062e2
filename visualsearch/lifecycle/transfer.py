"""A checkpoint as one file: exported here, imported on another machine, every byte checked.

The file is a plain tar of the checkpoint's own files, of `checkpoint.json`, which has their sha256,
and of `export.json`, which has its sha256 and the figures of the row. Nothing in it is executed:
weights are safetensors, graphs ONNX, the rest JSON.
"""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.db import router, transaction
from django.utils import timezone

from visualsearch.conf import get_settings
from visualsearch.exceptions import CheckpointError
from visualsearch.lifecycle import checkpoint_folders, promotion
from visualsearch.ml.manifest import MANIFEST_NAME, Manifest, safe_name, sha256_of
from visualsearch.models import Checkpoint
from visualsearch.photos import images

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the bytes that are done and all bytes."""

EXPORT_NAME = "export.json"
FORMAT_VERSION = 1
SUFFIXES = {".safetensors", ".onnx", ".json"}
"""What a checkpoint is made of; no other file is taken, least of all a pickle."""
FILES_MOST = 64
JSON_BYTES = 64 * 1024 * 1024
SPARE_BYTES = 256 * 1024 * 1024
"""Left free on the disk of the checkpoints."""
CHUNK = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")


def export_checkpoint(
    checkpoint: Checkpoint, path: Path, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Write `checkpoint` to `path`, all or nothing; {"bytes", "sha256"} of the file.

    Raises PromotionError if its files are missing or altered, CheckpointError if `path` exists or
    the disk has no room.
    """
    folder = promotion.folder_of(checkpoint)
    manifest = Manifest.load(folder)  # whatever ENCODER says: here the files are what counts
    if path.exists():
        raise CheckpointError(f"{path} exists; it is not overwritten. Give another name.")
    names = [MANIFEST_NAME, *sorted(manifest.files)]
    total = sum((folder / name).stat().st_size for name in names)
    _check_room(path.absolute().parent, total)
    about = {
        "format_version": FORMAT_VERSION,
        "name": checkpoint.name,
        "state": checkpoint.state,
        "verdict": checkpoint.verdict,
        "metrics": checkpoint.metrics,
        "created_at": checkpoint.created_at.isoformat(),
        "manifest_sha256": sha256_of(folder / MANIFEST_NAME),
    }
    temporary = path.with_name(f".{path.name}.part")
    done = 0
    try:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
            _add(
                archive,
                EXPORT_NAME,
                io.BytesIO(text := json.dumps(about, sort_keys=True).encode()),
                len(text),
            )
            for name in names:
                with (folder / name).open("rb") as file:
                    size = (folder / name).stat().st_size
                    _add(archive, name, file, size)
                done += size
                if progress is not None:
                    progress(done, total)
        digest = sha256_of(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    return {"bytes": path.stat().st_size, "sha256": digest}


def import_checkpoint(
    path: Path, *, name: str | None = None, progress: Progress | None = None
) -> Checkpoint:
    """Take the checkpoint in the file at `path` over; it has to be embedded before it can go live.

    It keeps its name unless that is taken. One that the gate refused where it was trained comes as
    refused. Raises CheckpointError for a file that is not what `export_checkpoint` wrote, for a
    checkpoint that this release cannot run, and when the disk has no room; nothing is left then.
    """
    if name is not None and (not NAME.fullmatch(name) or _is_taken(name)):
        raise CheckpointError(
            f"{name!r} is taken, or no name for a checkpoint: give letters, digits, '.', '-', '_'."
        )
    try:
        with _work_folder() as folder, tarfile.open(path, "r:") as archive:
            members = _checked_members(archive, path)
            _check_room(folder, sum(member.size for member in members))
            about = _unpack(archive, members, folder, path=path, progress=progress)
            manifest = _checked_manifest(folder, about, path=path)
            return _install(folder, manifest, about, name=name)
    except (tarfile.TarError, EOFError) as error:
        raise CheckpointError(
            f"{path} is no exported checkpoint: {error}. Copy it again."
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be imported: {error}.") from error


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    archive.addfile(member, file)


def _checked_members(archive: tarfile.TarFile, path: Path) -> list[tarfile.TarInfo]:
    """The files in the archive, none of which leads anywhere else or is of a kind we do not take."""
    members: list[tarfile.TarInfo] = []
    for member in archive:
        members.append(member)
        if len(members) > FILES_MOST:
            raise CheckpointError(
                f"{path} holds more than {FILES_MOST} files: it is no checkpoint."
            )
        safe_name(member.name)
        if not member.isreg() or member.issparse():
            raise CheckpointError(f"{path} holds {member.name!r}, which is no plain file: refused.")
        if Path(member.name).suffix not in SUFFIXES:
            raise CheckpointError(
                f"{path} holds {member.name!r}; a checkpoint has {', '.join(sorted(SUFFIXES))} only."
            )
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise CheckpointError(f"{path} holds a file twice: refused.")
    for required in (EXPORT_NAME, MANIFEST_NAME):
        if required not in names:
            raise CheckpointError(f"{path} is no exported checkpoint: it has no {required}.")
    return members


def _unpack(
    archive: tarfile.TarFile,
    members: list[tarfile.TarInfo],
    folder: Path,
    *,
    path: Path,
    progress: Progress | None,
) -> dict[str, Any]:
    """Write the files into `folder`; what export.json says."""
    about: dict[str, Any] = {}
    total, done = sum(member.size for member in members), 0
    for member in members:
        source = archive.extractfile(member)
        assert source is not None  # a plain file
        if member.name == EXPORT_NAME:
            about = _read_about(source, path)
            continue
        with (folder / member.name).open("xb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    return about


def _read_about(source: IO[bytes], path: Path) -> dict[str, Any]:
    try:
        # NaN is no JSON to Postgres.
        about = json.loads(source.read(JSON_BYTES), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{EXPORT_NAME} in {path} is no JSON: {error}.") from error
    if not isinstance(about, dict) or about.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written by another release: this one reads format {FORMAT_VERSION}."
        )
    for key, kind in (("name", str), ("state", str), ("verdict", str), ("metrics", dict)):
        if not isinstance(about.get(key), kind):
            raise CheckpointError(f"{EXPORT_NAME} in {path} lacks {key!r}: export it again.")
    return about


def _checked_manifest(folder: Path, about: dict[str, Any], *, path: Path) -> Manifest:
    if sha256_of(folder / MANIFEST_NAME) != about.get("manifest_sha256"):
        raise CheckpointError(
            f"{MANIFEST_NAME} in {path} is not the one that was exported: its sha256 differs. Copy "
            "the file again."
        )
    try:
        manifest = Manifest.load(folder)
    except CheckpointError as error:
        message = error.message.replace(str(folder), str(path))
        raise CheckpointError(message) from error
    extra = {each.name for each in folder.iterdir()} - {MANIFEST_NAME, *manifest.files}
    if extra:
        raise CheckpointError(
            f"{path} holds {sorted(extra)[0]!r}, which its manifest does not name."
        )
    if manifest.preprocessing != images.PREPROCESSING:
        raise CheckpointError(
            f"The checkpoint in {path} was trained on images decoded by {manifest.preprocessing!r}, "
            f"this release decodes by {images.PREPROCESSING!r}: train a new one."
        )
    if not isinstance(manifest.recipe, str) or not 0 < len(manifest.recipe) <= 64:
        raise CheckpointError(f"The manifest in {path} names no recipe.")
    return manifest


def _install(
    folder: Path, manifest: Manifest, about: dict[str, Any], *, name: str | None
) -> Checkpoint:
    """Give the folder its place, and write the row."""
    wanted = name or about["name"]
    if not NAME.fullmatch(wanted) or _is_taken(wanted):
        wanted = checkpoint_folders.next_name()
    refused = about["state"] == Checkpoint.State.REFUSED
    origin = {"name": about["name"], "at": f"{timezone.now():%Y-%m-%d %H:%M} UTC"}
    with transaction.atomic(using=router.db_for_write(Checkpoint)):
        checkpoint = Checkpoint.objects.create(
            name=wanted,
            folder=wanted,
            recipe=manifest.recipe,
            state=Checkpoint.State.REFUSED if refused else Checkpoint.State.IMPORTED,
            width=manifest.width,
            image_size=manifest.image_size,
            preprocessing=manifest.preprocessing,
            parameters=manifest.parameters,
            metrics=about["metrics"] | {"imported": origin},
            verdict=about["verdict"],
        )
        folder.chmod(0o755)
        for each in folder.iterdir():
            each.chmod(0o644)
            checkpoint_folders.flush(each)
        # Last, as no rollback takes it back.
        checkpoint_folders.put_in_place(folder, wanted)
    logger.info("Checkpoint %s was imported as %s.", about["name"], wanted)
    return checkpoint


def _is_taken(name: str) -> bool:
    root = get_settings().CHECKPOINT_ROOT
    return Checkpoint.objects.filter(name=name).exists() or (root / name).exists()


def _check_room(folder: Path, needed: int) -> None:
    """Raise CheckpointError unless `needed` bytes fit into the file system of `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise CheckpointError(
            f"{(needed + SPARE_BYTES) / 1e9:.1f} GB are needed below {folder}, and {free / 1e9:.1f} "
            "GB are free: make room first."
        )


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder on the disk of the checkpoints that is gone afterwards, unless it got a name."""
    root = get_settings().CHECKPOINT_ROOT
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".import-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
