"""Dresses and skirts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from shop.drawing.design import Design, View
from shop.drawing.garments.body import (
    Cut,
    armhole_seams,
    inside,
    neck_curve,
    seam,
    sleeve_layers,
    torso_folds,
)
from shop.drawing.garments.details import (
    neckband,
    patch_pocket,
    placket,
    shirt_collar,
    turtleneck,
)
from shop.drawing.garments.tops import NECKS
from shop.drawing.geometry import Points, cubic, join, mirror, points, quad, symmetric
from shop.drawing.layers import Button, Cloth, Drape, Layer, Line, Piece
from shop.drawing.palette import darker

DRESS_BOTTOMS = {"mini": 372.0, "midi": 468.0, "maxi": 560.0}
SKIRT_BOTTOMS = {"mini": 292.0, "midi": 412.0, "maxi": 532.0}


def waved_hem(half: float, y: float, sag: float, waves: int, depth: float) -> Points:
    """The right half of a hem that swings in and out with the folds above it."""
    hem = []
    steps = max(1, waves) * 2
    for k in range(steps + 1):
        x = half * (1 - k / steps)
        drop = sag * (1 - (x / half) ** 2)
        hem.append((x, y + drop + (depth if k % 2 else 0)))
    curve = [points(hem[0])]
    for a, b in pairwise(hem):
        middle = (a[0] + b[0]) / 2
        curve.append(cubic(a, (middle, a[1]), (middle, b[1]), b, n=6)[1:])
    return join(*curve)


def dress(design: Design, view: View) -> list[Layer]:
    chance, back = design.random("dress"), view is View.BACK
    bottom = DRESS_BOTTOMS[design.length] + chance.uniform(-7, 7)
    waist_y = 60 + 178 + chance.uniform(-10, 12)
    bare = design.sleeve == "sleeveless"
    flare = chance.uniform(0.10, 0.32) if design.length != "mini" else chance.uniform(0.14, 0.34)
    neck = NECKS.get(design.neckline, {"neck": 38.0, "neck_depth": 24.0})
    cut = Cut(
        top=62,
        shoulder=66 if bare else 80,
        slope=18,
        armhole=82,
        chest=74,
        waist=61,
        hem=64,
        bottom=waist_y,
        sag=3,
        sleeve_width=50,
        cuff_width=34,
        sleeve_angle=chance.uniform(11, 14),
        neck_shape=design.neckline or "crew",
        neck=neck["neck"] * (0.84 if bare else 0.9),
        neck_depth=neck["neck_depth"],
    )
    hem_half = 70 + (bottom - waist_y) * flare + 18
    cloth = design.cloth(block_y=waist_y)
    layers: list[Layer] = [] if back or design.neckline == "turtleneck" else inside(cut, cloth)
    layers += sleeve_layers(
        cut,
        design,
        cloth,
        design.random("sleeves"),
        cuff=12 if design.sleeve == "long" else 0,
        puffed=chance.choice([0.0, 8.0, 16.0]),
        puff=15,
    )
    layers.append(_dress_front(cut, cloth, design, waist_y, bottom, hem_half, back=back))
    layers += armhole_seams(cut, cloth, opacity=0.3)
    if chance.random() < 0.55:
        layers += _belt(cut, design, waist_y)
    else:
        layers.append(
            seam(
                quad((-cut.waist - 1, waist_y), (0, waist_y + 6), (cut.waist + 1, waist_y)),
                cloth,
                opacity=0.5,
            )
        )
    if design.neckline == "turtleneck":
        layers += turtleneck(replace(cut, neck=36), design.trim(), height=34)
    elif design.neckline == "collar" and not back:
        layers += placket(
            cloth, cut.top + cut.neck_depth, waist_y - 8, width=12, spacing=34, radius=3.1
        )
        layers += shirt_collar(cut, cloth, length=34)
    else:
        narrow = replace(cut, neck_depth=9.0, neck_shape="crew") if back else cut
        layers += neckband(narrow, design.trim(), width=5, rib=False)[1 if back else 0 :]
    if back:
        layers.append(seam(points((0, cut.top + 12), (0, waist_y + 50)), cloth, opacity=0.5))
    return layers


def _dress_front(
    cut: Cut,
    cloth: Cloth,
    design: Design,
    waist_y: float,
    bottom: float,
    hem_half: float,
    *,
    back: bool,
) -> Piece:
    chance = design.random("drape")
    sx, sy = cut.shoulder, cut.top + cut.slope
    ux, uy = cut.armpit
    half = join(
        quad((cut.neck, cut.top), ((cut.neck + sx) / 2, cut.top + 7), (sx, sy)),
        cubic((sx, sy), (sx - 9, sy + cut.armhole * 0.45), (ux - 12, uy - 14), (ux, uy))[1:],
        cubic((ux, uy), (ux + 1, uy + 26), (cut.waist, waist_y - 34), (cut.waist, waist_y))[1:],
        cubic(
            (cut.waist, waist_y),
            (cut.waist + 8, waist_y + 34),
            (hem_half - 10, bottom - 90),
            (hem_half, bottom),
        )[1:],
        waved_hem(hem_half, bottom, 9, chance.randint(2, 4), chance.uniform(1.5, 4.5))[1:],
    )
    neck = neck_curve(cut, depth=8 if back else None)
    folds = torso_folds(replace(cut, bottom=waist_y), chance, amount=0.6)
    return Piece(
        outline=join(neck, half[1:], mirror(half)[:-1]),
        cloth=cloth,
        puff=28,
        wrinkle=0.7,
        folds=folds,
        shadow=0.28,
        seed=chance.randrange(200),
        drape=Drape(
            count=chance.uniform(3.4, 6.2),
            strength=chance.uniform(0.6, 1.0),
            phase=chance.uniform(0, 6),
            top=waist_y - 12,
            bottom=bottom,
            top_half=cut.waist,
            bottom_half=hem_half,
        ),
    )


def _belt(cut: Cut, design: Design, y: float) -> list[Layer]:
    """A tied belt of the same cloth."""
    trim = Cloth(rgb=darker(design.cloth().rgb, 0.10), weave=design.weave)
    band = symmetric(
        join(
            quad((0, y - 3), (cut.waist * 0.5, y - 4), (cut.waist + 1, y - 8)),
            quad((cut.waist + 2, y + 8), (cut.waist * 0.5, y + 12), (0, y + 13)),
        )
    )
    knot = join(
        quad((-8, y - 4), (0, y - 9), (9, y - 3)), quad((8, y + 12), (0, y + 16), (-8, y + 12))
    )
    tail = join(
        quad((0, y + 8), (12, y + 50), (6, y + 98)), quad((18, y + 97), (22, y + 48), (8, y + 6))
    )
    other = join(
        quad((-2, y + 8), (-9, y + 40), (-4, y + 76)),
        quad((-15, y + 76), (-19, y + 36), (-8, y + 5)),
    )
    style = {"cloth": trim, "puff": 7.0, "wrinkle": 0.5, "shadow": 0.35, "shadow_reach": 4.0}
    return [Piece(outline=shape, **style) for shape in (band, tail, other, knot)]


def skirt(design: Design, view: View) -> list[Layer]:
    chance, back = design.random("skirt"), view is View.BACK
    top, waist = 112.0, 74 + chance.uniform(-3, 4)
    bottom = SKIRT_BOTTOMS[design.length] + chance.uniform(-7, 7)
    stiff = design.material in {"denim", "leather"}
    flare = chance.uniform(0.05, 0.16) if stiff else chance.uniform(0.16, 0.34)
    hem_half = waist + 28 + (bottom - top) * flare
    cloth = design.cloth(block_y=top + (bottom - top) * 0.55)
    half = join(
        points((waist, top)),
        cubic(
            (waist, top), (waist + 14, top + 46), (hem_half - 10, bottom - 80), (hem_half, bottom)
        ),
        waved_hem(
            hem_half,
            bottom,
            10,
            1 if stiff else chance.randint(3, 4),
            0.0 if stiff else chance.uniform(2, 5),
        )[1:],
    )
    body = Piece(
        outline=join(quad((-waist, top), (0, top + 7), (waist, top)), half[1:], mirror(half)[:-1]),
        cloth=cloth,
        puff=30,
        wrinkle=0.9,
        shadow=0.3,
        seed=chance.randrange(200),
        drape=Drape(
            count=chance.uniform(1.6, 2.6) if stiff else chance.uniform(4.2, 7.4),
            strength=0.28 if stiff else chance.uniform(0.75, 1.1),
            phase=chance.uniform(0, 6),
            top=top + 4,
            bottom=bottom,
            top_half=waist,
            bottom_half=hem_half,
        ),
    )
    inner = Piece(
        outline=join(
            quad((-waist, top - 12), (0, top - 22), (waist, top - 12)),
            quad((waist, top), (0, top + 10), (-waist, top)),
        ),
        cloth=Cloth(rgb=darker(cloth.rgb, 0.35), weave=design.weave),
        puff=8,
        wrinkle=0.2,
        relief=0.4,
        shadow=0,
    )
    band = Piece(
        outline=join(
            quad((-waist, top - 14), (0, top - 4), (waist, top - 14)),
            quad((waist + 1, top + 6), (0, top + 17), (-waist - 1, top + 6)),
        ),
        cloth=design.trim(),
        puff=7,
        wrinkle=0.3,
        shadow=0.32,
        shadow_reach=4,
    )
    layers: list[Layer] = [inner, body, band]
    layers.append(seam(quad((-waist, top + 3), (0, top + 13), (waist, top + 3)), cloth, dash=3))
    layers.append(
        seam(
            quad((-hem_half + 4, bottom - 8), (0, bottom + 9), (hem_half - 4, bottom - 8), n=24),
            cloth,
            dash=3.4,
        )
    )
    if stiff:
        gold = (186, 150, 92) if design.material == "denim" else darker(cloth.rgb, 0.5)
        layers.append(
            Line(
                track=points(
                    (0, top + 16), (0, bottom + 8 if design.length != "mini" else top + 96)
                ),
                rgb=darker(cloth.rgb, 0.6),
                width=1.2,
                opacity=0.6,
            )
        )
        if back:
            for side in (-1, 1):
                layers += patch_pocket((side * 42, top + 44), (44, 50), cloth)
        else:
            layers.append(Button(centre=(0, top + 4), radius=4.6, rgb=(168, 146, 108), metal=True))
            for side in (-1, 1):
                curve = quad(
                    (side * 26, top + 14), (side * 34, top + 44), (side * (waist + 9), top + 48)
                )
                layers += [
                    Line(track=curve, rgb=gold, width=1.1, opacity=0.8, dash=3.4),
                    seam(curve, cloth),
                ]
    elif back:
        layers.append(seam(points((0, top + 14), (0, top + 104)), cloth, opacity=0.55))
    elif chance.random() < 0.4:
        layers += [
            Button(centre=(0, y), radius=3.8, rgb=(236, 228, 210))
            for y in range(int(top + 30), int(bottom - 14), 34)
        ]
    return layers
