"""Coats."""

from __future__ import annotations

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
    default_button,
)
from shop.drawing.garments.jackets import back_collar
from shop.drawing.geometry import Points, cubic, join, mirror, points, quad, symmetric
from shop.drawing.layers import Button, Cloth, Drape, Layer, Piece
from shop.drawing.palette import darker

COAT_BOTTOMS = {"mini": 400.0, "midi": 478.0, "maxi": 556.0}


def coat(design: Design, view: View) -> list[Layer]:
    chance, back = design.random("coat"), view is View.BACK
    bottom = COAT_BOTTOMS[design.length] + chance.uniform(-6, 6)
    cut = Cut(
        top=62,
        neck=38,
        shoulder=90,
        slope=20,
        armhole=88,
        chest=84,
        waist=80 + chance.uniform(-4, 4),
        hem=96 + (bottom - 400) * 0.12 + chance.uniform(0, 8),
        bottom=bottom,
        sag=5,
        neck_depth=112,
        neck_shape="v-neck",
        sleeve_width=62,
        cuff_width=46,
        sleeve_angle=chance.uniform(10.5, 13),
    )
    cloth, double = design.cloth(block_y=cut.top + 200), chance.random() < 0.5
    layers = [] if back else inside(cut, cloth)
    layers += sleeve_layers(cut, design, cloth, design.random("sleeves"), stitched=False, puff=18)
    folds = torso_folds(cut, design.random("folds"), amount=0.8)
    fall = Drape(
        count=chance.uniform(2, 3.2),
        strength=0.45,
        phase=chance.uniform(0, 6),
        top=280,
        bottom=bottom,
        top_half=cut.waist,
        bottom_half=cut.hem,
    )
    layers.append(
        Piece(
            outline=torso(cut, back=back),
            cloth=cloth,
            puff=32,
            folds=folds,
            drape=fall,
            shadow=0.35,
            seed=chance.randrange(200),
        )
    )
    layers += armhole_seams(cut, cloth, opacity=0.45)
    if back:
        layers += [
            seam(points((0, cut.top + 20), (0, bottom + 4)), cloth, opacity=0.55),
            *back_collar(cut, cloth),
        ]
        return layers + (_coat_belt(cut, cloth) if chance.random() < 0.4 else [])
    edge = cut.top + cut.neck_depth
    overlap = 26.0 if double else 12.0
    layers.append(
        seam(join(points((overlap, edge + 4)), points((overlap, bottom + 3))), cloth, opacity=0.75)
    )
    layers.append(
        seam(
            points((overlap - 5, edge + 4), (overlap - 5, bottom + 3)), cloth, opacity=0.3, dash=3.2
        )
    )
    layers += _lapels(cut, cloth, overlap)
    button = darker(default_button(cloth.rgb), 0.25)
    for row in range(3):
        y = edge + 22 + row * 58
        layers.append(Button(centre=(0 if not double else 17, y), radius=6.4, rgb=button))
        if double:
            layers.append(Button(centre=(-33, y), radius=6.4, rgb=button))
    for side in (-1, 1):
        y = edge + 130
        flap = points((side * 34, y), (side * 78, y + 3), (side * 79, y + 22), (side * 34, y + 19))
        layers.append(
            Piece(outline=flap, cloth=cloth, puff=4, wrinkle=0.2, shadow=0.38, shadow_reach=4)
        )
    return layers


def _lapels(cut: Cut, cloth: Cloth, overlap: float) -> list[Layer]:
    n, y, low = cut.neck, cut.top, cut.top + cut.neck_depth
    lapel = join(
        points((overlap, low + 10)),
        quad((-4, low - 40), (n * 0.6, y + 30), (n + 2, y + 8)),
        points((n + 24, y + 48), (n + 10, y + 58), (n + 27, y + 66)),
        quad((n + 20, y + 92), (overlap + 24, low - 14), (overlap, low + 10)),
    )
    collar = join(
        quad((n - 6, y - 16), (n + 8, y - 6), (n + 20, y + 22)),
        points((n + 23, y + 46), (n + 3, y + 36)),
        quad((n - 10, y + 20), (n * 0.6, y + 2), (n * 0.62, y - 14)),
    )
    stand = symmetric(
        join(
            quad((0, y - 19), (n * 0.6, y - 19), (n - 5, y - 15)),
            quad((n - 8, y - 2), (n * 0.4, y + 6), (0, y + 6)),
        )
    )
    layers: list[Layer] = [
        Piece(
            outline=stand,
            cloth=Cloth(rgb=darker(cloth.rgb, 0.12), weave=cloth.weave),
            puff=8,
            wrinkle=0,
            shadow=0.2,
        )
    ]
    layers.insert(0, _scarf(cut))
    for shape in (mirror(lapel), lapel, mirror(collar), collar):
        layers.append(
            Piece(
                outline=shape,
                cloth=cloth,
                puff=7,
                relief=0.7,
                wrinkle=0.2,
                shadow=0.42,
                shadow_reach=5,
            )
        )
    return layers


def _scarf(cut: Cut) -> Piece:
    """What fills the opening: the dark lining of the other front."""
    n, y, low = cut.neck, cut.top, cut.top + cut.neck_depth
    shape: Points = symmetric(
        join(
            points((0, y + 2)),
            quad((n * 0.5, y + 2), (n * 0.9, y), (n, y + 2)),
            cubic((n, y + 2), (n * 0.6, y + 50), (10, low - 20), (0, low + 4)),
        )
    )
    return Piece(
        outline=shape,
        cloth=Cloth(rgb=(58, 54, 54), weave="silk"),
        puff=16,
        relief=0.4,
        wrinkle=0.8,
        shadow=0,
    )


def _coat_belt(cut: Cut, cloth: Cloth) -> list[Layer]:
    y = cut.top + 200
    band = points((-50, y), (50, y), (50, y + 20), (-50, y + 20))
    return [
        Piece(outline=band, cloth=cloth, puff=6, wrinkle=0.2, shadow=0.4, shadow_reach=4),
        *[
            Button(centre=(side * 40, y + 10), radius=5.4, rgb=default_button(cloth.rgb))
            for side in (-1, 1)
        ],
    ]
