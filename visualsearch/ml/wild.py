"""Turns catalogue photos into phone photos: another place, angle, light and camera; batched."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from visualsearch.ml.backgrounds import Draw, draw_backgrounds
from visualsearch.ml.cutout import cut_out
from visualsearch.ml.jpeg import compress

MAX_TINT = 0.05
"""Gain of one channel: moves the hue of a saturated colour by less than .02. Colour is a label."""
JPEG_QUALITY = (30.0, 95.0)
CHUNK = 64
FRAMED = 0.4
"""Share of photos that are not square and get the white letter-box of every decoded photo."""


def wild(
    pixels: Tensor,
    *,
    generator: torch.Generator,
    strength: float = 1.0,
    background: bool = True,
) -> Tensor:
    """uint8 [B, S, S, 3] -> uint8 [B, S, S, 3], each photo as a phone might have taken it.

    `strength` scales angle, distance, light and camera; 0 leaves them alone. `background=False`
    keeps the paper white. Photos that do not stand on light paper keep their own background.
    `generator` lives on the photos' device; its state decides everything.
    """
    if not len(pixels):
        return pixels
    # In parts that fit into the cache of a processor.
    part = CHUNK if pixels.device.type == "cpu" else len(pixels)
    return torch.cat([_wild(some, generator, strength, background) for some in pixels.split(part)])


def _wild(pixels: Tensor, generator: torch.Generator, strength: float, background: bool) -> Tensor:
    draw = Draw(generator, pixels.device)
    images = pixels.permute(0, 3, 1, 2).contiguous().float() / 255
    cutout = cut_out(images)
    grid = _angles(len(images), images.shape[2], draw, strength)
    images, alpha = _taken_from(images, cutout.alpha, cutout.found, grid)
    if background:
        scenes = draw_backgrounds(images, generator=generator)
        scenes = scenes * _shadows(alpha, draw, strength)
        # A photo that was not cut out has alpha 1 everywhere, and stays what it is.
        images = torch.lerp(scenes, images, alpha)
    images = _covered(images, draw, strength)
    images = light(images, generator=generator, strength=strength)
    images = _camera(images, draw, strength)
    if background:
        images = _framed(images, draw)
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def light(images: Tensor, *, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """float [B, 3, S, S] in 0…1 in another light: gain, gamma, contrast, tint, a dim side.

    All but the tint keep the hue of every pixel; what grows too bright is scaled, not cut off.
    """
    draw, count = Draw(generator, images.device), len(images)

    def around(spread: float, channels: int = 1) -> Tensor:
        """e^±spread."""
        return (draw.uniform(-spread, spread, count, channels, 1, 1) * strength).exp()

    grey = images.mean(dim=1, keepdim=True)
    gain = (grey + 1e-3) ** (around(0.35) - 1)  # gamma
    gain = gain * around(0.3) * (1 - 0.15 * strength * draw.uniform(0, 1, count, 1, 1, 1))
    ends = draw.uniform(-0.35, 0.35, count, 2, 1, 1) * strength
    places = torch.linspace(-1, 1, images.shape[2], device=images.device)
    gain = gain * (1 + ends[:, :1] * places + ends[:, 1:] * places[:, None]).clamp(0.3, 1.5)
    paler = draw.uniform(-0.1, 0.3, count, 1, 1, 1) * strength
    tint = (1 + draw.uniform(-1, 1, count, 3, 1, 1) * MAX_TINT * strength).clamp(0.5, 1.5)
    images = torch.lerp(images, grey, paler).clamp(min=0) * gain * tint
    return images / images.amax(dim=1, keepdim=True).clamp(min=1)


def _angles(count: int, size: int, draw: Draw, strength: float) -> Tensor:
    """Sampling grids [B, S, S, 2]: distance, shift, turn, mirror image and perspective."""

    def around(spread: float) -> Tensor:
        return draw.uniform(-spread, spread, count, 1) * strength

    turn = around(math.radians(14))
    zoom = (around(0.35) + 0.12 * strength).exp()  # above 1: farther away
    stretch = around(0.07).exp()
    places = torch.linspace(-1, 1, size, device=draw.device) * (1 - 1 / size)
    across = places.repeat(size)[None] + around(0.25)
    down = places.repeat_interleave(size)[None] + around(0.25)
    depth = (1 + across * around(0.2) + down * around(0.2)).clamp(min=0.4)
    across, down = across / depth * zoom * stretch, down / depth * zoom / stretch
    mirror = torch.where(draw.uniform(0, 1, count, 1) < 0.5 * min(strength, 1), -1.0, 1.0)
    x = (across * turn.cos() - down * turn.sin()) * mirror
    y = across * turn.sin() + down * turn.cos()
    return torch.stack([x, y], dim=2).view(count, size, size, 2)


def _taken_from(
    images: Tensor, alpha: Tensor, found: Tensor, grid: Tensor
) -> tuple[Tensor, Tensor]:
    """Photos and masks through the grids: beyond the edge lies paper, or the photo's mirror."""
    # 1 - image, so that the sampler's zeros are white.
    both = torch.cat([1 - images, alpha], dim=1)
    folded = 1 - ((grid + 1) % 4 - 2).abs()
    grid = torch.where(found[:, None, None, None], grid, folded)
    both = functional.grid_sample(both, grid, align_corners=False)
    alpha = torch.where(found[:, None, None, None], both[:, 3:], torch.ones_like(both[:, 3:]))
    return 1 - both[:, :3], alpha


