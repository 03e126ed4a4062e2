"""The folders below CHECKPOINT_ROOT: their names, one to work in, and the step that puts a finished one in place."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visualsearch.conf import get_settings
from visualsearch.models import Checkpoint

WORK_PREFIX = ".work-"
STATE_PREFIX = ".state-"
FEATURES_NAME = ".features"


def next_name() -> str:
    """v1, v2, …: the first after all that a checkpoint or a folder has had."""
    root = get_settings().CHECKPOINT_ROOT
    taken = {*Checkpoint.objects.values_list("name", flat=True)}
    taken |= {path.name for path in root.iterdir()} if root.is_dir() else set()
    numbers = [int(match[1]) for name in taken if (match := re.fullmatch(r"v(\d{1,9})", name))]
    return f"v{max(numbers, default=0) + 1}"


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder on the disk of the checkpoints; what a killed trainer left behind is removed."""
    root = get_settings().CHECKPOINT_ROOT
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def state_folder(run_id: int) -> Path:
    """Where a training run keeps what it needs to go on after its process ended; may not exist.

    Those of other runs are removed: the one that was interrupted last can be gone on with.
    """
    root = get_settings().CHECKPOINT_ROOT
    mine = root / f"{STATE_PREFIX}{run_id}"
    for other in root.glob(f"{STATE_PREFIX}*"):
        if other != mine:
            shutil.rmtree(other, ignore_errors=True)
    return mine


def has_state(run_id: int) -> bool:
    """Whether there is something that a training run can go on from."""
    mine = get_settings().CHECKPOINT_ROOT / f"{STATE_PREFIX}{run_id}"
    return mine.is_dir() and any(mine.iterdir())


def features_folder() -> Path:
    """Where what a frozen trunk makes of each photo is kept from run to run; may not exist."""
    return get_settings().CHECKPOINT_ROOT / FEATURES_NAME


def put_in_place(folder: Path, name: str) -> Path:
    """Give a finished checkpoint its name, and where it is then; it must be on the same disk, as a work folder is."""
    target = get_settings().CHECKPOINT_ROOT / name
    folder.rename(target)
    flush(target.parent)
    return target


def flush(path: Path) -> None:
    """Have the file or folder on the disk before anything that refers to it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
