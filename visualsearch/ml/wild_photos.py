"""Frozen query photos as shoppers take them: the catalogue's own, made wild in two strengths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from visualsearch.ml.wild import wild

Pixels = npt.NDArray[np.uint8]

BATCH = 64
LEVELS = {
    "wild photo (mild)": {"strength": 0.5, "background": False},
    "wild photo (background)": {"strength": 1.0, "background": True},
}
"""Crop and light; and all of it together, pasted on another ground."""


def wild_sets(pixels: Pixels, *, seed: int) -> Iterator[tuple[str, Pixels]]:
    """For each level its name and uint8 [N, S, S, 3]; the same photos for the same seed."""
    for name, options in LEVELS.items():
        parts = []
        for start in range(0, len(pixels), BATCH):
            # A generator a batch: every checkpoint is shown the same.
            generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
            batch = torch.from_numpy(np.array(pixels[start : start + BATCH]))
            strength, background = float(options["strength"]), bool(options["background"])
            made = wild(batch, generator=generator, strength=strength, background=background)
            parts.append(made.numpy())
        yield name, np.concatenate(parts) if parts else np.array(pixels)
