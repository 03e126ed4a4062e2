"""Draws what phone photos have behind the product: walls, boards, carpets, tiles, other things."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


class Draw:
    """Random numbers of one batch, from one generator."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator = generator
        self.device = device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def colours(self, count: int) -> Tensor:
        """Colours of rooms: of any brightness, most of them muted; [B, 3, 1, 1]."""
        tint = self.uniform(0, 1, count, 1, 1, 1).square() * self.uniform(-0.5, 0.5, count, 3, 1, 1)
        return (self.uniform(0.08, 0.95, count, 1, 1, 1) + tint).clamp(0, 1)

    def smooth(self, count: int, cells: int, size: int, *, channels: int = 1) -> Tensor:
        """Noise in 0…1 that varies over `cells` a side; [B, channels, size, size]."""
        coarse = self.uniform(0, 1, count, channels, cells, cells)
        return functional.interpolate(coarse, size=(size, size), mode="bilinear")


def draw_backgrounds(photos: Tensor, *, generator: torch.Generator) -> Tensor:
    """One background for each photo, float [B, 3, S, S] in 0…1; some are made of `photos`."""
    draw = Draw(generator, photos.device)
    kinds: tuple[Callable[[Tensor, Draw], Tensor], ...] = (
        _wall, _boards, _tiles, _blobs, _carpet, _things, _things,
    )  # fmt: skip
    kind = draw.uniform(0, len(kinds), len(photos)).long()
    result = torch.empty_like(photos)
    for number, make in enumerate(kinds):
        rows = (kind == number).nonzero()[:, 0]
        if len(rows):
            # The neighbour's photo, never the product itself: it would give the answer away.
            result[rows] = make(photos[(rows + 1) % len(photos)], draw)
    return result.clamp(0, 1)


def _wall(photos: Tensor, draw: Draw) -> Tensor:
    """From one colour to another, in any direction."""
    count, size = len(photos), photos.shape[2]
    ramp = _ramp(count, size, draw)
    first = draw.colours(count)
    second = torch.lerp(first, draw.colours(count), draw.uniform(0, 0.7, count, 1, 1, 1))
    return torch.lerp(first, second, ramp)


def _boards(photos: Tensor, draw: Draw) -> Tensor:
    """Stripes that waver, as wood, blinds and cloth have them."""
    count, size = len(photos), photos.shape[2]
    ramp = _ramp(count, size, draw)
    waver = draw.smooth(count, 4, size) * draw.uniform(0, 1, count, 1, 1, 1)
    waves = draw.uniform(2, 14, count, 1, 1, 1)
    stripes = torch.sin((ramp * waves + waver) * 2 * math.pi)
    sharp = draw.uniform(0.6, 6, count, 1, 1, 1)
    return _mix((stripes * sharp).clamp(-1, 1) / 2 + 0.5, draw)


def _tiles(photos: Tensor, draw: Draw) -> Tensor:
    """A grid, straight or turned: tiles, checks."""
    count, size = len(photos), photos.shape[2]
    across, down = _turned(count, size, draw)
    cells = draw.uniform(1.5, 6, count, 1, 1, 1)
    gap = draw.uniform(0.04, 0.5, count, 1, 1, 1)
    joint = ((across * cells) % 1 < gap) | ((down * cells) % 1 < gap)
    return _mix(joint.float(), draw)


def _blobs(photos: Tensor, draw: Draw) -> Tensor:
    """Patches of colour out of focus."""
    count, size = len(photos), photos.shape[2]
    colours = draw.smooth(count, 5, size, channels=3)
    grey = colours.mean(dim=1, keepdim=True)
    return torch.lerp(grey, colours, draw.uniform(0.1, 0.9, count, 1, 1, 1))


def _carpet(photos: Tensor, draw: Draw) -> Tensor:
    """Grain of two sizes on one colour."""
    count, size = len(photos), photos.shape[2]
    grain = draw.smooth(count, size // 2, size) + draw.smooth(count, max(1, size // 6), size)
    grain = (grain - 1) * draw.uniform(0.1, 0.7, count, 1, 1, 1)
    return draw.colours(count) + grain


def _things(photos: Tensor, draw: Draw) -> Tensor:
    """Another photo of the batch, a part of it, upside down, out of focus, in other light."""
    count, size = len(photos), photos.shape[2]
    matrix = torch.zeros(count, 2, 3, device=photos.device)
    zoom = draw.uniform(0.25, 0.8, count)
    flips = torch.where(draw.uniform(0, 1, count, 2) < 0.5, -1.0, 1.0)
    matrix[:, 0, 0], matrix[:, 1, 1] = zoom * flips[:, 0], zoom * flips[:, 1]
    matrix[:, :, 2] = draw.uniform(-0.5, 0.5, count, 2)
    # Coarse sampling and smooth enlarging: out of focus for nothing.
    small = max(4, size // 4)
    grid = functional.affine_grid(matrix, [count, 3, small, small], align_corners=False)
    part = functional.grid_sample(photos, grid, padding_mode="reflection", align_corners=False)
    part = functional.interpolate(part, size=(size, size), mode="bilinear")
    return part * draw.uniform(0.4, 1.05, count, 1, 1, 1) * draw.uniform(0.9, 1.1, count, 3, 1, 1)


def _mix(share: Tensor, draw: Draw) -> Tensor:
    """Two colours, the second near the first or not."""
    first = draw.colours(len(share))
    apart = draw.uniform(0.1, 1, len(share), 1, 1, 1)
    return torch.lerp(first, torch.lerp(first, draw.colours(len(share)), apart), share)


def _ramp(count: int, size: int, draw: Draw) -> Tensor:
    return _turned(count, size, draw)[0]


def _turned(count: int, size: int, draw: Draw) -> tuple[Tensor, Tensor]:
    """Coordinates about 0…1 along two axes at right angles, turned; [B, 1, S, S] each."""
    angle = draw.uniform(0, 2 * math.pi, count, 1, 1, 1)
    places = torch.linspace(-0.5, 0.5, size, device=draw.device)
    across, down = places.view(1, 1, 1, -1), places.view(1, 1, -1, 1)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    return across * cosine + down * sine + 0.5, down * cosine - across * sine + 0.5
