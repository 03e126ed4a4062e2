"""Jackets."""

from __future__ import annotations

from dataclasses import replace

from shop.drawing.design import Design, View
from shop.drawing.garments.body import (
    Cut,
    armhole_seams,
    inside,
    seam,
    sleeve_layers,
    torso,
    torso_folds,
)
from shop.drawing.garments.details import (
    patch_pocket,
    placket,
    rib_hem,
    shirt_collar,
)
from shop.drawing.garments.tops import cut_for
from shop.drawing.geometry import join, mirror, points, quad, shift, symmetric
from shop.drawing.layers import Button, Cloth, Layer, Line, Piece
from shop.drawing.palette import darker, lighter


def jacket(design: Design, view: View) -> list[Layer]:
    base = cut_for(design, sleeve_width=70, cuff_width=50)
    cut = replace(
        base,
        neck_shape="crew",
        neck=42,
        neck_depth=30,
        chest=base.chest + 8,
        waist=base.waist + 9,
        hem=base.hem + 2,
        shoulder=base.shoulder + 6,
        sag=4,
    )
    cloth, back, chance = (
        design.cloth(block_y=cut.top + 140),
        view is View.BACK,
        design.random("jacket"),
    )
    knit_trim = design.material in {"cotton", "wool"} and chance.random() < 0.5
    layers = [] if back else inside(cut, cloth)
    layers += sleeve_layers(
        cut,
        design,
        cloth,
        design.random("sleeves"),
        cuff=22,
        rib_cuff=knit_trim,
        puff=20,
        relief=1.15,
    )
    layers.append(
        Piece(
            outline=torso(cut, back=back),
            cloth=cloth,
            puff=32,
            relief=1.1,
            wrinkle=1.1,
            folds=torso_folds(cut, design.random("folds"), amount=0.9),
            shadow=0.35,
            seed=chance.randrange(200),
        )
    )
    layers += armhole_seams(cut, cloth, opacity=0.55)
    thread = (190, 154, 96) if design.material == "denim" else lighter(cloth.rgb, 0.25)
    if back:
        yoke = quad(
            (-cut.shoulder + 2, cut.top + 74), (0, cut.top + 84), (cut.shoulder - 2, cut.top + 74)
        )
        layers += [
            seam(yoke, cloth, opacity=0.5),
            Line(track=shift(yoke, 0, 4), rgb=thread, width=1, opacity=0.6, dash=3.4),
        ]
        layers += [
            seam(points((side * 38, cut.top + 80), (side * 30, cut.bottom)), cloth, opacity=0.45)
            for side in (-1, 1)
        ]
    elif design.material == "leather":
        layers += _biker(cut, cloth)
    elif knit_trim:
        layers += _zip(cut, cloth, cut.top + cut.neck_depth, cut.bottom + 20)
        layers += _slant_pockets(cut, cloth)
    else:
        layers += placket(
            cloth,
            cut.top + cut.neck_depth,
            cut.bottom + 3,
            width=18,
            spacing=46,
            radius=4.4,
            button=(176, 150, 106) if design.material == "denim" else None,
        )
        for side in (-1, 1):
            layers += patch_pocket((side * 50, cut.top + 96), (48, 52), cloth, flap=True)
            line = points((side * 30, cut.top + 150), (side * 22, cut.bottom - 18))
            layers += [
                seam(line, cloth, opacity=0.4),
                Line(track=shift(line, 4, 0), rgb=thread, width=1, opacity=0.6, dash=3.4),
            ]
    if knit_trim:
        layers += rib_hem(cut, design, height=22)
    else:
        band = quad((-cut.hem, cut.bottom - 20), (0, cut.bottom - 13), (cut.hem, cut.bottom - 20))
        layers += [
            seam(band, cloth, opacity=0.6),
            Line(track=shift(band, 0, 3), rgb=thread, width=1, opacity=0.5, dash=3.4),
        ]
    collar = shirt_collar(
        replace(cut, neck_depth=4 if back else cut.neck_depth), cloth, spread=1.5, length=50
    )
    return layers + (back_collar(cut, cloth) if back else collar)


def back_collar(cut: Cut, cloth: Cloth) -> list[Layer]:
    n, y = cut.neck, cut.top
    shape = symmetric(
        join(
            quad((0, y - 18), (n * 0.8, y - 18), (n + 5, y - 2)),
            quad((n + 18, y + 16), (n * 0.5, y + 28), (0, y + 28)),
        )
    )
    return [Piece(outline=shape, cloth=cloth, puff=10, wrinkle=0.3, shadow=0.45, shadow_reach=5)]


def _zip(cut: Cut, cloth: Cloth, top: float, bottom: float, *, lean: float = 0.0) -> list[Layer]:
    track = points((lean * 26, top), (lean * 4, bottom))
    return [
        Line(track=track, rgb=darker(cloth.rgb, 0.6), width=9, opacity=0.55),
        Line(track=track, rgb=(178, 178, 182), width=4.2, opacity=0.95, dash=2.6),
        seam(shift(track, -8), cloth, dash=3.2),
        seam(shift(track, 8), cloth, dash=3.2),
        Button(centre=(lean * 24, top + 8), radius=3.6, rgb=(190, 190, 194), metal=True),
    ]


def _slant_pockets(cut: Cut, cloth: Cloth) -> list[Layer]:
    layers: list[Layer] = []
    for side in (-1, 1):
        welt = points(
            (side * 44, cut.bottom - 104),
            (side * 54, cut.bottom - 102),
            (side * 72, cut.bottom - 40),
            (side * 62, cut.bottom - 37),
        )
        layers.append(
            Piece(outline=welt, cloth=cloth, puff=4, wrinkle=0.1, shadow=0.4, shadow_reach=3)
        )
    return layers


def _biker(cut: Cut, cloth: Cloth) -> list[Layer]:
    """Wide lapels, a slanted zip and zipped pockets."""
    y = cut.top + cut.neck_depth
    left = join(
        points((-8, y + 90), (-62, y + 46), (-48, y + 24), (-58, y + 12)),
        quad((-46, y - 16), (-30, y - 20), (-cut.neck + 4, y - 26)),
        points((-2, y + 40)),
    )
    right = mirror(left)
    layers = _zip(cut, cloth, y + 70, cut.bottom + 3, lean=0.9)
    for shape in (left, right):
        layers.append(
            Piece(outline=shape, cloth=cloth, puff=9, wrinkle=0.3, shadow=0.5, shadow_reach=6)
        )
        layers.append(
            Button(
                centre=tuple(shape[2] * 0.94 + shape[0] * 0.06),
                radius=2.4,
                rgb=(196, 196, 200),
                metal=True,
            )
        )
    for side in (-1, 1):
        slit = points((side * 34, cut.bottom - 96), (side * 66, cut.bottom - 62))
        layers += [
            Line(track=slit, rgb=darker(cloth.rgb, 0.7), width=6, opacity=0.6),
            Line(track=slit, rgb=(180, 180, 184), width=2.6, opacity=0.9, dash=2.4),
        ]
    return layers
