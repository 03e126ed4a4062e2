"""Variation at a smaller size is the variation at full size, seen smaller."""

from __future__ import annotations

import torch
from torch.nn import functional

from visualsearch.ml.augment import augment


def test_augment__smaller_size_shows_the_same_crop_and_light() -> None:
    white = torch.ones(1, 3, 1, 1)
    images = torch.ones(8, 3, 48, 48)
    images[:, 1:, 8:30, 14:34] = 0.1

    def vary(size: int | None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        return augment(images, white=white, generator=generator, size=size)

    small, full = vary(24), vary(None)
    assert small.shape == (8, 3, 24, 24)
    shrunk = functional.interpolate(full, size=(24, 24), mode="area")
    assert (small - shrunk).abs().mean() < 0.03
    assert (small - images[:, :, ::2, ::2]).abs().mean() > 0.06
