"""Features of images on disk, by content: a frozen trunk reads each photo once, for every run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from visualsearch.exceptions import TrainingError
from visualsearch.ml.quick import Quick

Rows = npt.NDArray[np.float16]
Progress = Callable[[int, int], None]
"""Called with the number of images read and of all that have to be."""

HASH_BYTES = 16
MAGIC = b"VSROWS1\n"
AT_A_TIME = {"cpu": 32}
"""Images in one pass through the trunk, by device; else 256."""
FLUSH_EVERY = 1_024
"""Images between two writes: what a crash costs."""
MAX_BYTES = 4 << 30
LARGEST = float(np.finfo(np.float16).max)


def pixel_hashes(pixels: npt.NDArray[np.uint8]) -> list[bytes]:
    """A content hash for each image of uint8 [N, S, S, 3]."""
    return [
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=HASH_BYTES).digest()
        for image in pixels
    ]


def cached_features(
    trunk: nn.Module,
    key: str,
    pixels: npt.NDArray[np.uint8],
    hashes: Sequence[bytes],
    folder: Path,
    *,
    device: torch.device,
    progress: Progress | None = None,
    max_bytes: int = MAX_BYTES,
) -> Rows:
    """One row of features for each image, float16 [N, F]; only images not yet known are computed.

    trunk: maps uint8 [B, S, S, 3] to float [B, F] and is put into eval mode on `device`.
    key: names the trunk, its weights and the decoding: rows are shared by equal keys only.
    hashes: 16 bytes an image; equal hashes mean equal pixels. The result may be a read-only memory
    map. `folder` is kept below `max_bytes` by dropping the features of keys used longest ago.
    Safe to interrupt, and to run in several processes at a time.
    Raises TrainingError for features that are not finite, and whatever `progress` raises.
    """
    store = Store(folder, key)
    for _ in range(3):
        slots = store.slots(hashes)
        if missing := np.flatnonzero(slots < 0).tolist():
            # A picture that comes twice is read once.
            wanted = list({hashes[i]: i for i in missing}.values())
            _compute(trunk, store, pixels, hashes, wanted, device, progress)
            slots = store.slots(hashes)
        try:
            rows = store.read(slots)
        except FileNotFoundError:
            continue  # another process made room for its own
        prune(folder, max_bytes=max_bytes, keep=key)
        return rows
    raise TrainingError(
        f"The features in {folder} are deleted as fast as they are computed. Give more room than "
        f"{max_bytes >> 20} MB, or another folder."
    )


class Store:
    """The rows of one key: appended to one file, their hashes to another, in the same order.

    A row counts once its hash is written, which happens after the row is on disk. The hashes follow
    a header of the same size: magic, then the number of features as a little-endian integer.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.root = folder
        self.folder = folder / _name(key)
        self._rows, self._hashes = self.folder / "rows.f16", self.folder / "hashes.bin"

    def slots(self, hashes: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """int64 [N]: the row of each hash, -1 where there is none."""
        known = {each: number for number, each in enumerate(self._index()[1])}
        return np.array([known.get(each, -1) for each in hashes], dtype=np.int64)

    def read(self, slots: npt.NDArray[np.int64]) -> Rows:
        """float16 [N, F]; a memory map where the rows lie in order. FileNotFoundError if pruned."""
        width, hashes = self._index()
        if not len(slots):
            return np.zeros((0, width), np.float16)
        if slots.min() < 0 or slots.max() >= len(hashes):
            raise FileNotFoundError(self._rows)
        os.utime(self.folder)  # when it was last used
        stored = np.memmap(self._rows, np.float16, "r", shape=(len(hashes), width))
        start = int(slots[0])
        if np.array_equal(slots, np.arange(start, start + len(slots))):
            return stored[start : start + len(slots)]
        return np.asarray(stored[slots])

    def append(self, hashes: Sequence[bytes], rows: Rows) -> None:
        """Adds rows; what an interrupted write left behind is overwritten."""
        with locked(self.root):
            self.folder.mkdir(exist_ok=True)
            count = len(self._index()[1])
            _write(self._rows, count * rows.shape[1] * rows.itemsize, rows.tobytes())
            written = b"".join(hashes)
            if not count:
                written = MAGIC + rows.shape[1].to_bytes(8, "little") + written
            _write(self._hashes, HASH_BYTES * (1 + count) if count else 0, written)

    def _index(self) -> tuple[int, list[bytes]]:
        """The number of features, and the hashes in the order of their rows."""
        try:
            data = self._hashes.read_bytes()
        except FileNotFoundError:
            return 0, []
        ends = range(2 * HASH_BYTES, len(data) + 1, HASH_BYTES)
        width = int.from_bytes(data[len(MAGIC) : HASH_BYTES], "little")
        return width, [data[end - HASH_BYTES : end] for end in ends]


def prune(folder: Path, *, max_bytes: int, keep: str = "") -> None:
    """Deletes the features of the keys used longest ago until the rest fits; `keep`'s go last."""
    with locked(folder):
        stores = [path for path in folder.iterdir() if (path / "rows.f16").is_file()]
        stores.sort(key=lambda path: (path.name == _name(keep), path.stat().st_mtime), reverse=True)
        room = max_bytes
        for path in stores:
            room -= sum(file.stat().st_size for file in path.iterdir())
            if room < 0:
                shutil.rmtree(path)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time writes in `folder`."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compute(
    trunk: nn.Module,
    store: Store,
    pixels: npt.NDArray[np.uint8],
    hashes: Sequence[bytes],
    wanted: Sequence[int],
    device: torch.device,
    progress: Progress | None,
) -> None:
    quick = Quick(trunk, device=device)
    size = AT_A_TIME.get(device.type, 256)
    parts: list[Rows] = []
    since = 0
    for start in range(0, len(wanted), size):
        chosen = wanted[start : start + size]
        parts.append(_rows(quick, np.asarray(pixels[chosen]), device))
        done = start + len(chosen)
        if done - since >= FLUSH_EVERY or done == len(wanted):
            store.append([hashes[i] for i in wanted[since:done]], np.concatenate(parts))
            parts, since = [], done
        if progress is not None:
            progress(done, len(wanted))


def _rows(quick: Quick, pixels: npt.NDArray[np.uint8], device: torch.device) -> Rows:
    features = quick(torch.from_numpy(pixels).to(device)).cpu()
    if not bool(features.isfinite().all()):
        raise TrainingError(
            "The trunk gives features that are not finite numbers. Check its weights file."
        )
    rows: Rows = features.clamp(-LARGEST, LARGEST).numpy().astype(np.float16)
    return rows


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(offset)
        file.truncate()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _name(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
