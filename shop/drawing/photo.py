"""Photographs: a design seen in one view, on studio paper, as a JPEG."""

from __future__ import annotations

import io
import random
from dataclasses import replace

from PIL import Image

from shop.drawing.canvas import Canvas
from shop.drawing.design import Design, View
from shop.drawing.garments import build
from shop.drawing.garments.bags import foot
from shop.drawing.geometry import cubic, join, points, quad, smooth, sweep, symmetric
from shop.drawing.layers import Cloth, Layer, Line, Piece, Scene
from shop.drawing.palette import RGB

PAPERS: tuple[RGB, ...] = (
    (243, 242, 240),
    (240, 239, 236),
    (241, 239, 234),
    (236, 238, 240),
    (242, 238, 235),
    (238, 240, 236),
)
TINTS: tuple[RGB, ...] = (
    (226, 220, 210),
    (214, 221, 226),
    (228, 214, 208),
    (216, 222, 210),
    (222, 222, 226),
    (232, 226, 212),
)
WITH_SHOULDERS = frozenset(
    {"t-shirt", "shirt", "blouse", "sweater", "hoodie", "jacket", "coat", "dress"}
)
TOPS = WITH_SHOULDERS - {"coat", "dress"}
STANDING = frozenset({"sneaker", "boot", "handbag"})


def second_view(design: Design) -> View:
    """What the second photo of this style shows."""
    choices = [View.BACK, View.DETAIL]
    if design.kind in WITH_SHOULDERS:
        choices = [View.BACK, View.MANNEQUIN, View.HANGER, View.DETAIL]
        if design.kind == "hoodie":
            choices = [View.BACK, View.DETAIL]
    return design.random("views").choice(choices)


def compose(design: Design, view: View, *, shot: int = 0) -> Scene:
    """The scene of one photo; ``shot`` varies light, paper and angle a little between products."""
    chance = random.Random(f"{shot}/{view}")
    layers = [*_stand(design, view), *build(design, view)]
    paper = chance.choice(PAPERS if view is View.FRONT else TINTS)
    if view is View.BACK:
        paper = chance.choice(PAPERS)
    shown = chance.uniform(0.985, 1.025) * (1.1 if design.kind in TOPS else 1.0)
    scene = Scene(
        layers=tuple(layers),
        backdrop=paper,
        scale=shown,
        turn=chance.uniform(-0.8, 0.8),
        offset=(chance.uniform(-4, 4), chance.uniform(-4, 4)),
        pivot=(0.0, 300.0),
        floor=_floor(design, view),
    )
    if view is View.DETAIL:
        standing = design.kind in STANDING
        return replace(
            scene,
            scale=chance.uniform(1.2, 1.3) if standing else chance.uniform(1.75, 2.1),
            turn=0 if standing else chance.uniform(-7, 7),
            pivot=_focus(design),
            offset=(chance.uniform(-10, 10), 300 - _focus(design)[1]),
        )
    if design.kind in {"shorts", "skirt"} and design.length in {"short", "knee-length", "mini"}:
        # Small things are placed in the middle, at the scale of the others.
        return replace(scene, offset=(scene.offset[0], scene.offset[1] + 96))
    if design.length == "cropped" and design.kind in WITH_SHOULDERS:
        return replace(scene, offset=(scene.offset[0], scene.offset[1] + 54))
    if design.kind in TOPS:
        return replace(scene, offset=(scene.offset[0], scene.offset[1] + 22))
    return scene


def _floor(design: Design, view: View) -> float | None:
    """Where the ground is that the thing stands on."""
    if design.kind == "handbag":
        return foot(design)
    ground = {"sneaker": 412.0, "boot": 432.0}.get(design.kind)
    # Of a pair the near shoe stands further down.
    return ground if ground is None or view is View.DETAIL else ground + 20


def _focus(design: Design) -> tuple[float, float]:
    if design.kind in {"sneaker", "boot"}:
        return (-10.0, 350.0)
    if design.kind in {"handbag", "beanie", "cap"}:
        return (0.0, 320.0)
    return (10.0, 190.0)


def photograph(design: Design, view: View, *, shot: int = 0) -> Image.Image:
    """The photo as an RGB image, 480 × 600."""
    return Image.fromarray(Canvas(compose(design, view, shot=shot)).paint())


def jpeg(design: Design, view: View, *, shot: int = 0, quality: int = 86) -> bytes:
    """The photo as the bytes of a JPEG file; the same arguments give the same bytes."""
    file = io.BytesIO()
    photograph(design, view, shot=shot).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _stand(design: Design, view: View) -> list[Layer]:
    """What carries the garment, painted before it."""
    top = 62.0 if design.kind in {"coat", "dress"} else 92.0
    if view is View.HANGER:
        wood = Cloth(rgb=(176, 132, 88), weave="wood")
        half = 74.0
        bar = symmetric(
            join(
                quad((0, top - 22), (26, top - 20), (half, top + 14)),
                quad((half + 6, top + 24), (half - 4, top + 24), (half - 14, top + 22)),
                quad((half - 34, top + 4), (24, top - 6), (0, top - 6)),
            )
        )
        hook = join(
            cubic((0, top - 20), (0, top - 40), (2, top - 46), (8, top - 52)),
            cubic((8, top - 52), (20, top - 64), (2, top - 82), (-10, top - 68)),
        )
        return [
            Line(track=hook, rgb=(150, 150, 154), width=3.4, opacity=1.0),
            Piece(outline=bar, cloth=wood, puff=7, wrinkle=0, shadow=0.1),
        ]
    if view is View.MANNEQUIN:
        linen = Cloth(rgb=(222, 208, 186), weave="canvas")
        wood = Cloth(rgb=(120, 84, 56), weave="wood")
        neck = 27.0 if top > 70 else 25.0
        width = 76.0 if top > 70 else 56.0
        torso = symmetric(
            join(
                points((0, top - 52), (neck - 2, top - 50)),
                cubic(
                    (neck, top - 48), (neck - 2, top - 14), (neck + 14, top - 2), (width, top + 18)
                ),
                cubic(
                    (width, top + 18),
                    (width + 4, top + 90),
                    (width - 22, top + 150),
                    (width - 18, top + 190),
                ),
                cubic(
                    (width - 18, top + 190),
                    (width - 6, top + 240),
                    (width + 2, top + 270),
                    (width - 2, top + 322),
                ),
                quad((width * 0.5, top + 334), (20, top + 336), (0, top + 336)),
            )
        )
        knob = smooth(
            [
                (-neck + 3, top - 50),
                (-10, top - 62),
                (0, top - 76),
                (10, top - 62),
                (neck - 3, top - 50),
                (0, top - 44),
            ]
        )
        pole = sweep(points((0, top + 300), (0, 620)), [11, 11])
        return [
            Piece(outline=pole, cloth=wood, puff=5, wrinkle=0, shadow=0.1),
            Piece(outline=torso, cloth=linen, puff=34, wrinkle=0.1, shadow=0.1),
            Line(
                track=points((0, top - 46), (0, top + 330)),
                rgb=(150, 132, 106),
                width=1.1,
                opacity=0.6,
            ),
            Piece(outline=knob, cloth=wood, puff=9, wrinkle=0, shadow=0.25, shadow_reach=3),
        ]
    return []
