"""Sneakers, low and high."""

from __future__ import annotations

from shop.drawing.design import Design, View
from shop.drawing.garments.footwear import FLOOR, flip, pair
from shop.drawing.geometry import cubic, join, points, quad, shift, smooth
from shop.drawing.layers import Cloth, Layer, Line, Piece
from shop.drawing.palette import accent_for, darker, lighter, luminance


def sneaker(design: Design, view: View) -> list[Layer]:
    """The toe points left; a high top reaches over the ankle."""
    chance = design.random("sneaker")
    high = design.length == "high"
    cloth = design.cloth(block_y=FLOOR - 62)
    up = 58.0 if high else -26.0
    y = FLOOR
    upper = smooth(
        [
            (-172, y - 20),
            (-177, y - 38),
            (-162, y - 57),
            (-116, y - 72),
            (-70, y - 95),
            (-24, y - 134 - up * 0.35),
            (8, y - 154 - up),
            (36, y - 146 - up),
            (80, y - 136 - up),
            (116, y - 154 - up),
            (136, y - 148 - up * 0.85),
            (134, y - 96),
            (147, y - 44),
            (144, y - 18),
            (0, y - 14),
            (-120, y - 14),
        ]
    )
    collar = smooth(
        [
            (13, y - 151 - up),
            (58, y - 130 - up),
            (114, y - 149 - up),
            (103, y - 158 - up),
            (60, y - 152 - up),
            (28, y - 160 - up),
        ]
    )
    tongue = smooth(
        [
            (-20, y - 132 - up * 0.4),
            (-8, y - 160 - up),
            (10, y - 178 - up),
            (30, y - 172 - up),
            (34, y - 140 - up),
            (10, y - 120 - up * 0.5),
        ]
    )
    sole_rgb = (240, 238, 232) if chance.random() < 0.75 else darker(cloth.rgb, 0.25)
    sole = smooth(
        [
            (-182, y - 25),
            (-185, y - 12),
            (-168, y - 1),
            (-110, y + 4),
            (40, y + 4),
            (138, y + 4),
            (157, y),
            (159, y - 24),
            (148, y - 30),
            (70, y - 23),
            (-60, y - 21),
            (-140, y - 24),
        ]
    )
    toe = smooth(
        [
            (-176, y - 21),
            (-180, y - 39),
            (-164, y - 57),
            (-136, y - 66),
            (-124, y - 50),
            (-126, y - 20),
        ]
    )
    heel = smooth(
        [(108, y - 22), (112, y - 70), (122, y - 120), (138, y - 120), (143, y - 70), (148, y - 24)]
    )
    trim = Cloth(
        rgb=lighter(cloth.rgb, 0.10) if luminance(cloth.rgb) < 0.5 else darker(cloth.rgb, 0.10),
        weave=design.weave,
    )
    rubber = Cloth(rgb=sole_rgb, weave="rubber")
    lining = Cloth(rgb=darker(cloth.rgb, 0.45), weave="jersey")
    layers: list[Layer] = [
        Piece(outline=tongue, cloth=trim, puff=12, wrinkle=0.5, shadow=0.1),
        Piece(
            outline=upper,
            cloth=cloth,
            puff=34,
            wrinkle=0.6,
            shadow=0.3,
            relief=1.2,
            seed=chance.randrange(99),
        ),
        Piece(outline=collar, cloth=lining, puff=8, wrinkle=0, shadow=0.0, relief=0.5),
    ]
    cap = rubber if design.material == "cotton" else trim
    layers.append(Piece(outline=toe, cloth=cap, puff=14, wrinkle=0.1, shadow=0.25, shadow_reach=3))
    layers.append(
        Piece(outline=heel, cloth=trim, puff=10, wrinkle=0.1, shadow=0.25, shadow_reach=3)
    )
    stay = smooth(
        [
            (-112, y - 73),
            (-68, y - 95),
            (-20, y - 134 - up * 0.4),
            (10, y - 154 - up),
            (24, y - 138 - up),
            (2, y - 100 - up * 0.4),
            (-44, y - 66),
            (-92, y - 56),
        ]
    )
    layers += [Piece(outline=stay, cloth=trim, puff=8, wrinkle=0.1, shadow=0.25, shadow_reach=3)]
    layers += _side(design, cloth, y)
    layers += _laces(y, up, (246, 244, 240) if chance.random() < 0.8 else darker(cloth.rgb, 0.5))
    layers.append(
        Piece(outline=sole, cloth=rubber, puff=9, wrinkle=0.1, shadow=0.35, shadow_reach=4)
    )
    layers.append(
        Line(
            track=quad((-176, y - 14), (-10, y - 8), (154, y - 13)),
            rgb=darker(sole_rgb, 0.5),
            width=1.3,
            opacity=0.35,
        )
    )
    layers.append(
        Line(
            track=quad((-150, y - 22), (-10, y - 19), (142, y - 22)),
            rgb=darker(sole_rgb, 0.5),
            width=0.9,
            opacity=0.4,
            dash=4,
        )
    )
    return pair(flip(layers) if view is View.BACK else layers, view)


def _side(design: Design, cloth: Cloth, y: float) -> list[Layer]:
    """The mark on the side, different for each style."""
    look = design.random("mark").randrange(3)
    mark = Cloth(rgb=accent_for(design.colour, look), weave="leather")
    if look == 0:
        shapes = [
            points((x, y - 28), (x + 13, y - 28), (x + 45, y - 92), (x + 32, y - 92))
            for x in (-32, -6)
        ]
    elif look == 1:
        shapes = [
            join(
                quad((-70, y - 40), (0, y - 30), (100, y - 92)),
                quad((100, y - 82), (6, y - 18), (-70, y - 32)),
            )
        ]
    else:
        return [
            Line(
                track=cubic((-90, y - 34), (-30, y - 70), (40, y - 80), (110, y - 60)),
                rgb=darker(cloth.rgb, 0.5),
                width=1,
                opacity=0.5,
                dash=3.4,
            )
        ]
    return [
        Piece(outline=s, cloth=mark, puff=3, wrinkle=0, relief=0.4, shadow=0.2, shadow_reach=2)
        for s in shapes
    ]


def _laces(y: float, up: float, rgb: tuple[int, int, int]) -> list[Layer]:
    layers: list[Layer] = []
    count = 6 if up > 0 else 5
    for k in range(count):
        t = k / (count - 1)
        x, h = -84 + 86 * t, y - 82 - 58 * t - up * 0.75 * t * t
        lace = quad((x - 12, h - 9), (x + 4, h - 8), (x + 22, h + 13))
        layers += [
            Line(track=shift(lace, 1, 2), rgb=(30, 30, 32), width=4.6, opacity=0.3),
            Line(track=lace, rgb=rgb, width=4.2, opacity=1),
        ]
    return layers
