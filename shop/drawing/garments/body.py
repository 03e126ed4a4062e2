"""The upper half of clothes: torso, sleeves and neck, shared by everything with shoulders."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from shop.drawing.design import Design
from shop.drawing.geometry import (
    XY,
    Points,
    cubic,
    join,
    mirror,
    points,
    quad,
    sweep,
    symmetric,
)
from shop.drawing.layers import Cloth, Drape, Fold, Layer, Line, Piece
from shop.drawing.palette import darker

SLEEVE_LENGTHS = {"short": 92.0, "three-quarter": 190.0, "long": 288.0}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The measures of an upper body, in pixels from the middle of the chest."""

    top: float = 92.0  # y where the shoulder meets the neck
    neck: float = 41.0  # half width there
    shoulder: float = 98.0
    slope: float = 24.0  # how far the shoulder drops
    armhole: float = 96.0
    chest: float = 92.0
    waist: float = 88.0
    hem: float = 94.0
    bottom: float = 440.0
    sag: float = 7.0  # how much lower the hem is in the middle
    neck_depth: float = 22.0
    neck_shape: str = "crew"
    sleeve_width: float = 60.0
    cuff_width: float = 38.0
    sleeve_angle: float = 13.0

    @property
    def armpit(self) -> XY:
        return self.chest, self.top + self.slope + self.armhole


def neck_curve(cut: Cut, *, depth: float | None = None, widen: float = 0.0) -> Points:
    """The front neckline from the left shoulder to the right one."""
    n, y = cut.neck + widen, cut.top
    d = cut.neck_depth if depth is None else depth
    if cut.neck_shape == "v-neck" and depth is None:
        right = cubic((0, y + d), (n * 0.42, y + d * 0.56), (n * 0.9, y + d * 0.28), (n, y))
    elif cut.neck_shape == "square" and depth is None:
        right = join(points((0, y + d)), cubic((n * 0.86, y + d), (n * 0.9, y + d), (n, y), (n, y)))
    else:
        right = cubic((0, y + d), (n * 0.62, y + d), (n * 0.98, y + d * 0.52), (n, y))
    return join(mirror(right)[:-1], right)


def torso(cut: Cut, *, back: bool = False, hem_notch: float = 0.0) -> Points:
    """The outline of front or back, neckline to hem."""
    sx, sy = cut.shoulder, cut.top + cut.slope
    ux, uy = cut.armpit
    shoulder = quad((cut.neck, cut.top), ((cut.neck + sx) / 2, cut.top + cut.slope * 0.4), (sx, sy))
    arm = cubic((sx, sy), (sx - 12, sy + cut.armhole * 0.45), (ux - 14, uy - 14), (ux, uy))
    mid, low = uy + (cut.bottom - uy) * 0.45, cut.bottom - hem_notch
    side = join(
        cubic((ux, uy), (ux - 1, uy + 20), (cut.waist, mid - 30), (cut.waist, mid)),
        cubic((cut.waist, mid), (cut.waist, mid + 40), (cut.hem, low - 40), (cut.hem, low))[1:],
    )
    if hem_notch:  # a shirt tail: high at the side, low in the middle
        hem = cubic(
            (cut.hem, low),
            (cut.hem * 0.72, cut.bottom - hem_notch * 0.2),
            (cut.hem * 0.55, cut.bottom + cut.sag),
            (0, cut.bottom + cut.sag),
        )
    else:
        hem = cubic(
            (cut.hem, cut.bottom),
            (cut.hem * 0.6, cut.bottom + cut.sag),
            (cut.hem * 0.3, cut.bottom + cut.sag),
            (0, cut.bottom + cut.sag),
        )
    half = join(shoulder, arm[1:], side[1:], hem[1:])
    neck = neck_curve(cut, depth=9 if back else None)
    return join(neck, half[1:], mirror(half)[:-1])


def sleeve_track(cut: Cut, length: float, side: int) -> Points:
    """The middle of a sleeve from shoulder to cuff; it bends a little at the elbow."""
    start = np.asarray([cut.shoulder - cut.sleeve_width * 0.33, cut.top + cut.slope + 16.0])
    angle = np.deg2rad(cut.sleeve_angle + (21 if length < 120 else 0))
    along = np.asarray([np.sin(angle), np.cos(angle)])
    out = np.asarray([np.cos(angle), -np.sin(angle)])
    elbow = start + along * length * 0.55 + out * (5 if length < 120 else 13)
    end = start + along * length
    track = quad(tuple(start), tuple(elbow), tuple(end), n=18)
    return track * np.asarray([side, 1], dtype=np.float32)


