"""T-shirts, shirts, blouses, sweaters and hoodies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shop.drawing.design import Design, View
from shop.drawing.garments.body import (
    Cut,
    armhole_seams,
    hang,
    hem_stitches,
    inside,
    seam,
    sleeve_layers,
    torso,
    torso_folds,
)
from shop.drawing.garments.details import (
    neckband,
    patch_pocket,
    placket,
    rib_hem,
    shirt_collar,
    turtleneck,
)
from shop.drawing.geometry import cubic, join, mirror, points, quad, shift, symmetric
from shop.drawing.layers import Cloth, Layer, Line, Piece
from shop.drawing.palette import darker, lighter

BOTTOMS = {"cropped": 342.0, "regular": 432.0, "long": 508.0}
NECKS: dict[str, dict[str, float]] = {
    "crew": {"neck": 38, "neck_depth": 24},
    "round": {"neck": 52, "neck_depth": 46},
    "v-neck": {"neck": 42, "neck_depth": 82},
    "turtleneck": {"neck": 38, "neck_depth": 14},
    "collar": {"neck": 36, "neck_depth": 24},
    "hood": {"neck": 44, "neck_depth": 40},
}


def cut_for(design: Design, **measures: float) -> Cut:
    """The measures of a design: what its attributes ask for and what its style chose."""
    chance = design.random("cut")
    fit = chance.uniform(-5, 7)
    bottom = BOTTOMS.get(design.length, BOTTOMS["regular"]) + chance.uniform(-8, 8)
    given: dict[str, float] = {
        "bottom": bottom,
        "chest": 92 + fit,
        "waist": 88 + fit + chance.uniform(-4, 3),
        "hem": 93 + fit + chance.uniform(-3, 5) + (4 if design.length == "long" else 0),
        "shoulder": 97 + fit * 0.7,
        "sleeve_angle": chance.uniform(11, 15),
        **NECKS.get(design.neckline, {}),
        **measures,
    }
    if design.sleeve == "sleeveless":
        given["shoulder"] = given["shoulder"] - 20
    return Cut(neck_shape=design.neckline or "crew", **given)


def _panel(
    cut: Cut,
    cloth: Cloth,
    design: Design,
    *,
    back: bool,
    notch: float = 0.0,
    folds: float = 1.0,
    fall: float = 0.25,
    wrinkle: float = 0.9,
) -> Piece:
    chance = design.random("folds")
    return Piece(
        outline=torso(cut, back=back, hem_notch=notch),
        cloth=cloth,
        puff=34,
        wrinkle=wrinkle,
        folds=torso_folds(cut, chance, amount=folds),
        drape=hang(cut, chance, fall),
        shadow=0.30,
        seed=chance.randrange(200),
    )


def _neck(
    cut: Cut, design: Design, *, back: bool, rib: bool = True, width: float = 9.0
) -> list[Layer]:
    if design.neckline == "turtleneck":
        return turtleneck(cut, design.trim())
    if back:
        shallow = replace(cut, neck_depth=9.0, neck_shape="crew")
        return neckband(shallow, design.trim(), width=width, rib=rib)[1:]
    return neckband(cut, design.trim(), width=width, rib=rib)


def t_shirt(design: Design, view: View) -> list[Layer]:
    cut, back = cut_for(design), view is View.BACK
    cloth = design.cloth(block_y=cut.top + (cut.bottom - cut.top) * 0.42)
    layers = [] if back else inside(cut, cloth)
    layers += sleeve_layers(cut, design, cloth, design.random("sleeves"))
    layers.append(_panel(cut, cloth, design, back=back))
    layers += armhole_seams(cut, cloth)
    layers += _neck(cut, design, back=back)
    layers.append(hem_stitches(cut, cloth))
    if not back and design.random("pocket").random() < 0.3:
        layers += patch_pocket((46, cut.top + 92), (40, 44), cloth)
    return layers


def shirt(design: Design, view: View) -> list[Layer]:
    cut = replace(cut_for(design, sleeve_width=62, cuff_width=40), neck_shape="crew", sag=12)
    cloth, back, chance = design.cloth(), view is View.BACK, design.random("shirt")
    layers = [] if back else inside(cut, cloth, raise_by=4)
    layers += sleeve_layers(
        cut, design, cloth, design.random("sleeves"), cuff=24 if design.sleeve == "long" else 0
    )
    layers.append(_panel(cut, cloth, design, back=back, notch=chance.choice([0.0, 26.0, 34.0])))
    layers += armhole_seams(cut, cloth, opacity=0.4)
    if back:
        yoke = quad(
            (-cut.shoulder + 3, cut.top + 62), (0, cut.top + 70), (cut.shoulder - 3, cut.top + 62)
        )
        layers += [seam(yoke, cloth, opacity=0.5), seam(shift(yoke, 0, 3), cloth, dash=3)]
        layers += shirt_collar(replace(cut, neck_depth=2), cloth, length=22)[:1]
        band = symmetric(
            join(
                quad((0, cut.top - 18), (30, cut.top - 18), (cut.neck + 3, cut.top - 2)),
                quad((cut.neck + 5, cut.top + 12), (20, cut.top + 20), (0, cut.top + 20)),
            )
        )
        layers.append(Piece(outline=band, cloth=cloth, puff=9, wrinkle=0.1, relief=0.7, shadow=0.4))
        return layers
    layers += placket(cloth, cut.top + cut.neck_depth, cut.bottom + cut.sag - 1)
    if chance.random() < 0.7:
        flap = design.material == "denim"
        layers += patch_pocket((46, cut.top + 92), (42, 48), cloth, flap=flap)
        if flap:
            layers += patch_pocket((-46, cut.top + 92), (42, 48), cloth, flap=True)
    layers += shirt_collar(cut, cloth, spread=chance.uniform(0.85, 1.25))
    return layers


def blouse(design: Design, view: View) -> list[Layer]:
    chance = design.random("blouse")
    flare = chance.uniform(6, 22)
    plain = cut_for(design, sleeve_width=64, cuff_width=46)
    cut = replace(plain, hem=plain.hem + flare, waist=plain.waist + flare * 0.25, sag=10)
    cloth, back = design.cloth(), view is View.BACK
    layers = [] if back else inside(cut, cloth)
    layers += sleeve_layers(
        cut,
        design,
        cloth,
        design.random("sleeves"),
        puffed=chance.uniform(8, 22),
        cuff=12,
        relief=1.1,
    )
    layers.append(_panel(cut, cloth, design, back=back, folds=1.1, fall=0.6, wrinkle=1.0))
    layers += armhole_seams(cut, cloth, opacity=0.25)
    if design.neckline == "collar":
        layers += (
            placket(cloth, cut.top + cut.neck_depth, cut.bottom + cut.sag - 1, width=12)
            if not back
            else []
        )
        layers += shirt_collar(
            replace(cut, neck_depth=4 if back else cut.neck_depth), cloth, length=36
        )[: 1 if back else None]
        return layers
    layers += _neck(cut, design, back=back, rib=False, width=5)
    if not back and design.neckline == "v-neck":
        low = cut.top + cut.neck_depth
        layers.append(seam(points((0, low + 4), (0, low + 70)), cloth, opacity=0.5))
    elif not back and chance.random() < 0.6:
        layers += _bow(cut, cloth)
    return layers


def _bow(cut: Cut, cloth: Cloth) -> list[Layer]:
    """A tie at the throat."""
    y = cut.top + cut.neck_depth + 5
    tail = join(
        quad((2, y), (16, y + 36), (10, y + 92)), quad((22, y + 90), (26, y + 36), (6, y - 2))
    )
    loop = join(
        cubic((0, y), (18, y - 22), (48, y - 20), (44, y + 2)),
        cubic((44, y + 2), (40, y + 18), (14, y + 12), (0, y + 2)),
    )
    knot = quad((-7, y - 6), (0, y - 10), (7, y - 6))
    knot = join(knot, quad((7, y + 8), (0, y + 12), (-7, y + 8)))
    style = {"cloth": cloth, "puff": 8.0, "wrinkle": 0.8, "shadow": 0.4, "shadow_reach": 5.0}
    return [
        Piece(outline=shape, **style) for shape in (tail, mirror(tail), loop, mirror(loop), knot)
    ]


def sweater(design: Design, view: View) -> list[Layer]:
    base = cut_for(design, sleeve_width=68, cuff_width=44)
    cut = replace(
        base,
        chest=base.chest + 6,
        waist=base.waist + 9,
        hem=base.hem + 3,
        shoulder=base.shoulder + (0 if design.sleeve == "sleeveless" else 6),
    )
    cloth = design.cloth(block_y=cut.top + (cut.bottom - cut.top) * 0.40)
    back = view is View.BACK
    layers = [] if back or design.neckline == "turtleneck" else inside(cut, cloth)
    layers += sleeve_layers(
        cut, design, cloth, design.random("sleeves"), cuff=20, rib_cuff=True, puff=20
    )
    layers.append(_panel(cut, cloth, design, back=back, folds=0.75, fall=0.22, wrinkle=0.8))
    layers += armhole_seams(cut, cloth, opacity=0.4)
    if design.random("cables").random() < 0.4 and design.pattern == "plain" and not back:
        layers += _cables(cut, cloth)
    layers += rib_hem(cut, design)
    layers += _neck(cut, design, back=back, width=13)
    return layers


def _cables(cut: Cut, cloth: Cloth) -> list[Layer]:
    """Twisted ropes of stitches down the front."""
    layers: list[Layer] = []
    y = np.linspace(cut.top + max(cut.neck_depth, 30) + 26, cut.bottom - 2, 60, dtype=np.float32)
    for x in (-46.0, 0.0, 46.0):
        for side in (-1, 1):
            wave = x + side * 6 * np.sin((y - cut.top) / 8.5)
            rope = np.stack([wave, y], axis=1).astype(np.float32)
            layers.append(
                Line(
                    track=shift(rope, 1.6, 1.6), rgb=darker(cloth.rgb, 0.5), width=5.2, opacity=0.28
                )
            )
            layers.append(Line(track=rope, rgb=lighter(cloth.rgb, 0.10), width=4.2, opacity=0.55))
    return layers


def hoodie(design: Design, view: View) -> list[Layer]:
    base = cut_for(design, sleeve_width=72, cuff_width=46, **NECKS["hood"])
    cut = replace(
        base,
        chest=base.chest + 8,
        waist=base.waist + 12,
        hem=base.hem + 6,
        shoulder=base.shoulder + (0 if design.sleeve == "sleeveless" else 7),
        neck_shape="crew",
    )
    cloth = design.cloth(block_y=cut.top + (cut.bottom - cut.top) * 0.45)
    trim, back = design.trim(), view is View.BACK
    n, y = cut.neck, cut.top
    layers: list[Layer] = sleeve_layers(
        cut, design, cloth, design.random("sleeves"), cuff=24, rib_cuff=True, puff=20
    )
    panel = _panel(cut, cloth, design, back=back, folds=0.8, fall=0.2)
    if back:
        hood = symmetric(
            join(
                quad((0, y - 30), (n * 0.9, y - 34), (n + 14, y - 8)),
                cubic((n + 26, y + 18), (n + 18, y + 74), (28, y + 104), (0, y + 106)),
            )
        )
        return [
            *layers,
            panel,
            *armhole_seams(cut, cloth),
            *rib_hem(cut, design),
            Piece(outline=hood, cloth=trim, puff=26, wrinkle=1.2, shadow=0.5, shadow_reach=8),
            seam(quad((0, y - 28), (2, y + 40), (0, y + 104)), cloth, opacity=0.5),
        ]
    lining = Cloth(rgb=darker(cloth.rgb, 0.28), weave="jersey")
    shell = symmetric(
        join(
            quad((0, y - 66), (n * 0.8, y - 66), (n + 10, y - 30)),
            cubic((n + 22, y - 6), (n + 26, y + 20), (n + 16, y + 40), (n + 4, y + 50)),
            quad((n * 0.4, y + 50), (10, y + 50), (0, y + 50)),
        )
    )
    hole = symmetric(
        join(
            quad((0, y - 54), (n * 0.62, y - 54), (n - 8, y - 22)),
            cubic((n - 2, y + 4), (n - 10, y + 34), (14, y + 56), (0, y + 58)),
        )
    )
    layers += [panel, *armhole_seams(cut, cloth)]
    layers.append(
        Piece(outline=shell, cloth=trim, puff=24, wrinkle=0.9, shadow=0.45, shadow_reach=7)
    )
    layers.append(
        Piece(outline=hole, cloth=lining, puff=22, wrinkle=0.8, shadow=0.1, relief=0.5, dim=0.15)
    )
    cross = quad((-n - 2, y + 46), (-6, y + 66), (6, y + 60))
    layers.append(seam(cross, cloth, opacity=0.35))
    for side in (-1, 1):
        cord = cubic(
            (side * 15, y + 44), (side * 20, y + 80), (side * 12, y + 100), (side * 16, y + 136)
        )
        layers.append(
            Line(track=shift(cord, 2, 2), rgb=darker(cloth.rgb, 0.6), width=3.4, opacity=0.35)
        )
        layers.append(Line(track=cord, rgb=lighter(cloth.rgb, 0.55), width=3.0, opacity=0.95))
        layers.append(Line(track=cord[-3:], rgb=(150, 150, 152), width=3.6, opacity=1))
    if design.length != "cropped":
        low = cut.bottom - 4
        pocket = symmetric(
            join(points((44, low - 84), (68, low - 40)), points((70, low), (0, low + cut.sag - 1)))
        )
        layers += [
            Piece(
                outline=pocket,
                cloth=cloth,
                puff=8,
                relief=0.5,
                wrinkle=0.5,
                shadow=0.32,
                shadow_reach=4,
            ),
            seam(points((44, low - 84), (68, low - 40)), cloth, dash=3, opacity=0.5),
            seam(points((-44, low - 84), (-68, low - 40)), cloth, dash=3, opacity=0.5),
        ]
    return [*layers, *rib_hem(cut, design)]
