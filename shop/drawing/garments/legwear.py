"""Trousers, jeans and shorts."""

from __future__ import annotations

import random

from shop.drawing.design import Design, View
from shop.drawing.garments.body import seam
from shop.drawing.garments.details import patch_pocket
from shop.drawing.geometry import cubic, join, mirror, points, quad, shift
from shop.drawing.layers import Button, Cloth, Fold, Layer, Line, Piece
from shop.drawing.palette import RGB, darker

LEG_BOTTOMS = {"cropped": 452.0, "long": 552.0}
SHORT_BOTTOMS = {"short": 232.0, "knee-length": 308.0}
TOP = 62.0


def trousers(design: Design, view: View) -> list[Layer]:
    width = design.random("legs").choice([(40.0, 30.0), (44.0, 38.0), (48.0, 54.0)])
    return _legs(design, view, LEG_BOTTOMS[design.length], knee=width[0], hem=width[1], jeans=False)


def jeans(design: Design, view: View) -> list[Layer]:
    width = design.random("legs").choice([(37.0, 27.0), (41.0, 36.0), (44.0, 50.0)])
    return _legs(design, view, LEG_BOTTOMS[design.length], knee=width[0], hem=width[1], jeans=True)


def shorts(design: Design, view: View) -> list[Layer]:
    bottom = SHORT_BOTTOMS[design.length]
    return [*_legs(design, view, bottom, knee=57, hem=60, jeans=design.material == "denim")]


def _legs(
    design: Design, view: View, bottom: float, *, knee: float, hem: float, jeans: bool
) -> list[Layer]:
    chance, back = design.random("fit"), view is View.BACK
    bottom += chance.uniform(-6, 6)
    waist, hip = 74 + chance.uniform(-3, 3), 96 + chance.uniform(-3, 4)
    crotch = TOP + 136
    spread = 12 + chance.uniform(0, 6)
    cloth = design.cloth(block_y=TOP + (bottom - TOP) * 0.5)
    short = bottom < 330
    middle = hip * 0.5 + spread * 0.4
    ends = middle + spread * (0.7 if short else 1.5)
    knee_y = crotch + (bottom - crotch) * 0.45
    hips = [
        quad((0, TOP + 8), (waist * 0.5, TOP + 6), (waist, TOP)),
        cubic((waist, TOP), (waist + 12, TOP + 36), (hip, TOP + 60), (hip + 1, crotch - 20))[1:],
    ]
    if short:
        wide = hip + 12
        legs = [
            quad((hip + 1, crotch - 20), (hip + 3, crotch + 10), (wide, bottom))[1:],
            quad((wide, bottom), (wide * 0.55, bottom + 8), (7, bottom + 3)),
            quad((7, bottom + 3), (5, crotch + 10), (0, crotch))[1:],
        ]
        ends, hem = (wide + 7) / 2, (wide - 7) / 2
    else:
        legs = [
            cubic(
                (hip + 1, crotch - 20),
                (hip + 1, crotch + 26),
                (middle + knee + 4, knee_y - 30),
                (middle + knee, knee_y),
            )[1:],
            cubic(
                (middle + knee, knee_y),
                (middle + knee, knee_y + 30),
                (ends + hem, bottom - 50),
                (ends + hem, bottom),
            )[1:],
            quad((ends + hem, bottom), (ends, bottom + 6), (ends - hem, bottom + 1)),
            cubic(
                (ends - hem, bottom + 1),
                (ends - hem, bottom - 50),
                (middle - knee + 3, knee_y + 30),
                (middle - knee + 4, knee_y),
            )[1:],
            cubic(
                (middle - knee + 4, knee_y),
                (middle - knee, knee_y - 40),
                (6, crotch + 30),
                (0, crotch),
            )[1:],
        ]
    leg = join(*hips, *legs)
    layers: list[Layer] = []
    inner = join(
        quad((-waist + 1, TOP - 12), (0, TOP - 22), (waist - 1, TOP - 12)),
        quad((waist, TOP), (0, TOP + 9), (-waist, TOP)),
    )
    layers.append(
        Piece(
            outline=inner,
            cloth=Cloth(rgb=darker(cloth.rgb, 0.35), weave=design.weave),
            puff=7,
            wrinkle=0.2,
            relief=0.4,
            shadow=0,
        )
    )
    for side in (-1, 1):
        layers.append(
            Piece(
                outline=leg if side > 0 else mirror(leg),
                cloth=cloth,
                puff=25,
                wrinkle=0.9,
                angle=side * -2.0,
                relief=1.05,
                folds=_leg_folds(chance, side, middle, knee, crotch, knee_y, bottom, short=short),
                shadow=0.25,
                shadow_reach=5,
                seed=chance.randrange(200),
            )
        )
        cuff = points(
            (side * (ends + hem - 1), bottom - 11), (side * (ends - hem + 1), bottom - 10)
        )
        layers.append(seam(cuff, cloth, dash=3.4))
    layers.append(seam(points((0, TOP + 10), (0, crotch)), cloth, opacity=0.6))
    band = join(
        quad((-waist, TOP - 12), (0, TOP - 3), (waist, TOP - 12)),
        quad((waist + 3, TOP + 9), (0, TOP + 18), (-waist - 3, TOP + 9)),
    )
    layers.append(
        Piece(outline=band, cloth=design.trim(), puff=7, wrinkle=0.3, shadow=0.35, shadow_reach=4)
    )
    thread: RGB = (190, 152, 92) if jeans else darker(cloth.rgb, 0.5)
    layers.append(
        Line(
            track=quad((-waist, TOP + 6), (0, TOP + 15), (waist, TOP + 6)),
            rgb=thread,
            width=1,
            opacity=0.6,
            dash=3.4,
        )
    )
    return layers + (
        _seat(cloth, thread) if back else _front(cloth, thread, waist, hip, jeans=jeans)
    )


