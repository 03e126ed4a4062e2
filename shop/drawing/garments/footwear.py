"""Shoes as they are photographed: side by side, from either side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from shop.drawing.design import View
from shop.drawing.geometry import Points, points, scale, shift
from shop.drawing.layers import Button, Layer, Line, Piece

FLOOR = 408.0


def pair(one: list[Layer], view: View) -> list[Layer]:
    """The far shoe a little higher, further right and darker; a detail shows one shoe only."""
    if view is View.DETAIL:
        return one
    far: list[Layer] = []
    for layer in one:
        match layer:
            case Piece():
                far.append(replace(layer, outline=_back(layer.outline), dim=max(layer.dim, 0.06)))
            case Line():
                far.append(replace(layer, track=_back(layer.track)))
            case Button():
                spot = _back(points(layer.centre))[0]
                far.append(replace(layer, centre=(float(spot[0]), float(spot[1]))))
    return [*far, *[_front(layer) for layer in one]]


def _back(outline: Points) -> Points:
    return shift(scale(outline, 0.95, (0, FLOOR)), 38, -44)


def _move(layer: Layer, change: Callable[[Points], Points]) -> Layer:
    match layer:
        case Piece():
            return replace(layer, outline=change(layer.outline))
        case Line():
            return replace(layer, track=change(layer.track))
    spot = change(points(layer.centre))[0]
    return replace(layer, centre=(float(spot[0]), float(spot[1])))


def _front(layer: Layer) -> Layer:
    return _move(layer, lambda outline: shift(outline, -26, 24))


def flip(layers: list[Layer]) -> list[Layer]:
    """The other side of the shoe."""
    return [_move(layer, lambda o: o * np.asarray([-1, 1], np.float32)) for layer in layers]