def sleeve(cut: Cut, length: float, side: int, *, puffed: float = 0.0) -> Points:
    """One sleeve's outline; its upper end is hidden behind the torso."""
    track = sleeve_track(cut, length, 1)
    share = length / SLEEVE_LENGTHS["long"]
    end = cut.sleeve_width + (cut.cuff_width - cut.sleeve_width) * share
    widths = [cut.sleeve_width * 0.72, cut.sleeve_width * 1.16, cut.sleeve_width * 1.04]
    widths += [cut.sleeve_width * 0.98 + (end - cut.sleeve_width) * 0.5, end + puffed * 0.7, end]
    if length < 120:
        widths = [cut.sleeve_width * 0.72, cut.sleeve_width * 1.14, cut.sleeve_width * 1.16]
        widths += [cut.sleeve_width * 1.12 + puffed, cut.sleeve_width * 1.04 + puffed * 0.5]
    elif puffed:
        widths[3] += puffed * 0.6
        widths[4] += puffed
    outline = sweep(track, widths)
    # The outer edge leaves the shoulder in the shoulder's own direction.
    keep = len(outline) - len(track) * (3 if length > 120 else 4) // 10
    corner = outline[keep - 1]
    rise = (corner - outline[keep - 2]) * (2.2 if length > 120 else 1.6)
    sx, sy = cut.shoulder, cut.top + cut.slope
    lead = 10 if length > 120 else 9
    head = cubic(tuple(corner), tuple(corner + rise), (sx + lead, sy + 5), (sx - 4, sy - 1.4))
    outline = join(outline[:keep], head[1:], points((sx - 30, sy + 4)))
    return outline if side > 0 else outline * np.asarray([-1, 1], dtype=np.float32)


def sleeve_layers(
    cut: Cut,
    design: Design,
    cloth: Cloth,
    chance: random.Random,
    *,
    cuff: float = 0.0,
    rib_cuff: bool = False,
    stitched: bool = True,
    puffed: float = 0.0,
    relief: float = 1.0,
    puff: float = 17.0,
) -> list[Layer]:
    """Both sleeves with their creases and cuffs; none for a sleeveless design."""
    length = SLEEVE_LENGTHS.get(design.sleeve)
    if length is None:
        return []
    layers: list[Layer] = []
    for side in (-1, 1):
        track = sleeve_track(cut, length, side)
        angle = float(np.rad2deg(np.arctan2(*(track[-1] - track[0]))))
        outline = sleeve(cut, length, side, puffed=puffed)
        folds = tuple(_sleeve_folds(track, cut, chance, side, length))
        layers.append(
            Piece(
                outline=outline,
                cloth=cloth,
                angle=-angle,
                puff=puff,
                relief=relief,
                wrinkle=0.7,
                folds=folds,
                shadow=0.22,
                seed=chance.randrange(200),
            )
        )
        ends = outline[len(track) - 1 : len(track) + 1]
        along = track[-1] - track[-2]
        along = along / np.hypot(*along)
        if cuff:
            wide = float(np.hypot(*(ends[0] - ends[1])))
            band = sweep(
                points(tuple(track[-1] - along * 2), tuple(track[-1] + along * cuff)),
                [wide * (0.98 if rib_cuff else 1.0), wide * (0.82 if rib_cuff else 0.98)],
            )
            layers.append(
                Piece(
                    outline=band,
                    cloth=design.trim() if rib_cuff else cloth,
                    angle=-angle,
                    puff=10,
                    wrinkle=0,
                    ribs=4.6 if rib_cuff else 0,
                    shadow=0.2,
                    shadow_reach=3,
                )
            )
        elif stitched:
            hem = ends - along * 7
            layers.append(seam(hem, cloth, dash=3.2))
    return layers


