"""Photos of 64 pixels that show a drawn product: its outline, colour and pattern; a millisecond each."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.silhouettes import Layer, shapes
from shop.drawing.design import Design
from shop.drawing.fabric import dye_cloth

SIDE = 64
"""Pixels; a file of about two kilobytes."""
FINER = 2
"""Times as many pixels a side in which outlines are drawn, so that edges are smooth."""
CLOTH_PIXELS = 4.0
"""Pixels of the shop's large photos to one of these, for patterns: so that few repeats are seen, but seen."""
BLOCK_BELOW = 0.5
"""Where a colour-blocked product changes its colour, in heights of the product."""

Plane = NDArray[np.float32]
INK = {Layer.GONE: 0, Layer.CLOTH: 1, Layer.TRIM: 2}


def draw(design: Design, *, shot: tuple[int, ...]) -> bytes:
    """A JPEG of `design`; each `shot` has a place, a size, a light and a grain of its own."""
    chance = np.random.default_rng(shot)
    size = float(chance.uniform(0.84, 0.98)) * SIDE
    left, top = (float(place) * (SIDE - size) for place in chance.uniform(0, 1, size=2))
    cloth, trim = _masks(design, size=size, left=left, top=top)

    pixels = np.full((SIDE, SIDE, 3), chance.uniform(244, 253), dtype=np.float32)
    light = float(chance.uniform(0.94, 1.05)) * _roundness(cloth + trim)[..., None]
    colours = _colours(design, size=size, left=left, top=top)
    plain = np.asarray(design.trim().rgb, dtype=np.float32)
    # Darker than the cloth; on what is nearly black a band would not be seen then.
    band = plain * 0.72 if plain.mean() > 70 else plain * 0.8 + 45
    pixels += cloth[..., None] * (colours * light - pixels)
    pixels += trim[..., None] * (band * light - pixels)
    pixels += chance.normal(0, 2.5, size=(SIDE, SIDE, 1)).astype(np.float32)

    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _masks(design: Design, *, size: float, left: float, top: float) -> tuple[Plane, Plane]:
    """How much of every pixel is cloth and how much is trim, 0 to 1."""
    drawn = Image.new("L", (SIDE * FINER, SIDE * FINER))
    pencil = ImageDraw.Draw(drawn)
    for shape in shapes(design):
        points = [
            ((left + (x + 0.5) * size) * FINER, (top + y * size) * FINER) for x, y in shape.points
        ]
        paint = pencil.ellipse if shape.form == "ellipse" else pencil.polygon
        paint(points, fill=INK[shape.layer])
    cloth, trim = (
        np.asarray(drawn.point(_only(layer)).reduce(FINER), dtype=np.float32) / 255
        for layer in (Layer.CLOTH, Layer.TRIM)
    )
    return cloth, trim


@cache
def _only(layer: Layer) -> list[int]:
    """The table that makes 255 of this layer's ink, and 0 of any other."""
    return [255 * (ink == INK[layer]) for ink in range(256)]


def _roundness(product: Plane) -> Plane:
    """Light by pixel: what lies at the outline is darker, so that white on white has one."""
    near = product
    for axis in (0, 1):
        near = (near + np.roll(near, 1, axis) + np.roll(near, -1, axis)) / 3
    return 0.7 + 0.3 * near


def _colours(design: Design, *, size: float, left: float, top: float) -> Plane:
    """The colour of the cloth at every pixel, [SIDE, SIDE, 3]."""
    middle = BLOCK_BELOW * size * CLOTH_PIXELS
    cloth = design.cloth(block_y=middle)
    if cloth.pattern == "plain":
        return np.broadcast_to(np.asarray(cloth.rgb, dtype=np.float32), (SIDE, SIDE, 3))
    places = np.arange(SIDE, dtype=np.float32)
    u = np.broadcast_to((places - left) * CLOTH_PIXELS, (SIDE, SIDE))
    v = np.broadcast_to(((places - top) * CLOTH_PIXELS)[:, None], (SIDE, SIDE))
    return dye_cloth(cloth, u, v)
