"""A checkpoint that `python -m visualsearch.ml train --out FOLDER` wrote, taken over and made live."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def take(folder: Path, *, name: str = "trained") -> Any:
    """Copy its files, embed the catalogue with it, build its index, promote it; the live checkpoint."""
    from benchmarks import untrained
    from visualsearch.conf import get_settings
    from visualsearch.ml.manifest import Manifest
    from visualsearch.models import Checkpoint
    from visualsearch.tables import partitions

    untrained.remove(name)
    manifest = Manifest.load(folder)
    shutil.copytree(folder, get_settings().CHECKPOINT_ROOT / name)
    checkpoint = Checkpoint.objects.create(
        name=name,
        folder=name,
        recipe=manifest.recipe,
        state=Checkpoint.State.BUILDING,
        width=manifest.width,
        image_size=manifest.image_size,
        preprocessing=manifest.preprocessing,
        metrics=manifest.metrics,
    )
    partitions.create(checkpoint)
    untrained.index(checkpoint, live=True)
    return checkpoint
