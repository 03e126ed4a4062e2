"""Boots to the ankle and to the knee."""

from __future__ import annotations

from shop.drawing.design import Design, View
from shop.drawing.garments.footwear import FLOOR, flip, pair
from shop.drawing.geometry import cubic, join, points, quad, smooth
from shop.drawing.layers import Button, Cloth, Layer, Line, Piece
from shop.drawing.palette import darker, luminance


def boot(design: Design, view: View) -> list[Layer]:
    chance = design.random("boot")
    y, heel_height = FLOOR + 20, chance.choice([18.0, 28.0, 46.0])
    shaft = {"ankle": 138.0, "knee-high": 290.0}[design.length]
    cloth = design.cloth()
    top = y - heel_height - shaft
    wide = 4.0 if design.length == "ankle" else 14.0
    body = join(
        quad((6 - wide, top + 4), (56, top - 4), (112 + wide, top)),
        cubic(
            (112 + wide, top),
            (118 + wide, top + shaft * 0.4),
            (98, y - heel_height - 90),
            (104, y - heel_height - 60),
        ),
        cubic(
            (104, y - heel_height - 60),
            (112, y - heel_height - 40),
            (116, y - heel_height - 20),
            (112, y - heel_height),
        ),
        cubic((112, y - heel_height), (40, y - heel_height), (10, y - 10), (-40, y - 8)),
        quad((-40, y - 8), (-110, y - 8), (-150, y - 9)),
        cubic((-150, y - 9), (-166, y - 18), (-160, y - 46), (-126, y - 58)),
        cubic(
            (-126, y - 58), (-70, y - 74), (-22, y - heel_height - 64), (-4, y - heel_height - 108)
        ),
        cubic(
            (-4, y - heel_height - 108),
            (4, y - heel_height - 140 if shaft > 200 else top + 30),
            (4 - wide, top + 60 if shaft > 200 else top + 20),
            (6 - wide, top + 4),
        ),
    )
    mouth = smooth([(6 - wide, top + 4), (58, top - 8), (112 + wide, top), (60, top + 9)])
    sole = join(
        cubic((-154, y - 14), (-110, y - 10), (-60, y - 10), (-36, y - 10)),
        cubic((-36, y - 10), (10, y - 12), (36, y - heel_height - 2), (116, y - heel_height - 3)),
        points((116, y - heel_height + 7)),
        cubic((116, y - heel_height + 7), (40, y - heel_height + 8), (16, y + 1), (-36, y + 1)),
        quad((-36, y + 1), (-120, y + 3), (-158, y - 2)),
    )
    heel = points((52, y - heel_height + 2), (116, y - heel_height + 2), (111, y + 1), (64, y + 1))
    dark = Cloth(
        rgb=darker(cloth.rgb, 0.55) if chance.random() < 0.7 else (70, 50, 36), weave="rubber"
    )
    layers: list[Layer] = [
        Piece(outline=heel, cloth=dark, puff=8, wrinkle=0, shadow=0.2),
        Piece(
            outline=body,
            cloth=cloth,
            puff=32,
            relief=1.3,
            wrinkle=0.9,
            shadow=0.35,
            seed=chance.randrange(99),
        ),
        Piece(
            outline=mouth,
            cloth=Cloth(rgb=darker(cloth.rgb, 0.5), weave="felt"),
            puff=6,
            wrinkle=0,
            relief=0.4,
            shadow=0,
        ),
        Piece(outline=sole, cloth=dark, puff=5, wrinkle=0, shadow=0.3, shadow_reach=3),
    ]
    look = chance.randrange(3)
    if look == 0 and shaft < 200:  # a Chelsea boot's elastic
        gore = smooth(
            [(34, top + 6), (84, top + 6), (76, top + 90), (58, top + 104), (40, top + 90)]
        )
        layers.append(
            Piece(
                outline=gore,
                cloth=Cloth(rgb=darker(cloth.rgb, 0.5), weave="knit"),
                angle=0,
                puff=6,
                ribs=4,
                wrinkle=0,
                shadow=0.2,
                shadow_reach=2,
            )
        )
    elif look == 1 and shaft < 200:
        rgb = darker(cloth.rgb, 0.5) if luminance(cloth.rgb) > 0.3 else (190, 150, 90)
        for k in range(6):
            x, h = -44 + k * 9.5, y - heel_height - 70 - k * 15
            layers.append(
                Line(
                    track=quad((x - 12, h - 6), (x + 6, h - 4), (x + 22, h + 10)),
                    rgb=rgb,
                    width=3.6,
                    opacity=0.95,
                )
            )
    else:
        layers.append(
            Line(
                track=points((62, top + 12), (64, y - heel_height - 30)),
                rgb=darker(cloth.rgb, 0.6),
                width=1.6,
                opacity=0.6,
            )
        )
        if look == 2:
            strap = points(
                (-8, y - heel_height - 92),
                (106, y - heel_height - 74),
                (106, y - heel_height - 58),
                (-16, y - heel_height - 76),
            )
            layers.append(
                Piece(outline=strap, cloth=cloth, puff=5, wrinkle=0, shadow=0.4, shadow_reach=4)
            )
            layers.append(
                Button(centre=(36, y - heel_height - 75), radius=8, rgb=(190, 168, 118), metal=True)
            )
    layers.append(
        Line(
            track=quad((-108, y - 12), (-96, y - 40), (-112, y - 60)),
            rgb=darker(cloth.rgb, 0.6),
            width=1.1,
            opacity=0.35,
        )
    )
    return pair(flip(layers) if view is View.BACK else layers, view)
