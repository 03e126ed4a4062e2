"""Parts that many clothes share: neckbands, collars, plackets, buttons, pockets and ribbed edges."""

from __future__ import annotations

import numpy as np

from shop.drawing.design import Design
from shop.drawing.garments.body import Cut, neck_curve, seam
from shop.drawing.geometry import XY, Points, cubic, join, mirror, points, quad, sweep, symmetric
from shop.drawing.layers import Button, Cloth, Layer, Piece
from shop.drawing.palette import RGB, darker, lighter, luminance


def neckband(cut: Cut, cloth: Cloth, *, width: float = 9.0, rib: bool = True) -> list[Layer]:
    """A sewn-on band along the neckline, or a narrow facing without ribs."""
    curve = neck_curve(cut)
    band = sweep(curve + np.asarray([0, width / 2 - 1], np.float32), [width * 0.9, width])
    back = quad((-cut.neck, cut.top + 2), (0, cut.top - 8), (cut.neck, cut.top + 2))
    behind = sweep(back, [width * 0.8, width * 0.9])
    style = {"puff": 5.0, "wrinkle": 0.0, "relief": 0.7}
    return [
        Piece(outline=behind, cloth=cloth, shadow=0.15, shadow_reach=3, dim=0.16, **style),
        Piece(
            outline=band, cloth=cloth, shadow=0.25, shadow_reach=3, ribs=3.6 if rib else 0, **style
        ),
        seam(neck_curve(cut) + np.asarray([0, width + 1.5], np.float32), cloth, dash=2.8),
    ]


def turtleneck(cut: Cut, cloth: Cloth, *, height: float = 46.0) -> list[Layer]:
    """A folded, ribbed tube around the neck."""
    n, y = cut.neck, cut.top
    opening = symmetric(
        join(
            points((0, y - height - 5)),
            quad((n * 0.7, y - height - 3), (n - 4, y - height), (n - 3, y - height + 6)),
        )
    )
    tube = symmetric(
        join(
            points((0, y - height + 7)),
            quad((n * 0.55, y - height + 7), (n - 2, y - height + 5), (n - 3, y - height + 1)),
            cubic((n + 2, y - height * 0.5), (n + 3, y - 8), (n + 5, y + 4), (n + 3, y + 8)),
            quad((n * 0.7, y + 20), (n * 0.4, y + 24), (0, y + 24)),
        )
    )
    dark = Cloth(rgb=darker(cloth.rgb, 0.35), weave=cloth.weave)
    return [
        Piece(outline=opening, cloth=dark, puff=6, wrinkle=0, shadow=0.1, relief=0.4),
        Piece(
            outline=tube, cloth=cloth, puff=18, wrinkle=0.4, ribs=5.2, shadow=0.4, shadow_reach=6
        ),
    ]


def shirt_collar(
    cut: Cut, cloth: Cloth, *, spread: float = 1.0, length: float = 44.0
) -> list[Layer]:
    """Stand and two leaves of a shirt collar, closed at the throat."""
    n, y = cut.neck, cut.top
    low = y + cut.neck_depth
    behind = symmetric(
        join(
            points((0, y - 17)),
            quad((n * 0.7, y - 17), (n + 2, y - 12), (n + 3, y + 2)),
            quad((n * 0.8, y + 9), (n * 0.4, y + 12), (0, y + 12)),
        )
    )
    leaf = join(
        quad((n + 2, y + 1), (n - 2, y - 14), (n * 0.72, y - 15)),
        cubic((n * 0.66, y - 4), (n * 0.5, low - 14), (10, low - 4), (1, low)),
        points((n * 0.50 * spread + 8, low + length * 0.66)),
        quad((n * 0.62 * spread + 10, low + length * 0.56), (n + 6, y + 26), (n + 6, y + 7)),
    )
    dark = Cloth(rgb=darker(cloth.rgb, 0.14), weave=cloth.weave, accent=cloth.accent)
    layers: list[Layer] = [
        Piece(outline=behind, cloth=dark, puff=9, wrinkle=0, relief=0.6, shadow=0.1)
    ]
    for side, shape in ((-1, mirror(leaf)), (1, leaf)):
        layers.append(
            Piece(
                outline=shape,
                cloth=cloth,
                angle=side * 24,
                puff=6,
                relief=0.6,
                wrinkle=0.2,
                shadow=0.45,
                shadow_reach=5,
            )
        )
        layers.append(seam(_inset(shape, 3.0), cloth, dash=2.6, opacity=0.3))
    return layers


