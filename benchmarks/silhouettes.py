"""What a drawn product looks like from far away: its outline by kind, length, sleeves and neckline.

Shapes lie in a square: x from -0.5 to 0.5 about the middle, y from 0 at the top to 1. They are painted
one over the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from shop.drawing.design import Design

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


def shapes(design: Design) -> list[Shape]:
    """What `design` is put together from."""
    return _DRAWN[design.kind](design)


# -- shapes ---------------------------------------------------------------------------------------


def _polygon(layer: Layer, *points: XY) -> Shape:
    return Shape(layer=layer, points=points)


def _both_sides(layer: Layer, *right: XY) -> Shape:
    """A polygon from its right half, from top to bottom."""
    left = tuple((-x, y) for x, y in reversed(right))
    return Shape(layer=layer, points=(*right, *left))


def _mirrored(shape: Shape) -> list[Shape]:
    other = tuple((-x, y) for x, y in shape.points)
    if shape.form == "ellipse":  # left before right
        (x0, y0), (x1, y1) = shape.points
        other = ((-x1, y0), (-x0, y1))
    return [shape, Shape(layer=shape.layer, form=shape.form, points=other)]


def _box(layer: Layer, x0: float, y0: float, x1: float, y1: float) -> Shape:
    return _polygon(layer, (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _ellipse(layer: Layer, x0: float, y0: float, x1: float, y1: float) -> Shape:
    return Shape(layer=layer, form="ellipse", points=((x0, y0), (x1, y1)))


# -- what has sleeves -----------------------------------------------------------------------------

SHOULDER = 0.15
SLEEVES = {"sleeveless": 0.0, "short": 0.17, "three-quarter": 0.36, "long": 0.52}
TOPS = {"cropped": 0.5, "regular": 0.66, "long": 0.84}
SKIRTS = {"mini": 0.34, "midi": 0.58, "maxi": 0.82}
DRESSES = {"mini": 0.68, "midi": 0.83, "maxi": 0.98}
COATS = {"mini": 0.72, "midi": 0.85, "maxi": 0.98}


def _sleeves(design: Design, *, half: float, wide: float) -> list[Shape]:
    """Sleeves of a garment whose shoulders are `half` a width apart from the middle."""
    long = SLEEVES[design.sleeve]
    if not long:
        return []
    end = (half + 0.04 + 0.22 * long, SHOULDER + 0.03 + long)
    inner = (end[0] - wide, end[1] + 0.01)
    arm = _polygon(
        Layer.CLOTH,
        (half - 0.06, SHOULDER - 0.03),
        (half + 0.03, SHOULDER + 0.01),
        end,
        inner,
        (half - 0.01, SHOULDER + 0.16),
    )
    # A dark line where arm and body part, which a pattern would hide.
    seam = _polygon(
        Layer.TRIM,
        (half - 0.012, SHOULDER + 0.05),
        (half + 0.008, SHOULDER + 0.05),
        (half - 0.002, SHOULDER + 0.2),
        (half - 0.016, SHOULDER + 0.2),
    )
    return [*_mirrored(arm), *_mirrored(seam)]


def _neck(design: Design) -> list[Shape]:
    match design.neckline:
        case "v-neck":
            return [_both_sides(Layer.GONE, (0.09, 0.09), (0.0, 0.3))]
        case "round":
            return [_ellipse(Layer.GONE, -0.12, 0.03, 0.12, 0.23)]
        case "turtleneck":
            return [_box(Layer.TRIM, -0.085, 0.03, 0.085, SHOULDER + 0.02)]
        case "collar":
            gone = _both_sides(Layer.GONE, (0.06, 0.09), (0.0, 0.2))
            tip = _polygon(Layer.TRIM, (0.07, 0.08), (0.12, 0.14), (0.07, 0.25), (0.01, 0.19))
            return [gone, *_mirrored(tip)]
        case "hood":
            hood = _ellipse(Layer.TRIM, -0.15, 0.0, 0.15, 0.28)
            return [hood, _ellipse(Layer.GONE, -0.08, 0.03, 0.08, 0.2)]
    return [_ellipse(Layer.GONE, -0.08, 0.06, 0.08, 0.18)]


def _body(*, half: float, waist: float, hem: float, bottom: float) -> Shape:
    return _both_sides(
        Layer.CLOTH,
        (0.08, 0.1),
        (half, SHOULDER),
        (half, SHOULDER + 0.14),
        (waist, 0.42),
        (hem, bottom),
    )


def _top(
    design: Design,
    *,
    half: float = 0.21,
    waist: float = 0.2,
    hem: float = 0.21,
    bottom: float | None = None,
    sleeve: float = 0.13,
) -> list[Shape]:
    bottom = TOPS[design.length] if bottom is None else bottom
    half -= 0.05 * (design.sleeve == "sleeveless")
    body = _body(half=half, waist=min(waist, half + 0.01), hem=hem, bottom=bottom)
    return [body, *_sleeves(design, half=half, wide=sleeve), *_neck(design)]


def _front(bottom: float) -> Shape:
    """The line of buttons down the front."""
    return _box(Layer.TRIM, -0.012, 0.2, 0.012, bottom)


def _tshirt(design: Design) -> list[Shape]:
    return _top(design)


def _shirt(design: Design) -> list[Shape]:
    return [*_top(design, hem=0.2, sleeve=0.1), _front(TOPS[design.length])]


def _blouse(design: Design) -> list[Shape]:
    return _top(design, half=0.19, waist=0.17, hem=0.26, sleeve=0.17)


def _sweater(design: Design) -> list[Shape]:
    bottom = TOPS[design.length]
    band = _box(Layer.TRIM, -0.23, bottom - 0.05, 0.23, bottom)
    return [*_top(design, half=0.23, waist=0.23, hem=0.23, sleeve=0.15), band]


def _hoodie(design: Design) -> list[Shape]:
    bottom = TOPS[design.length]
    pocket = _both_sides(Layer.TRIM, (0.08, bottom - 0.2), (0.14, bottom - 0.06))
    return [*_top(design, half=0.23, waist=0.24, hem=0.24, sleeve=0.15), pocket]


def _open_front(bottom: float) -> list[Shape]:
    """Lapels, and a lining that shows down the front."""
    lapel = _polygon(Layer.TRIM, (0.08, 0.1), (0.14, 0.26), (0.03, 0.42), (0.0, 0.42))
    return [_both_sides(Layer.TRIM, (0.03, 0.3), (0.03, bottom)), *_mirrored(lapel)]


def _jacket(design: Design) -> list[Shape]:
    bottom = TOPS[design.length]
    pocket = _box(Layer.TRIM, 0.09, bottom - 0.18, 0.19, bottom - 0.15)
    body = _top(design, half=0.25, waist=0.24, hem=0.24, sleeve=0.14)
    return [*body, *_open_front(bottom), *_mirrored(pocket)]


def _coat(design: Design) -> list[Shape]:
    bottom = COATS[design.length]
    body = _top(design, half=0.24, waist=0.21, hem=0.29, bottom=bottom, sleeve=0.13)
    belt = _box(Layer.TRIM, -0.22, 0.44, 0.22, 0.48)
    return [*body, *_open_front(bottom), belt]


def _dress(design: Design) -> list[Shape]:
    bottom = DRESSES[design.length]
    return _top(design, half=0.18, waist=0.12, hem=0.36 * bottom, bottom=bottom, sleeve=0.1)


# -- what has none --------------------------------------------------------------------------------


def _skirt(design: Design) -> list[Shape]:
    long = SKIRTS[design.length]
    cloth = _both_sides(Layer.CLOTH, (0.13, 0.1), (0.18 + 0.2 * long, 0.14 + long))
    return [cloth, _box(Layer.TRIM, -0.135, 0.09, 0.135, 0.14)]


def _legs(design: Design, *, bottom: float, wide: float) -> list[Shape]:
    leg = _polygon(
        Layer.CLOTH,
        (0.0, 0.06),
        (0.16, 0.06),
        (0.2, 0.3),
        (0.2 + 0.02 * wide / 0.1, bottom),
        (0.2 - wide, bottom),
        (0.012, 0.34),
    )
    return [*_mirrored(leg), _box(Layer.TRIM, -0.16, 0.05, 0.16, 0.1)]


def _trousers(design: Design) -> list[Shape]:
    return _legs(design, bottom={"cropped": 0.74, "long": 0.97}[design.length], wide=0.15)


def _jeans(design: Design) -> list[Shape]:
    bottom = {"cropped": 0.74, "long": 0.97}[design.length]
    pocket = _polygon(Layer.TRIM, (0.06, 0.1), (0.17, 0.1), (0.18, 0.19), (0.1, 0.17))
    seam = _box(Layer.TRIM, -0.01, 0.1, 0.01, 0.33)
    return [*_legs(design, bottom=bottom, wide=0.09), *_mirrored(pocket), seam]


def _shorts(design: Design) -> list[Shape]:
    return _legs(design, bottom={"short": 0.46, "knee-length": 0.64}[design.length], wide=0.19)


def _sneaker(design: Design) -> list[Shape]:
    top = {"low": 0.42, "high": 0.2}[design.length]
    upper = _polygon(
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
        _polygon(
            Layer.TRIM, (x, y), (x + 0.1, y + 0.04), (x + 0.09, y + 0.07), (x - 0.01, y + 0.03)
        )
        for x, y in ((-0.1, 0.5), (-0.02, 0.54), (0.06, 0.58))
    ]
    return [upper, *laces, _box(Layer.TRIM, -0.44, 0.74, 0.46, 0.82)]


def _boot(design: Design) -> list[Shape]:
    top = {"ankle": 0.42, "knee-high": 0.04}[design.length]
    upper = _polygon(
        Layer.CLOTH,
        (-0.26, top),
        (0.02, top),
        (0.0, 0.62),
        (0.3, 0.76),
        (0.34, 0.88),
        (-0.24, 0.88),
    )
    sole = _polygon(Layer.TRIM, (-0.25, 0.88), (0.35, 0.88), (0.35, 0.92), (-0.06, 0.92))
    return [upper, sole, _box(Layer.TRIM, -0.25, 0.88, -0.1, 0.98)]


def _handbag(design: Design) -> list[Shape]:
    bag = _both_sides(Layer.CLOTH, (0.27, 0.42), (0.36, 0.9))
    flap = _box(Layer.TRIM, -0.28, 0.42, 0.28, 0.47)
    handle = [
        _ellipse(Layer.TRIM, -0.2, 0.12, 0.2, 0.72),
        _ellipse(Layer.GONE, -0.14, 0.18, 0.14, 0.66),
    ]
    return [*handle, bag, flap, _box(Layer.TRIM, -0.04, 0.44, 0.04, 0.56)]


def _beanie(design: Design) -> list[Shape]:
    dome = _ellipse(Layer.CLOTH, -0.34, 0.14, 0.34, 1.1)
    below = _box(Layer.GONE, -0.5, 0.8, 0.5, 1.2)
    pompom = _ellipse(Layer.TRIM, -0.09, 0.04, 0.09, 0.22)
    return [dome, below, pompom, _box(Layer.TRIM, -0.36, 0.64, 0.36, 0.8)]


def _cap(design: Design) -> list[Shape]:
    dome = _ellipse(Layer.CLOTH, -0.38, 0.24, 0.22, 1.0)
    below = _box(Layer.GONE, -0.5, 0.62, 0.5, 1.1)
    brim = _polygon(Layer.TRIM, (0.02, 0.56), (0.3, 0.58), (0.47, 0.7), (0.1, 0.67), (-0.1, 0.62))
    return [dome, below, brim]


_DRAWN: dict[str, Callable[[Design], list[Shape]]] = {
    "t-shirt": _tshirt,
    "shirt": _shirt,
    "blouse": _blouse,
    "sweater": _sweater,
    "hoodie": _hoodie,
    "jacket": _jacket,
    "coat": _coat,
    "dress": _dress,
    "skirt": _skirt,
    "trousers": _trousers,
    "jeans": _jeans,
    "shorts": _shorts,
    "sneaker": _sneaker,
    "boot": _boot,
    "handbag": _handbag,
    "beanie": _beanie,
    "cap": _cap,
}
