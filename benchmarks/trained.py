"""Checkpoints that a training wrote elsewhere, taken over: `python -m visualsearch.ml train --out FOLDER`, or a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def take(folder: Path, *, name: str = "trained") -> Any:
    """Copy its files, embed the catalogue with it, build its index, promote it; the live checkpoint."""
    from benchmarks import untrained

    checkpoint = adopt(folder, name=name)
    untrained.index(checkpoint, live=True)
    return checkpoint


def adopt(folder: Path, *, name: str) -> Any:
    """A checkpoint being indexed with a copy of its files, and nothing embedded; one of that name is replaced."""
    from benchmarks import untrained
    from visualsearch.conf import get_settings
    from visualsearch.ml.manifest import Manifest
    from visualsearch.models import Checkpoint

    untrained.remove(name)
    manifest = Manifest.load(folder)
    shutil.copytree(folder, get_settings().CHECKPOINT_ROOT / name)
    return Checkpoint.objects.create(
        name=name,
        folder=name,
        recipe=manifest.recipe,
        state=Checkpoint.State.BUILDING,
        width=manifest.width,
        image_size=manifest.image_size,
        preprocessing=manifest.preprocessing,
        metrics=manifest.metrics,
    )