def _inset(outline: Points, by: float) -> Points:
    """An outline drawn in towards its middle, for stitches along an edge."""
    middle = outline.mean(axis=0)
    away = outline - middle
    reach = np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-3)[:, None]
    inner = middle + away * np.maximum(1 - by / reach, 0.2)
    return np.concatenate([inner, inner[:1]])


def placket(
    cloth: Cloth,
    top: float,
    bottom: float,
    *,
    width: float = 15.0,
    spacing: float = 44.0,
    button: RGB | None = None,
    radius: float = 3.6,
    x: float = 0.0,
) -> list[Layer]:
    """The buttoned strip down the front."""
    half = width / 2
    strip = points((x - half, top), (x + half, top), (x + half, bottom), (x - half, bottom))
    layers: list[Layer] = [
        Piece(
            outline=strip,
            cloth=cloth,
            puff=3,
            relief=0.35,
            wrinkle=0.5,
            shadow=0.30,
            shadow_reach=3,
        ),
        seam(points((x - half + 2, top), (x - half + 2, bottom)), cloth, dash=3, opacity=0.3),
        seam(points((x + half - 2, top), (x + half - 2, bottom)), cloth, dash=3, opacity=0.3),
    ]
    colour = button or default_button(cloth.rgb)
    y = top + 12
    while y < bottom - 16:
        layers.append(Button(centre=(x, y), radius=radius, rgb=colour))
        y += spacing
    return layers


def default_button(rgb: RGB) -> RGB:
    return (244, 240, 230) if luminance(rgb) > 0.45 else darker(lighter(rgb, 0.22), 0.1)


def patch_pocket(
    centre: XY, size: XY, cloth: Cloth, *, flap: bool = False, pointed: bool = True
) -> list[Layer]:
    """A sewn-on pocket, the top of which is at ``centre``."""
    (x, y), (w, h) = centre, size
    tip = h * 0.16 if pointed else 0
    shape = points(
        (x - w / 2, y),
        (x + w / 2, y),
        (x + w / 2, y + h - tip),
        (x, y + h),
        (x - w / 2, y + h - tip),
    )
    layers: list[Layer] = [
        Piece(
            outline=shape, cloth=cloth, puff=4, relief=0.4, wrinkle=0.3, shadow=0.28, shadow_reach=3
        ),
        seam(_inset(shape, 3.2), cloth, dash=2.8, opacity=0.45),
    ]
    if flap:
        lid = points(
            (x - w / 2 - 2, y - 3),
            (x + w / 2 + 2, y - 3),
            (x + w / 2 + 2, y + h * 0.2),
            (x, y + h * 0.34),
            (x - w / 2 - 2, y + h * 0.2),
        )
        layers += [
            Piece(
                outline=lid,
                cloth=cloth,
                puff=4,
                relief=0.5,
                wrinkle=0.2,
                shadow=0.4,
                shadow_reach=3,
            ),
            seam(_inset(lid, 3), cloth, dash=2.8, opacity=0.45),
            Button(centre=(x, y + h * 0.22), radius=2.6, rgb=default_button(cloth.rgb)),
        ]
    return layers


def rib_hem(cut: Cut, design: Design, *, height: float = 20.0) -> list[Layer]:
    """The ribbed band that gathers a sweater at its hem."""
    half, y = cut.hem, cut.bottom
    outline = symmetric(
        join(
            quad((0, y + cut.sag - 3), (half * 0.6, y + cut.sag - 3), (half + 1, y - 3)),
            quad((half - 4, y + height * 0.5), (half - 6, y + height), (half - 7, y + height - 1)),
            quad(
                (half * 0.5, y + height + cut.sag),
                (half * 0.3, y + height + cut.sag),
                (0, y + height + cut.sag),
            ),
        )
    )
    return [
        Piece(
            outline=outline,
            cloth=design.trim(),
            puff=10,
            wrinkle=0.3,
            ribs=5.0,
            shadow=0.2,
            shadow_reach=3,
        )
    ]
