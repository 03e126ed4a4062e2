"""Silhouettes of skirts, trousers, shoes, bags and hats."""

from __future__ import annotations

from benchmarks.silhouettes.shapes import Layer, Shape, both_sides, box, ellipse, mirrored, polygon
from shop.drawing.design import Design

SKIRTS = {"mini": 0.34, "midi": 0.58, "maxi": 0.82}


def skirt(design: Design) -> list[Shape]:
    long = SKIRTS[design.length]
    cloth = both_sides(Layer.CLOTH, (0.13, 0.1), (0.18 + 0.2 * long, 0.14 + long))
    return [cloth, box(Layer.TRIM, -0.135, 0.09, 0.135, 0.14)]


def _legs(design: Design, *, bottom: float, wide: float) -> list[Shape]:
    leg = polygon(
        Layer.CLOTH,
        (0.0, 0.06),
        (0.16, 0.06),
        (0.2, 0.3),
        (0.2 + 0.02 * wide / 0.1, bottom),
        (0.2 - wide, bottom),
        (0.012, 0.34),
    )
    return [*mirrored(leg), box(Layer.TRIM, -0.16, 0.05, 0.16, 0.1)]


def trousers(design: Design) -> list[Shape]:
    return _legs(design, bottom={"cropped": 0.74, "long": 0.97}[design.length], wide=0.15)


def jeans(design: Design) -> list[Shape]:
    bottom = {"cropped": 0.74, "long": 0.97}[design.length]
    pocket = polygon(Layer.TRIM, (0.06, 0.1), (0.17, 0.1), (0.18, 0.19), (0.1, 0.17))
    seam = box(Layer.TRIM, -0.01, 0.1, 0.01, 0.33)
    return [*_legs(design, bottom=bottom, wide=0.09), *mirrored(pocket), seam]


def shorts(design: Design) -> list[Shape]:
    return _legs(design, bottom={"short": 0.46, "knee-length": 0.64}[design.length], wide=0.19)


def sneaker(design: Design) -> list[Shape]:
    top = {"low": 0.42, "high": 0.2}[design.length]
    upper = polygon(
        Layer.CLOTH,
        (-0.4, top),
        (-0.14, top),
        (-0.06, 0.46),
        (0.2, 0.56),
        (0.4, 0.66),
        (0.42, 0.74),
        (-0.42, 0.74),
    )
    laces = [
        polygon(Layer.TRIM, (x, y), (x + 0.1, y + 0.04), (x + 0.09, y + 0.07), (x - 0.01, y + 0.03))
        for x, y in ((-0.1, 0.5), (-0.02, 0.54), (0.06, 0.58))
    ]
    return [upper, *laces, box(Layer.TRIM, -0.44, 0.74, 0.46, 0.82)]


def boot(design: Design) -> list[Shape]:
    top = {"ankle": 0.42, "knee-high": 0.04}[design.length]
    upper = polygon(
        Layer.CLOTH,
        (-0.26, top),
        (0.02, top),
        (0.0, 0.62),
        (0.3, 0.76),
        (0.34, 0.88),
        (-0.24, 0.88),
    )
    sole = polygon(Layer.TRIM, (-0.25, 0.88), (0.35, 0.88), (0.35, 0.92), (-0.06, 0.92))
    return [upper, sole, box(Layer.TRIM, -0.25, 0.88, -0.1, 0.98)]


def handbag(design: Design) -> list[Shape]:
    bag = both_sides(Layer.CLOTH, (0.27, 0.42), (0.36, 0.9))
    flap = box(Layer.TRIM, -0.28, 0.42, 0.28, 0.47)
    handle = [
        ellipse(Layer.TRIM, -0.2, 0.12, 0.2, 0.72),
        ellipse(Layer.GONE, -0.14, 0.18, 0.14, 0.66),
    ]
    return [*handle, bag, flap, box(Layer.TRIM, -0.04, 0.44, 0.04, 0.56)]


def beanie(design: Design) -> list[Shape]:
    dome = ellipse(Layer.CLOTH, -0.34, 0.14, 0.34, 1.1)
    below = box(Layer.GONE, -0.5, 0.8, 0.5, 1.2)
    pompom = ellipse(Layer.TRIM, -0.09, 0.04, 0.09, 0.22)
    return [dome, below, pompom, box(Layer.TRIM, -0.36, 0.64, 0.36, 0.8)]


def cap(design: Design) -> list[Shape]:
    dome = ellipse(Layer.CLOTH, -0.38, 0.24, 0.22, 1.0)
    below = box(Layer.GONE, -0.5, 0.62, 0.5, 1.1)
    brim = polygon(Layer.TRIM, (0.02, 0.56), (0.3, 0.58), (0.47, 0.7), (0.1, 0.67), (-0.1, 0.62))
    return [dome, below, brim]
