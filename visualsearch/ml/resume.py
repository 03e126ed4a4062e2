"""The state of a run on disk: weights, optimiser and counters in one file, replaced in one step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from visualsearch.ml.data import Catalogue
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

STATE_NAME = "state.safetensors"
VERSION = 1
SAVE_EVERY_S = 60.0
MAX_SHARE = 0.02
"""Of a run's time that saving may take: a large network on a slow disk is saved less often."""


@dataclass(frozen=True)
class State:
    """What a loop needs to go on: tensors by name, and numbers that JSON can hold."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def fingerprint(
    catalogue: Catalogue, recipe: Recipe, *, seed: int, tokens: Tokenizer | None
) -> str:
    """32 hexadecimal digits of everything that a run's weights follow from, but for the machine."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([VERSION, seed, recipe.as_dict()], sort_keys=True).encode())
    if tokens is not None:
        digest.update(tokens.as_text().encode())
    for item in catalogue.items:
        texts = [item.id, item.label, item.group, *item.texts]
        known = [texts, sorted(item.attributes.items()), list(map(int, item.images))]
        digest.update(json.dumps(known).encode())
    if catalogue.apart:
        digest.update(json.dumps([list(pair) for pair in catalogue.apart]).encode())
    # A memory map is read in parts: the pixels of a large catalogue do not fit into memory.
    for start in range(0, len(catalogue.pixels), 1024):
        digest.update(catalogue.pixels[start : start + 1024].tobytes())
    return digest.hexdigest()


class StateFolder:
    """Where a run keeps its state; what another catalogue, recipe or seed left there is not used."""

    def __init__(
        self, folder: Path, *, fingerprint: str, every_s: float = SAVE_EVERY_S, writes: bool = True
    ) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.every_s = every_s
        # Of several processes only one does; all read.
        self.writes = writes
        self._next = time.monotonic() + every_s

    @property
    def path(self) -> Path:
        return self.folder / STATE_NAME

    @property
    def due(self) -> bool:
        return self.writes and time.monotonic() >= self._next

    def load(self) -> State | None:
        """The state, on the CPU; None, with the reason in the log, if the run has to start over."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                values = json.loads((file.metadata() or {})["values"])
                found = values.pop("fingerprint")
                if found == self.fingerprint:
                    names = list(file.keys())
                    return State({name: file.get_tensor(name) for name in names}, values)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            logger.warning("%s cannot be read (%s): the run starts over.", self.path, error)
            return None
        logger.warning(
            "%s is of another catalogue, recipe or seed: the run starts over.", self.path
        )
        return None

    def save(self, state: State) -> None:
        """Replace what is there; a crash at any moment leaves the one state or the other, whole."""
        if not self.writes:
            return
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
        values = json.dumps({**state.values, "fingerprint": self.fingerprint})
        try:
            save_file(tensors, temporary, metadata={"values": values})
            _flush(temporary)
            temporary.replace(self.path)
            _flush(self.folder)
        finally:
            temporary.unlink(missing_ok=True)
        took = time.monotonic() - started
        self._next = time.monotonic() + max(self.every_s, took / MAX_SHARE)

    def save_if_possible(self, state: State) -> None:
        """As `save`; a full disk costs the state, not the run."""
        try:
            self.save(state)
        except (OSError, SafetensorError) as error:
            self._next = time.monotonic() + self.every_s
            logger.warning("The run's state could not be saved, it goes on: %s", error)

    def remove(self) -> None:
        """Forget the state; the folder goes as well unless it holds something else."""
        if not self.writes:
            return
        for path in (self.path, *self.folder.glob(f"{self.path.stem}.*.tmp")):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and numbers that the optimiser keeps for each parameter, flat; not the groups."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, kept in optimizer.state_dict()["state"].items():
        for name, value in kept.items():
            key = f"{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value
            elif value is not None:
                values[key] = value
    return tensors, values


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Undoes `optimizer_state`, for an optimiser of the same parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in (*tensors.items(), *values.items()):
        index, name = key.split(".", 1)
        if isinstance(value, Tensor) and value.shape == parameters[int(index)].shape:
            # Laid out as its parameter is: another order of the same numbers is summed otherwise.
            laid_out = torch.empty_like(parameters[int(index)], dtype=value.dtype)
            value = laid_out.copy_(value)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def remove_folder(folder: Path) -> None:
    """Delete a state folder that nobody needs any more, whatever is in it."""
    shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
