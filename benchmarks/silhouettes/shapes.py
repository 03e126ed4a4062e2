"""Polygons and ellipses that a silhouette is put together from.

They lie in a square: x from -0.5 to 0.5 about the middle, y from 0 at the top to 1. They are painted one
over the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

XY = tuple[float, float]


class Layer(StrEnum):
    """What a shape is made of."""

    CLOTH = "cloth"
    """With the design's pattern."""
    TRIM = "trim"
    """The same colour, darker and without the pattern: collars, bands, seams, straps."""
    GONE = "gone"
    """Nothing: what is behind the product."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    layer: Layer
    form: Literal["polygon", "ellipse"] = "polygon"
    points: tuple[XY, ...]
    """Corners; of an ellipse, the two corners of its box."""


def polygon(layer: Layer, *points: XY) -> Shape:
    return Shape(layer=layer, points=points)


def both_sides(layer: Layer, *right: XY) -> Shape:
    """A polygon from its right half, from top to bottom."""
    left = tuple((-x, y) for x, y in reversed(right))
    return Shape(layer=layer, points=(*right, *left))


def mirrored(shape: Shape) -> list[Shape]:
    other = tuple((-x, y) for x, y in shape.points)
    if shape.form == "ellipse":  # left before right
        (x0, y0), (x1, y1) = shape.points
        other = ((-x1, y0), (-x0, y1))
    return [shape, Shape(layer=shape.layer, form=shape.form, points=other)]


def box(layer: Layer, x0: float, y0: float, x1: float, y1: float) -> Shape:
    return polygon(layer, (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def ellipse(layer: Layer, x0: float, y0: float, x1: float, y1: float) -> Shape:
    return Shape(layer=layer, form="ellipse", points=((x0, y0), (x1, y1)))