def _leg_folds(
    chance: random.Random,
    side: int,
    middle: float,
    knee: float,
    crotch: float,
    knee_y: float,
    bottom: float,
    *,
    short: bool,
) -> tuple[Fold, ...]:
    folds = []
    for k in range(4):  # from the crotch outwards
        reach = chance.uniform(0.5, 1.25)
        folds.append(
            Fold(
                start=(side * 3, crotch - 6 + 5 * k),
                end=(side * (middle + knee * reach * 0.6), crotch - 34 + k * 22),
                width=chance.uniform(4, 7),
                strength=chance.uniform(0.5, 1.0),
            )
        )
    if short:
        return tuple(folds)
    for k in range(4):  # behind the knee
        y = knee_y - 26 + k * 18 + chance.uniform(-6, 6)
        folds.append(
            Fold(
                start=(side * (middle - knee * 0.8), y),
                end=(side * (middle + knee * 0.5), y + chance.uniform(-10, 16)),
                width=chance.uniform(4, 8),
                strength=chance.uniform(0.3, 0.8),
            )
        )
    for k in range(3):  # where the leg breaks on the shoe
        y = bottom - 52 + k * 17
        folds.append(
            Fold(
                start=(side * (middle + knee * 1.1), y),
                end=(side * (middle + 4), y + chance.uniform(2, 14)),
                width=chance.uniform(4, 7),
                strength=chance.uniform(0.4, 0.9),
            )
        )
    return tuple(folds)


def _front(cloth: Cloth, thread: RGB, waist: float, hip: float, *, jeans: bool) -> list[Layer]:
    layers: list[Layer] = []
    fly = join(
        points((17, TOP + 14)),
        cubic((17, TOP + 14), (17, TOP + 72), (16, TOP + 92), (0, TOP + 104)),
    )
    layers.append(Line(track=fly, rgb=thread, width=1.1, opacity=0.75, dash=3.4))
    for side in (-1, 1):
        if jeans:
            curve = quad((side * 30, TOP + 12), (side * 36, TOP + 44), (side * (hip - 3), TOP + 48))
            layers += [
                seam(curve, cloth, opacity=0.6),
                Line(track=shift(curve, 0, 4), rgb=thread, width=1.1, opacity=0.8, dash=3.4),
            ]
            layers.append(
                Button(centre=(side * 32, TOP + 18), radius=1.9, rgb=(188, 140, 92), metal=True)
            )
        else:
            slit = points((side * (waist - 22), TOP + 14), (side * (hip - 5), TOP + 72))
            layers += [
                seam(slit, cloth, opacity=0.75),
                seam(shift(slit, -side * 3.5, 0), cloth, dash=3, opacity=0.4),
            ]
    layers += _loops(cloth, waist)
    layers.append(
        Button(
            centre=(0, TOP + 4),
            radius=4.8,
            rgb=(172, 150, 112) if jeans else darker(cloth.rgb, 0.3),
            metal=jeans,
        )
    )
    return layers


def _loops(cloth: Cloth, waist: float) -> list[Layer]:
    return [
        Piece(
            outline=points(
                (x - 3.5, TOP - 9), (x + 3.5, TOP - 9), (x + 3.5, TOP + 20), (x - 3.5, TOP + 20)
            ),
            cloth=Cloth(rgb=cloth.rgb, weave=cloth.weave),
            puff=3,
            wrinkle=0,
            shadow=0.35,
            shadow_reach=3,
        )
        for x in (-waist * 0.52, waist * 0.52)
    ]


def _seat(cloth: Cloth, thread: RGB) -> list[Layer]:
    layers: list[Layer] = []
    for side in (-1, 1):
        yoke = quad((0, TOP + 50), (side * 50, TOP + 36), (side * 92, TOP + 30))
        layers += [
            seam(yoke, cloth, opacity=0.5),
            Line(track=shift(yoke, 0, 3.5), rgb=thread, width=1, opacity=0.6, dash=3.4),
        ]
        layers += patch_pocket((side * 46, TOP + 56), (52, 60), cloth)
    return layers