def _sleeve_folds(
    track: Points, cut: Cut, chance: random.Random, side: int, length: float
) -> list[Fold]:
    folds = []
    count = 3 if length < 120 else 8
    for k in range(count):
        at = (k + chance.uniform(0.2, 0.9)) / count
        here = track[int(at * (len(track) - 1))]
        reach = cut.sleeve_width * chance.uniform(0.45, 0.75)
        inner = (float(here[0] - side * reach * 0.75), float(here[1] + chance.uniform(-2, 16)))
        outer = (float(here[0] + side * reach * 0.3), float(here[1] + chance.uniform(14, 40)))
        strength = chance.uniform(0.35, 0.95) * (1.2 if 0.35 < at < 0.65 or at > 0.8 else 0.8)
        folds.append(Fold(start=inner, end=outer, width=chance.uniform(4, 8), strength=strength))
    return folds


def torso_folds(cut: Cut, chance: random.Random, *, amount: float = 1.0) -> tuple[Fold, ...]:
    """Creases that run from the armpits and hang towards the hem."""
    folds = []
    ux, uy = cut.armpit
    for side in (-1, 1):
        for k in range(3):
            dx, dy = chance.uniform(18, 60), chance.uniform(30, 110)
            folds.append(
                Fold(
                    start=(side * (ux - 4), uy + k * 9 - 4),
                    end=(side * (ux - dx), uy + dy),
                    width=chance.uniform(5, 11),
                    strength=amount * chance.uniform(0.45, 1.0),
                )
            )
        x = side * chance.uniform(18, cut.hem - 20)
        folds.append(
            Fold(
                start=(x, cut.bottom + 4),
                end=(x * chance.uniform(0.6, 0.95), cut.bottom - chance.uniform(90, 180)),
                width=chance.uniform(8, 15),
                strength=amount * chance.uniform(0.4, 0.95),
            )
        )
    return tuple(folds)


def hang(cut: Cut, chance: random.Random, strength: float = 0.28) -> Drape:
    """The slight vertical fall of a loose top."""
    return Drape(
        count=chance.uniform(2.2, 3.4),
        strength=strength,
        phase=chance.uniform(0, 6),
        top=cut.top + 60,
        bottom=cut.bottom,
        top_half=cut.chest,
        bottom_half=cut.hem + 6,
    )


def inside(cut: Cut, cloth: Cloth, *, raise_by: float = 9.0) -> list[Layer]:
    """The back of the neck seen from the front, with its label."""
    n, y = cut.neck, cut.top
    outline = join(
        quad((-n - 2, y + 3), (0, y - raise_by - 4), (n + 2, y + 3)),
        neck_curve(cut)[::-1] + np.float32(2),
    )
    lining = Cloth(rgb=darker(cloth.rgb, 0.30), weave=cloth.weave)
    label = symmetric(points((9, y + 3), (9, y + 15)))
    return [
        Piece(outline=outline, cloth=lining, puff=12, wrinkle=0.3, shadow=0, relief=0.4, dim=0.12),
        Piece(
            outline=label,
            cloth=Cloth(rgb=(232, 230, 224) if sum(cloth.rgb) < 420 else (50, 50, 54)),
            puff=2,
            wrinkle=0,
            relief=0.2,
            shadow=0.2,
            shadow_reach=2,
        ),
    ]


def seam(track: Points, cloth: Cloth, *, dash: float = 0.0, opacity: float = 0.42) -> Line:
    """A seam or, dashed, the stitches along one."""
    return Line(track=track, rgb=darker(cloth.rgb, 0.6), width=0.9, opacity=opacity, dash=dash)


def hem_stitches(cut: Cut, cloth: Cloth) -> Line:
    """The stitched line above the hem."""
    y, half = cut.bottom - 9, cut.hem - 1
    return seam(quad((-half, y), (0, y + 2 * cut.sag), (half, y), n=24), cloth, dash=3.4)


def armhole_seams(cut: Cut, cloth: Cloth, *, opacity: float = 0.3) -> list[Layer]:
    sx, sy = cut.shoulder, cut.top + cut.slope
    ux, uy = cut.armpit
    arm = cubic((sx, sy), (sx - 12, sy + cut.armhole * 0.45), (ux - 14, uy - 14), (ux, uy))
    return [seam(arm, cloth, opacity=opacity), seam(mirror(arm), cloth, opacity=opacity)]