def _shadows(alpha: Tensor, draw: Draw, strength: float) -> Tensor:
    """Soft shadows beside the products, [B, 1, S, S]: what to multiply the background with."""
    count, size = len(alpha), alpha.shape[2]
    small = functional.adaptive_avg_pool2d(alpha, max(4, size // 4))
    small = functional.avg_pool2d(small, 3, stride=1, padding=1)
    matrix = torch.eye(2, 3, device=alpha.device).repeat(count, 1, 1)
    matrix[:, :, 2] = draw.uniform(-0.2, 0.2, count, 2)
    grid = functional.affine_grid(matrix, list(small.shape), align_corners=False)
    moved = functional.grid_sample(small, grid, align_corners=False)
    dark = draw.uniform(0, 0.6, count, 1, 1, 1) * min(strength, 1.5)
    return 1 - dark * functional.interpolate(moved, size=(size, size), mode="bilinear")


def _covered(images: Tensor, draw: Draw, strength: float) -> Tensor:
    """A hand, a hanger, a thumb: a plain ellipse over a third of the photos."""
    count, size = len(images), images.shape[2]
    places = torch.linspace(0, 1, size, device=images.device)
    middle, radius = draw.uniform(0, 1, count, 2), draw.uniform(0.04, 0.2, count, 2)
    present = draw.uniform(0, 1, count) < 0.35 * strength
    x = (places[None, None, :] - middle[:, 0, None, None]) / radius[:, 0, None, None]
    y = (places[None, :, None] - middle[:, 1, None, None]) / radius[:, 1, None, None]
    inside = (x.square() + y.square() < 1) & present[:, None, None]
    return torch.where(inside[:, None], draw.colours(count), images)


def _camera(images: Tensor, draw: Draw, strength: float) -> Tensor:
    """Blur, noise (in the colours coarser, as sensors give it) and JPEG."""
    count, size = len(images), images.shape[2]
    soft = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    images = torch.lerp(images, soft, draw.uniform(-0.3, 1, count, 1, 1, 1) * min(strength, 1))
    level = draw.uniform(0, 1, count, 1, 1, 1).square() * 0.035 * strength
    grain = draw.normal(count, 1, size, size)
    coarse = functional.interpolate(
        draw.normal(count, 3, (size + 1) // 2, (size + 1) // 2), size=(size, size)
    )
    images = (images + level * (grain + 0.5 * coarse)).clamp(0, 1)
    low, high = JPEG_QUALITY
    return compress(images, draw.uniform(high - (high - low) * min(strength, 1), high, count))


def _framed(images: Tensor, draw: Draw) -> Tensor:
    """White bars left and right, or above and below: how a photo that is not square is decoded."""
    count, size = len(images), images.shape[2]
    places = (torch.arange(size, device=images.device) + 0.5) / size
    bar = draw.uniform(0.1, 0.2, count, 1) * (draw.uniform(0, 1, count, 1) < FRAMED)
    line = (places < bar) | (places > 1 - bar)
    upright = draw.uniform(0, 1, count, 1, 1, 1) < 0.8
    bars = torch.where(upright, line[:, None, None, :], line[:, None, :, None])
    return torch.where(bars, torch.ones_like(images), images)
