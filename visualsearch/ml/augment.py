"""Varies a batch of images on its own device: crop, flip, light, a hidden corner; never the hue much."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def augment(
    images: Tensor, *, white: Tensor, generator: torch.Generator, size: int | None = None
) -> Tensor:
    """float [B, 3, S, S] -> [B, 3, size, size], each image varied on its own.

    white: the value of white per channel, float [1, 3, 1, 1]. `generator` lives on the images'
    device. Hue stays within ±1 % per channel: colour is a label. `size`: None is S; a smaller one
    is sampled at once, which costs less than varying all pixels and shrinking the result.
    """
    count, device = len(images), images.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand((count, *shape), generator=generator, device=device)
        return low + (high - low) * drawn

    # Crop and flip as one sampling; what lies outside is white, like the letter-box.
    zoom = uniform(0.72, 1.08)
    stretch = uniform(0.95, 1.05)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    matrix = torch.zeros(count, 2, 3, device=device)
    matrix[:, 0, 0] = zoom * stretch * flip
    matrix[:, 1, 1] = zoom / stretch
    matrix[:, :, 2] = uniform(-1, 1, 2) * (1.05 - zoom).abs()[:, None]
    side = size or images.shape[2]
    grid = functional.affine_grid(matrix, [count, 3, side, side], align_corners=False)
    images = functional.grid_sample(images - white, grid, align_corners=False)
    # In place from here on: it is a batch of our own, and memory is what this takes its time for.
    # Light: one gain an image, a very small one a channel, and an offset.
    gain = uniform(0.88, 1.1, 1, 1, 1) * uniform(0.99, 1.01, 3, 1, 1)
    images.add_(white).mul_(gain).add_(uniform(-0.08, 0.08, 1, 1, 1))
    return _hide_rectangle(images, uniform, white)


def _hide_rectangle(images: Tensor, uniform: Callable[..., Tensor], white: Tensor) -> Tensor:
    """Whitens a rectangle of up to 30 % of the side in a quarter of the images (random erasing)."""
    height, width = images.shape[2:]
    middle, half = uniform(0, 1, 2), uniform(0.05, 0.15, 2)
    half = half * (uniform(0, 1, 1) < 0.25)
    rows = torch.linspace(0, 1, height, device=images.device)[None, :]
    columns = torch.linspace(0, 1, width, device=images.device)[None, :]
    inside_rows = (rows - middle[:, :1]).abs() < half[:, :1]
    inside_columns = (columns - middle[:, 1:]).abs() < half[:, 1:]
    hidden = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    return torch.where(hidden, white, images, out=images)
