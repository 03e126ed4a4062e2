"""Silhouettes of what has shoulders: T-shirts to coats and dresses, by length, sleeves and neckline."""

from __future__ import annotations

from benchmarks.silhouettes.shapes import Layer, Shape, both_sides, box, ellipse, mirrored, polygon
from shop.drawing.design import Design

SHOULDER = 0.15
SLEEVES = {"sleeveless": 0.0, "short": 0.17, "three-quarter": 0.36, "long": 0.52}
TOPS = {"cropped": 0.5, "regular": 0.66, "long": 0.84}
DRESSES = {"mini": 0.68, "midi": 0.83, "maxi": 0.98}
COATS = {"mini": 0.72, "midi": 0.85, "maxi": 0.98}


def _sleeves(design: Design, *, half: float, wide: float) -> list[Shape]:
    """Sleeves of a garment whose shoulders are `half` a width apart from the middle."""
    long = SLEEVES[design.sleeve]
    if not long:
        return []
    end = (half + 0.04 + 0.22 * long, SHOULDER + 0.03 + long)
    inner = (end[0] - wide, end[1] + 0.01)
    arm = polygon(
        Layer.CLOTH,
        (half - 0.06, SHOULDER - 0.03),
        (half + 0.03, SHOULDER + 0.01),
        end,
        inner,
        (half - 0.01, SHOULDER + 0.16),
    )
    # A dark line where arm and body part, which a pattern would hide.
    seam = polygon(
        Layer.TRIM,
        (half - 0.012, SHOULDER + 0.05),
        (half + 0.008, SHOULDER + 0.05),
        (half - 0.002, SHOULDER + 0.2),
        (half - 0.016, SHOULDER + 0.2),
    )
    return [*mirrored(arm), *mirrored(seam)]


def _neck(design: Design) -> list[Shape]:
    match design.neckline:
        case "v-neck":
            return [both_sides(Layer.GONE, (0.09, 0.09), (0.0, 0.3))]
        case "round":
            return [ellipse(Layer.GONE, -0.12, 0.03, 0.12, 0.23)]
        case "turtleneck":
            return [box(Layer.TRIM, -0.085, 0.03, 0.085, SHOULDER + 0.02)]
        case "collar":
            gone = both_sides(Layer.GONE, (0.06, 0.09), (0.0, 0.2))
            tip = polygon(Layer.TRIM, (0.07, 0.08), (0.12, 0.14), (0.07, 0.25), (0.01, 0.19))
            return [gone, *mirrored(tip)]
        case "hood":
            hood = ellipse(Layer.TRIM, -0.15, 0.0, 0.15, 0.28)
            return [hood, ellipse(Layer.GONE, -0.08, 0.03, 0.08, 0.2)]
    return [ellipse(Layer.GONE, -0.08, 0.06, 0.08, 0.18)]


def _body(*, half: float, waist: float, hem: float, bottom: float) -> Shape:
    return both_sides(
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
    return box(Layer.TRIM, -0.012, 0.2, 0.012, bottom)


def t_shirt(design: Design) -> list[Shape]:
    return _top(design)


def shirt(design: Design) -> list[Shape]:
    return [*_top(design, hem=0.2, sleeve=0.1), _front(TOPS[design.length])]


def blouse(design: Design) -> list[Shape]:
    return _top(design, half=0.19, waist=0.17, hem=0.26, sleeve=0.17)


def sweater(design: Design) -> list[Shape]:
    bottom = TOPS[design.length]
    band = box(Layer.TRIM, -0.23, bottom - 0.05, 0.23, bottom)
    return [*_top(design, half=0.23, waist=0.23, hem=0.23, sleeve=0.15), band]


def hoodie(design: Design) -> list[Shape]:
    bottom = TOPS[design.length]
    pocket = both_sides(Layer.TRIM, (0.08, bottom - 0.2), (0.14, bottom - 0.06))
    return [*_top(design, half=0.23, waist=0.24, hem=0.24, sleeve=0.15), pocket]


def _open_front(bottom: float) -> list[Shape]:
    """Lapels, and a lining that shows down the front."""
    lapel = polygon(Layer.TRIM, (0.08, 0.1), (0.14, 0.26), (0.03, 0.42), (0.0, 0.42))
    return [both_sides(Layer.TRIM, (0.03, 0.3), (0.03, bottom)), *mirrored(lapel)]


def jacket(design: Design) -> list[Shape]:
    bottom = TOPS[design.length]
    pocket = box(Layer.TRIM, 0.09, bottom - 0.18, 0.19, bottom - 0.15)
    body = _top(design, half=0.25, waist=0.24, hem=0.24, sleeve=0.14)
    return [*body, *_open_front(bottom), *mirrored(pocket)]


def coat(design: Design) -> list[Shape]:
    bottom = COATS[design.length]
    body = _top(design, half=0.24, waist=0.21, hem=0.29, bottom=bottom, sleeve=0.13)
    belt = box(Layer.TRIM, -0.22, 0.44, 0.22, 0.48)
    return [*body, *_open_front(bottom), belt]


def dress(design: Design) -> list[Shape]:
    bottom = DRESSES[design.length]
    return _top(design, half=0.18, waist=0.12, hem=0.36 * bottom, bottom=bottom, sleeve=0.1)
