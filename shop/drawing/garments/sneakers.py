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
            (-168, y - 22),
            (-172, y - 46),
            (-150, y - 66),
            (-104, y - 84),
            (-62, y - 108),
            (-18, y - 140 - up * 0.35),
            (10, y - 154 - up),
            (38, y - 150 - up),
            (86, y - 146 - up),
            (122, y - 158 - up),
            (138, y - 140 - up * 0.8),
            (140, y - 90),
            (146, y - 40),
            (140, y - 18),
            (0, y - 14),
            (-120, y - 14),
        ]
    )
    collar = smooth(
        [
            (14, y - 150 - up),
            (60, y - 138 - up),
            (118, y - 152 - up),
            (104, y - 162 - up),
            (60, y - 158 - up),
            (28, y - 162 - up),
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
            (-178, y - 26),
            (-180, y - 10),
            (-166, y + 2),
            (-100, y + 4),
            (40, y + 4),
            (130, y + 3),
            (154, y - 2),
            (156, y - 24),
            (146, y - 30),
            (60, y - 26),
            (-60, y - 26),
            (-130, y - 30),
        ]
    )
    toe = smooth(
        [
            (-174, y - 24),
            (-176, y - 48),
            (-152, y - 66),
            (-112, y - 80),
            (-100, y - 60),
            (-108, y - 24),
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
            (-100, y - 84),
            (-60, y - 108),
            (-14, y - 140 - up * 0.4),
            (12, y - 154 - up),
            (24, y - 140 - up),
            (0, y - 104 - up * 0.4),
            (-44, y - 74),
            (-84, y - 66),
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
        x, h = -74 + 80 * t, y - 92 - 52 * t - up * 0.75 * t * t
        lace = quad((x - 12, h - 9), (x + 4, h - 8), (x + 22, h + 13))
        layers += [
            Line(track=shift(lace, 1, 2), rgb=(30, 30, 32), width=4.6, opacity=0.3),
            Line(track=lace, rgb=rgb, width=4.2, opacity=1),
        ]
    return layers
