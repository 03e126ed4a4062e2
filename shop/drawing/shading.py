"""Light on cloth: a height field from outline, folds and creases, lit from the upper left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shop.drawing.fabric import SURFACES, crease_tile
from shop.drawing.geometry import Points
from shop.drawing.layers import Drape, Fold, Piece

Plane = NDArray[np.float32]
COARSE = 4  # light changes slowly: it is computed on every fourth pixel
LIGHT = (-0.55, -0.62)


def blur(plane: Plane, radius: float) -> Plane:
    """Three box blurs, close to a Gaussian of that radius; outside counts as 0."""
    reach = max(1, round(radius))
    width = 2 * reach + 1
    height, across = plane.shape
    for _ in range(3):
        total = np.zeros((height + width, across), dtype=np.float32)
        total[reach + 1 : reach + 1 + height] = plane
        np.cumsum(total, axis=0, out=total)
        plane = total[width:] - total[:height]
        total = np.zeros((height, across + width), dtype=np.float32)
        total[:, reach + 1 : reach + 1 + across] = plane
        np.cumsum(total, axis=1, out=total)
        plane = total[:, width:] - total[:, :across]
        plane *= np.float32(1 / width**2)
    return plane


def enlarge(plane: Plane, size: tuple[int, int]) -> Plane:
    """A coarse field at full size (width, height)."""
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def crease(fold: Fold, x: Plane, y: Plane) -> Plane:
    """Height of one fold: a ridge that rises and dies away along its length."""
    (x0, y0), (x1, y1) = fold.start, fold.end
    dx, dy = x1 - x0, y1 - y0
    t = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-3), 0, 1)
    across = ((x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2) / np.float32(fold.width**2)
    return fold.strength * np.exp(-across) * (1 - t) ** 0.7 * np.clip(t * 6 + 0.3, 0, 1)


def draped(drape: Drape, x: Plane, y: Plane) -> Plane:
    """Height of falling folds, deeper and wider towards the hem."""
    down = np.clip((y - drape.top) / max(drape.bottom - drape.top, 1), 0, 1)
    half = drape.top_half + (drape.bottom_half - drape.top_half) * down
    across = x / half
    angle = across * (drape.count * np.pi) + drape.phase
    wave = np.sin(angle) + 0.45 * np.sin(2.3 * angle + 1.7 + 1.4 * down)
    return (drape.strength * (0.18 + 0.82 * down) * wave).astype(np.float32)


def light(piece: Piece, mask: Plane, x: Plane, y: Plane, zoom: float) -> tuple[Plane, Plane]:
    """Brightness (about 1) and height on the coarse grid.

    ``mask`` is the piece's coverage there, ``x`` and ``y`` the garment coordinates of its points.
    """
    _, shine, visible = SURFACES[piece.cloth.weave]
    reach = piece.puff * zoom / COARSE
    wide, near = blur(mask, reach / 1.6), blur(mask, max(1.0, reach / 5))
    # Small parts lie flat; large ones are filled by the body.
    relief = piece.relief * zoom * min(piece.puff * 0.85, 24.0)
    height = relief * (0.88 * wide + 0.12 * near)
    creases = np.zeros_like(mask)
    if piece.wrinkle:
        tile = crease_tile()
        rows = ((y * 0.40 + x * 0.16 + piece.seed * 37) % 256).astype(np.int32)
        columns = ((x * 0.66 - y * 0.2 + piece.seed * 91) % 256).astype(np.int32)
        creases += 3.4 * piece.wrinkle * tile[rows, columns]
    for fold in piece.folds:
        creases += 6.5 * crease(fold, x, y)
    if piece.drape is not None:
        creases += 5.2 * draped(piece.drape, x, y)
    height = height + creases * visible * zoom
    slope_y, slope_x = slope(height, 0), slope(height, 1)
    facing = -(slope_x * LIGHT[0] + slope_y * LIGHT[1])
    # The edge turns away from the camera, so less light comes back from it.
    rim = np.clip((wide - 0.42) * 2.6, 0, 1)
    depth = np.where(facing > 0, np.float32(0.17), np.float32(0.46))
    bright = 1.02 + depth * np.tanh(1.25 * facing) - 0.07 * (1 - rim)
    if shine:
        bright = bright + shine * 1.3 * np.clip(facing - 0.08, 0, 1) ** 1.5
    return bright.astype(np.float32), creases


def slope(height: Plane, axis: int) -> Plane:
    """How much the height rises a pixel; 0 for a sliver of one coarse step."""
    if height.shape[axis] < 2:
        return np.zeros_like(height)
    return np.gradient(height, np.float32(COARSE), axis=axis)


def ribs(piece: Piece, u: Plane) -> Plane:
    """Knitted ribs along the weave."""
    return (1 + 0.10 * np.sin(u * np.float32(2 * np.pi / piece.ribs))).astype(np.float32)


def bounds(outline: Points, pad: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box of an outline in whole coarse steps, kept on the canvas: left, top, right, bottom."""
    low, high = outline.min(axis=0) - pad, outline.max(axis=0) + pad
    left, top = (int(max(0, v) // COARSE * COARSE) for v in low)
    right = int(min(size[0], -(-high[0] // COARSE) * COARSE))
    bottom = int(min(size[1], -(-high[1] // COARSE) * COARSE))
    return left, top, right, bottom
