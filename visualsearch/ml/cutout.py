"""Cuts products out of catalogue photos: what is not the paper that reaches the photo's border."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BAND = 0.06
"""How far paper may differ from the border's usual brightness; shops differ between .89 and 1."""
DARKEST_PAPER = 0.75
MAX_TINT = 0.08
"""Between the largest and the smallest channel: paper is neutral."""
ROUNDS = 3
"""Of four sweeps each: as many corners as a way to the border may have."""
SMALLEST, LARGEST = 0.02, 0.97
"""Share of the photo that a product may take; otherwise the cut went wrong."""


@dataclass(frozen=True)
class Cutout:
    """Where the products of a batch are."""

    alpha: Tensor
    # float [B, 1, S, S], 1 on the product; 1 everywhere where `found` is false
    found: Tensor
    # bool [B]: whether the photo stands on plain light paper


def cut_out(images: Tensor) -> Cutout:
    """float [B, 3, S, S] in 0…1 -> the products' masks.

    Paper counts only where it reaches the border, so a white shirt keeps its inside as long as its
    outline shows. Photos without a plain light border are left whole.
    """
    darkest = images.amin(dim=1)
    tint = images.amax(dim=1) - darkest
    ring = _ring_without_bars(darkest)
    level, slope = _paper(darkest, ring)
    plain = (darkest - slope).abs() < BAND
    plain &= tint < MAX_TINT
    even = (_ring_of(plain) & ring).sum(dim=1) > 0.5 * ring.sum(dim=1)
    # The letter-box is white, whatever the paper is.
    paper = plain | (darkest > 0.99)
    # At half the size, and only cells that are all paper: a gap of a pixel in the outline of a
    # white garment lets nothing through.
    cells = functional.avg_pool2d(paper[:, None].float(), 2, ceil_mode=True)[:, 0] > 0.99
    reached = _flood(cells)[:, None].float()
    reached = functional.max_pool2d(reached, 3, stride=1, padding=1)
    outside = functional.interpolate(reached, scale_factor=2.0)[
        :, :, : images.shape[2], : images.shape[3]
    ]
    product = 1 - outside * paper[:, None]
    # Specks vanish and the pale fringe goes with them.
    alpha = ((_mean3(product) - 0.5) * 2).clamp(0, 1)
    share = alpha.mean(dim=(1, 2, 3))
    found = even & (level > DARKEST_PAPER) & (share > SMALLEST) & (share < LARGEST)
    return Cutout(torch.where(found[:, None, None, None], alpha, torch.ones_like(alpha)), found)


def _paper(darkest: Tensor, ring: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's brightness [B], and at every pixel [B, S, S]: one side is often darker."""
    values = _ring_of(darkest).masked_fill(~ring, float("nan"))
    level = values.nanmedian(dim=1).values
    sides = values.unflatten(1, (4, -1)).nanmedian(dim=2).values - level[:, None]
    # A side that the product covers says nothing of the paper.
    sides = torch.where(sides.abs() < 2 * BAND, sides, 0.0)
    top, bottom, left, right = (side[:, None, None] for side in sides.unbind(1))
    share = torch.linspace(0, 1, darkest.shape[2], device=darkest.device)
    slope = torch.lerp(top, bottom, share[:, None]) + torch.lerp(left, right, share)
    return level, level[:, None, None] + slope


def _ring_of(values: Tensor) -> Tensor:
    """[B, S, S] -> the pixels of the border, [B, 4 · S]: top, bottom, left, right."""
    return torch.cat([values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1]], dim=1)


def _ring_without_bars(darkest: Tensor) -> Tensor:
    """bool [B, 4 · S]: which pixels of the border belong to the photo, not to its letter-box.

    A letter-box is pure white, as wide on both sides (to a pixel), and on one axis only.
    """
    white = darkest >= 1
    columns, rows = white.all(dim=1), white.all(dim=2)
    across = _letterbox(columns) & ~_letterbox(rows)
    down = _letterbox(rows) & ~_letterbox(columns)
    column_in = ~columns | ~across[:, None]
    row_in = ~rows | ~down[:, None]
    top_and_bottom = column_in & ~down[:, None]
    left_and_right = row_in & ~across[:, None]
    return torch.cat([top_and_bottom, top_and_bottom, left_and_right, left_and_right], dim=1)


def _letterbox(lines: Tensor) -> Tensor:
    """bool [B, S], lines that are all white -> bool [B]: as many at both ends, and some."""
    before = lines.long().cumprod(dim=1).sum(dim=1)
    after = lines.flip(1).long().cumprod(dim=1).sum(dim=1)
    return (before > 0) & (after > 0) & ((before - after).abs() <= 1)


def _flood(free: Tensor) -> Tensor:
    """bool [B, H, W] -> the free cells that are connected with the border."""
    border = torch.zeros_like(free)
    border[:, 0] = border[:, -1] = True
    border[:, :, 0] = border[:, :, -1] = True
    reached = free & border
    walls = [_last(~free, dim, back) for dim, back in SWEEPS]
    for _ in range(ROUNDS):
        for (dim, back), wall in zip(SWEEPS, walls, strict=True):
            reached = _last(reached, dim, back) > wall
    return reached


SWEEPS = ((1, False), (1, True), (2, False), (2, True))


def _last(marked: Tensor, dim: int, back: bool) -> Tensor:
    """Number (from 1) of the last marked cell up to each cell of its line; 0: none yet.

    A cell is reached along a line if the last reached one comes after the last wall.
    """
    length = marked.shape[dim]
    places = torch.arange(1, length + 1, dtype=torch.int32, device=marked.device)
    shaped = places.view(-1, 1) if dim == 1 else places.view(1, -1)
    if back:
        marked = marked.flip(dim)
    found = (marked * shaped).cummax(dim=dim).values
    return found.flip(dim) if back else found


def _mean3(images: Tensor) -> Tensor:
    return functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
