"""Curves and outlines in garment space: x from the middle of the photo, y from its top, in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]  # [n, 2]
XY = tuple[float, float]


def points(*corners: XY) -> Points:
    return np.asarray(corners, dtype=np.float32)


def cubic(start: XY, first: XY, second: XY, end: XY, n: int = 14) -> Points:
    """A cubic Bézier curve as ``n`` points, its ends included."""
    t = np.linspace(0, 1, n, dtype=np.float32)[:, None]
    s = 1 - t
    p = points(start, first, second, end)
    return s**3 * p[0] + 3 * s * s * t * p[1] + 3 * s * t * t * p[2] + t**3 * p[3]


def quad(start: XY, control: XY, end: XY, n: int = 12) -> Points:
    """A quadratic Bézier curve as ``n`` points."""
    t = np.linspace(0, 1, n, dtype=np.float32)[:, None]
    p = points(start, control, end)
    return (1 - t) ** 2 * p[0] + 2 * (1 - t) * t * p[1] + t * t * p[2]


def join(*pieces: Points) -> Points:
    return np.concatenate(pieces)


def mirror(outline: Points) -> Points:
    """The same outline on the other side, walked backwards so that halves can be joined."""
    return outline[::-1] * np.asarray([-1, 1], dtype=np.float32)


def symmetric(half: Points) -> Points:
    """A closed outline from its right half, given from top to bottom."""
    return join(half, mirror(half))


def smooth(corners: Sequence[XY], *, closed: bool = True, n: int = 8) -> Points:
    """A Catmull-Rom curve through the corners."""
    p = np.asarray(corners, dtype=np.float32)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    flat = curve.transpose(1, 0, 2).reshape(-1, 2)
    return flat if closed else np.concatenate([flat, p[-2:-1]])


def sweep(centre: Points, widths: Sequence[float]) -> Points:
    """The outline of a band along a curve; ``widths`` are full widths, spread evenly along it."""
    steps = np.gradient(centre, axis=0)
    lengths = np.maximum(np.hypot(steps[:, 0], steps[:, 1]), 1e-6)
    normals = np.stack([-steps[:, 1], steps[:, 0]], axis=1) / lengths[:, None]
    where = np.linspace(0, 1, len(centre))
    half = np.interp(where, np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    return np.concatenate([centre + normals * half, (centre - normals * half)[::-1]]).astype(
        np.float32
    )


def shift(outline: Points, dx: float = 0, dy: float = 0) -> Points:
    return outline + np.asarray([dx, dy], dtype=np.float32)


def rotate(outline: Points, degrees: float, centre: XY = (0, 0)) -> Points:
    a = np.deg2rad(degrees)
    turn = np.asarray([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]], dtype=np.float32)
    middle = np.asarray(centre, dtype=np.float32)
    return (outline - middle) @ turn + middle


def scale(outline: Points, factor: float, centre: XY = (0, 0)) -> Points:
    middle = np.asarray(centre, dtype=np.float32)
    return (outline - middle) * np.float32(factor) + middle
