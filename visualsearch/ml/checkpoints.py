"""Writes and reads checkpoint folders: safetensors, JSON and hashes, put in place in one step."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from visualsearch.exceptions import CheckpointError, TrainingError
from visualsearch.ml import tokenizer as tokenizers
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.manifest import MANIFEST_NAME, Manifest
from visualsearch.ml.recipes import recipe_from
from visualsearch.ml.tokenizer import TOKENIZER_NAME, Tokenizer

WEIGHTS_NAME = "encoder.safetensors"


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well.

    A crash at any moment leaves `folder` absent, or as it was before.
    Raises CheckpointError if `folder` holds something that is no checkpoint.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / MANIFEST_NAME).is_file() and any(folder.iterdir()):
        raise CheckpointError(
            f"{folder} exists and is no checkpoint; it is not replaced. Give another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        for path in temporary.iterdir():
            path.chmod(
                0o644
            )  # safetensors makes its file private; web processes may be another user
            _flush(path)
        _flush(temporary)
        temporary.chmod(0o755)
        if folder.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(retired / folder.name)
            temporary.rename(folder)
            shutil.rmtree(retired)
        else:
            temporary.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_weights(network: VisualEncoder, folder: Path) -> None:
    """Writes the weights, on the CPU and in the order of their names; OSError if the disk is full."""
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    path = folder / WEIGHTS_NAME
    try:
        save_file(dict(sorted(state.items())), path)
    except SafetensorError as error:
        # It says in words what Python has an error number for, and a run waits for room by the number.
        if f"(os error {errno.ENOSPC})" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def load(folder: Path | str) -> tuple[VisualEncoder, Tokenizer | None, Manifest]:
    """Reads a checkpoint folder, every file checked; the network is on the CPU, in eval mode.

    Raises CheckpointError if anything is missing or altered.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    for name in (WEIGHTS_NAME, *([TOKENIZER_NAME] if manifest.reads_text else [])):
        if name not in manifest.files:
            raise CheckpointError(f"The manifest of {folder} does not list {name}. Train again.")
    tokenizer = None
    if manifest.reads_text:
        tokenizer = tokenizers.load(folder / TOKENIZER_NAME, text_length=manifest.text_length)
    try:
        network = VisualEncoder(
            recipe_from(manifest.options),
            vocabulary_size=tokenizer.vocabulary_size if tokenizer else 0,
            weights=None,
        )
        network.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except (TrainingError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"The weights of {folder} do not fit its recipe: {error}") from error
    return network.eval(), tokenizer, manifest


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; probed when called, never at import."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"There is no device {name!r}; say auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device='cuda', but torch finds no GPU here; say auto or cpu.")
    return device


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
