"""Beanies and caps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shop.drawing.design import Design, View
from shop.drawing.garments.body import seam
from shop.drawing.geometry import cubic, join, mirror, points, quad, shift, smooth, symmetric
from shop.drawing.layers import Button, Cloth, Drape, Layer, Line, Piece
from shop.drawing.palette import darker, lighter


def beanie(design: Design, view: View) -> list[Layer]:
    chance = design.random("beanie")
    half, top, brim = 116.0, 176 + chance.uniform(-14, 12), 372.0
    fold = chance.uniform(54, 72)
    cloth = design.cloth(block_y=top + 96)
    dome = symmetric(
        join(
            points((0, top)),
            cubic((0, top), (54, top - 4), (102, top + 54), (half - 2, brim)),
            points((0, brim + 10)),
        )
    )
    cuff = symmetric(
        join(
            quad((0, brim - 12), (half * 0.6, brim - 14), (half + 2, brim - 22)),
            cubic(
                (half + 2, brim - 22),
                (half + 10, brim),
                (half + 8, brim + fold - 24),
                (half + 3, brim + fold - 14),
            ),
            quad((half * 0.6, brim + fold), (half * 0.3, brim + fold), (0, brim + fold)),
        )
    )
    layers: list[Layer] = [
        Piece(
            outline=dome,
            cloth=cloth,
            puff=44,
            relief=1.2,
            wrinkle=0.6,
            ribs=8.0,
            shadow=0.2,
            drape=Drape(
                count=7, strength=0.35, top=brim, bottom=top, top_half=half, bottom_half=40
            ),
        )
    ]
    if chance.random() < 0.5:
        layers += _pompom(top, cloth)
    layers.append(
        Piece(
            outline=cuff,
            cloth=design.trim(),
            puff=20,
            relief=1.0,
            wrinkle=0.4,
            ribs=8.0,
            shadow=0.5,
            shadow_reach=7,
        )
    )
    if view is not View.BACK:
        tag = points(
            (34, brim + fold * 0.25),
            (72, brim + fold * 0.22),
            (72, brim + fold * 0.62),
            (34, brim + fold * 0.65),
        )
        layers.append(
            Piece(
                outline=tag,
                cloth=Cloth(rgb=(136, 98, 62), weave="leather"),
                puff=4,
                wrinkle=0,
                shadow=0.35,
                shadow_reach=3,
            )
        )
    return layers


def _pompom(top: float, cloth: Cloth) -> list[Layer]:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = 40 + 3.2 * np.sin(angles * 17) + 2.0 * np.sin(angles * 29 + 1)
    ball = np.stack([radius * np.cos(angles), top - 22 + radius * np.sin(angles)], 1).astype(
        np.float32
    )
    layers: list[Layer] = [
        Piece(
            outline=ball,
            cloth=Cloth(rgb=lighter(cloth.rgb, 0.12), weave="felt"),
            puff=26,
            relief=1.3,
            wrinkle=2.2,
            shadow=0.3,
        )
    ]
    for k in range(0, 64, 2):
        inner = (float(ball[k][0] * 0.35), float(top - 22 + (ball[k][1] - top + 22) * 0.35))
        layers.append(
            Line(
                track=points(inner, tuple(ball[k] * np.float32(1))),
                rgb=darker(cloth.rgb, 0.4) if k % 4 else lighter(cloth.rgb, 0.4),
                width=1,
                opacity=0.28,
            )
        )
    return layers


def cap(design: Design, view: View) -> list[Layer]:
    """Seen from three quarters, the peak towards the left."""
    y = 358.0
    cloth = design.cloth(block_y=y - 58)
    chance = design.random("cap")
    dome = smooth(
        [
            (-96, y + 4),
            (-108, y - 46),
            (-86, y - 112),
            (-30, y - 150),
            (36, y - 154),
            (94, y - 122),
            (122, y - 62),
            (124, y - 2),
            (60, y + 20),
            (-30, y + 22),
        ]
    )
    # A stiff crescent, sewn to the front of the dome and bent down towards its tip.
    peak = join(
        cubic((-103, y - 24), (-146, y - 14), (-196, y + 16), (-207, y + 38)),
        cubic((-207, y + 38), (-211, y + 51), (-190, y + 53), (-170, y + 48)),
        cubic((-170, y + 48), (-112, y + 32), (-40, y + 34), (46, y + 22)),
        cubic((46, y + 22), (18, y + 14), (-58, y + 6), (-103, y - 24)),
    )
    under = join(
        cubic((-207, y + 40), (-211, y + 54), (-190, y + 58), (-170, y + 53)),
        cubic((-170, y + 53), (-110, y + 38), (-38, y + 41), (46, y + 22)),
        cubic((46, y + 22), (-58, y + 20), (-150, y + 30), (-207, y + 40)),
    )
    trim = design.trim()
    layers: list[Layer] = [
        Piece(
            outline=dome,
            cloth=cloth,
            puff=46,
            relief=1.2,
            wrinkle=0.5,
            shadow=0.2,
            seed=chance.randrange(99),
        )
    ]
    for end in ((-74, y - 4), (6, y + 10), (84, y + 8)):
        middle = (end[0] * 1.08, y - 100)
        track = quad((8, y - 154), middle, end, n=20)
        layers += [
            seam(track, cloth, opacity=0.5),
            seam(shift(track, 4, 0), cloth, dash=3.2, opacity=0.3),
        ]
    layers.append(Button(centre=(8, y - 154), radius=7, rgb=darker(cloth.rgb, 0.1), metal=True))
    layers += [
        Line(
            track=smooth([(x, h), (x + 4, h + 2), (x + 3, h + 6), (x - 1, h + 4)]),
            rgb=darker(cloth.rgb, 0.6),
            width=1.4,
            opacity=0.6,
        )
        for x, h in ((-44, y - 96), (62, y - 92))
    ]
    layers.append(
        Piece(
            outline=under,
            cloth=Cloth(rgb=darker(cloth.rgb, 0.4), weave="canvas"),
            puff=6,
            wrinkle=0,
            shadow=0.3,
        )
    )
    layers.append(
        Piece(
            outline=peak, cloth=trim, puff=12, relief=0.9, wrinkle=0.1, shadow=0.4, shadow_reach=6
        )
    )
    for k in range(3):
        layers.append(
            seam(
                shift(
                    quad(
                        (-186 + k * 20, y + 37 - k * 9), (-92, y + 15 - k * 7), (22, y + 20 - k * 3)
                    ),
                    0,
                    3,
                ),
                cloth,
                dash=3.2,
                opacity=0.3,
            )
        )
    if view is View.BACK:
        return [_turned(layer) for layer in layers]
    if chance.random() < 0.6:
        patch = smooth([(-52, y - 70), (-14, y - 78), (-10, y - 38), (-48, y - 30)])
        layers.append(
            Piece(
                outline=patch,
                cloth=Cloth(rgb=cloth.accent, weave="felt"),
                puff=4,
                wrinkle=0,
                shadow=0.3,
                shadow_reach=2,
            )
        )
    return layers


def _turned(layer: Layer) -> Layer:
    match layer:
        case Piece():
            return replace(layer, outline=mirror(layer.outline))
        case Line():
            return replace(layer, track=mirror(layer.track))
    return replace(layer, centre=(-layer.centre[0], layer.centre[1]))
