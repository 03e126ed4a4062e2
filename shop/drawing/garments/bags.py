"""Handbags."""

from __future__ import annotations

from shop.drawing.design import Design, View
from shop.drawing.garments.body import seam
from shop.drawing.geometry import cubic, join, points, quad, shift, sweep, symmetric
from shop.drawing.layers import Button, Cloth, Layer, Piece
from shop.drawing.palette import darker

GOLD = (198, 168, 104)
TOP = 288.0
"""y of the bag's upper edge, below its handles."""


def foot(design: Design) -> float:
    """y of what the bag stands on: half its width is drawn first, its height second."""
    chance = design.random("bag")
    chance.uniform(112, 150)
    return TOP + chance.uniform(150, 200) + 4


def handbag(design: Design, view: View) -> list[Layer]:
    chance, back = design.random("bag"), view is View.BACK
    half, tall = chance.uniform(112, 150), chance.uniform(150, 200)
    top, shape = TOP, chance.randrange(3)
    bottom = top + tall
    flare = chance.uniform(-10, 18)
    cloth = design.cloth(block_y=top + tall * 0.45)
    trim = Cloth(
        rgb=darker(cloth.rgb, 0.18) if design.material == "leather" else (122, 84, 54),
        weave="leather",
    )
    body = symmetric(
        join(
            points((0, top)),
            quad((half * 0.6, top - 2), (half - 14, top), (half - 4, top + 10)),
            cubic(
                (half - 4, top + 10),
                (half + 4, top + 40),
                (half + flare, bottom - 50),
                (half + flare, bottom - 22),
            ),
            cubic(
                (half + flare, bottom - 22),
                (half + flare, bottom),
                (half + flare - 12, bottom),
                (half * 0.5, bottom + 3),
            ),
            points((0, bottom + 4)),
        )
    )
    layers: list[Layer] = []
    if shape == 2:  # a shoulder strap
        strap = cubic(
            (-half + 12, top + 16),
            (-half - 10, top - 250),
            (half + 10, top - 250),
            (half - 12, top + 16),
            n=40,
        )
        layers.append(
            Piece(outline=sweep(strap, [11, 10, 11]), cloth=trim, puff=5, wrinkle=0, shadow=0.1)
        )
        grips = []
    else:
        height = chance.uniform(112, 158)
        handle = cubic(
            (-half * 0.5, top + 26),
            (-half * 0.5, top - height),
            (half * 0.5, top - height),
            (half * 0.5, top + 26),
            n=40,
        )
        layers.append(
            Piece(
                outline=sweep(shift(handle, 6, -10), [12, 12]),
                cloth=trim,
                puff=6,
                wrinkle=0,
                shadow=0.1,
                dim=0.2,
            )
        )
        grips = [
            Piece(
                outline=sweep(handle, [13, 13]),
                cloth=trim,
                puff=6,
                wrinkle=0,
                shadow=0.3,
                shadow_reach=4,
            )
        ]
        grips += [
            Piece(
                outline=shift(
                    symmetric(points((8, top + 12), (9, top + 46), (0, top + 54))),
                    side * half * 0.5,
                ),
                cloth=trim,
                puff=4,
                wrinkle=0,
                shadow=0.3,
                shadow_reach=3,
            )
            for side in (-1, 1)
        ]
    layers.append(
        Piece(
            outline=body,
            cloth=cloth,
            puff=30,
            relief=1.2,
            wrinkle=0.8 if design.material != "leather" else 0.6,
            shadow=0.3,
            seed=chance.randrange(99),
        )
    )
    layers.append(
        seam(quad((-half, bottom - 30), (0, bottom - 20), (half, bottom - 30)), cloth, opacity=0.35)
    )
    layers += grips
    layers += [
        Button(centre=(side * half * 0.5, top + 42), radius=3, rgb=GOLD, metal=True)
        for side in (-1, 1)
        if shape != 2
    ]
    if shape == 0 or back:
        layers.append(
            seam(quad((-half + 8, top + 12), (0, top + 16), (half - 8, top + 12)), cloth, dash=3.6)
        )
        pocket = points(
            (-half * 0.55, top + tall * 0.42),
            (half * 0.55, top + tall * 0.42),
            (half * 0.55, bottom - 26),
            (-half * 0.55, bottom - 26),
        )
        if back:
            layers.append(
                Piece(
                    outline=pocket,
                    cloth=cloth,
                    puff=5,
                    relief=0.6,
                    wrinkle=0.2,
                    shadow=0.3,
                    shadow_reach=4,
                )
            )
        return layers
    drop = tall * (0.62 if shape == 2 else 0.4)
    flap = symmetric(
        join(
            points((0, top - 3)),
            quad((half * 0.7, top - 4), (half, top - 2), (half + 1, top + 14)),
            cubic(
                (half + 2, top + drop * 0.6),
                (half * 0.8, top + drop),
                (half * 0.4, top + drop),
                (0, top + drop + 3),
            ),
        )
    )
    layers.append(
        Piece(outline=flap, cloth=cloth, puff=16, wrinkle=0.3, shadow=0.5, shadow_reach=7)
    )
    edge = quad(
        (-half * 0.9, top + drop * 0.72), (0, top + drop * 1.18), (half * 0.9, top + drop * 0.72)
    )
    layers.append(seam(edge, cloth, dash=3.6, opacity=0.4))
    clasp = symmetric(points((13, top + drop - 16), (13, top + drop + 12)))
    layers.append(
        Piece(
            outline=clasp,
            cloth=Cloth(rgb=GOLD, weave="metal"),
            puff=6,
            wrinkle=0,
            shadow=0.4,
            shadow_reach=3,
        )
    )
    layers.append(Button(centre=(0, top + drop - 2), radius=4.6, rgb=darker(GOLD, 0.2), metal=True))
    return layers
