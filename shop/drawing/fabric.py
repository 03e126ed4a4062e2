"""How cloth looks from near: weave as fine light and dark, pattern as a mix of two colours."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shop.drawing.layers import Cloth
from shop.drawing.palette import luminance, mix

Plane = NDArray[np.float32]  # [height, width]
# Weaves whose threads can be seen, so that it matters which way they run.
DIRECTED = frozenset({"denim", "knit", "canvas", "wood"})
TILE = 512
TURNED = (656, 528)  # rows and columns: more than any photo has

# weave: (how strong the fine texture is, how much it shines, how much folds are seen)
SURFACES: dict[str, tuple[float, float, float]] = {
    "poplin": (0.016, 0.10, 1.0),
    "jersey": (0.020, 0.05, 0.9),
    "canvas": (0.045, 0.05, 0.8),
    "denim": (0.085, 0.04, 0.95),
    "knit": (0.125, 0.02, 0.8),
    "felt": (0.034, 0.02, 0.75),
    "silk": (0.010, 0.55, 1.35),
    "leather": (0.020, 0.62, 1.1),
    "rubber": (0.012, 0.10, 0.8),
    "metal": (0.004, 0.90, 1.0),
    "wood": (0.05, 0.2, 0.8),
}


def _soft(noise: Plane, radius: int) -> Plane:
    """A periodic blur: tiles must meet at their edges."""
    for axis in (0, 1):
        noise = sum(np.roll(noise, k, axis) for k in range(-radius, radius + 1)) / (2 * radius + 1)
    return noise


def _unit(plane: Plane) -> Plane:
    plane = plane - plane.mean()
    return (plane / max(float(plane.std()), 1e-6)).astype(np.float32)


@cache
def weave_tile(weave: str) -> Plane:
    """Fine texture of a weave, mean 0, about -2 to 2, periodic."""
    chance = np.random.default_rng(abs(hash_name(weave)))
    noise = chance.standard_normal((TILE, TILE)).astype(np.float32)
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    if weave == "denim":
        twill = np.sin((x + y) * (2 * np.pi / 4))
        slub = _unit(_soft(noise, 1) + np.roll(_soft(noise, 2), 7, 0))
        wash = _unit(_soft(_soft(noise, 14), 14))
        return _unit(0.55 * twill + 0.6 * slub + 0.35 * wash)
    if weave == "knit":
        # Stocking stitch: columns of Vs, each stitch two slanted strands.
        across = np.abs((x % 8) - 3.5) / 4
        stitch = np.sin((y + 5 * across) * (2 * np.pi / 6.4)) * 0.8
        gutter = np.where(across > 0.8, -1.3, 0.0) + np.where(across < 0.2, -0.6, 0.0)
        return _unit(stitch + gutter + 0.35 * _unit(_soft(noise, 1)))
    if weave == "felt":
        return _unit(_unit(_soft(noise, 1)) + 0.8 * _unit(_soft(noise, 3)))
    if weave == "leather":
        return _unit(_unit(np.abs(_soft(noise, 2))) + 0.3 * _unit(_soft(noise, 1)))
    if weave == "canvas":
        return _unit(np.sin(x * (2 * np.pi / 4)) * np.sin(y * (2 * np.pi / 4)) + 0.8 * noise)
    if weave == "wood":
        return _unit(np.sin(y * 0.6 + 2 * _unit(_soft(noise, 12))) + 0.2 * noise)
    return _unit(noise + 0.4 * _unit(_soft(noise, 1)))


@lru_cache(maxsize=96)
def weave_turned(weave: str, angle: int, zoom: int) -> Plane:
    """The weave turned by whole degrees and enlarged, big enough to cover any photo."""
    image = Image.fromarray(np.tile(weave_tile(weave), (2, 2)))
    if zoom > 1:
        side = TILE * 2 // zoom
        image = image.crop((0, 0, side, side)).resize((TILE * 2,) * 2, Image.Resampling.BICUBIC)
    turned = image.rotate(angle, Image.Resampling.BILINEAR)
    rows, columns = TURNED
    left, top = (turned.width - columns) // 2, (turned.height - rows) // 2
    return np.asarray(turned.crop((left, top, left + columns, top + rows)))


def hash_name(name: str) -> int:
    """A number for a name that is the same in every process (``hash`` of a text is not)."""
    return int.from_bytes(name.encode(), "little") % (2**31)


@cache
def crease_tile() -> Plane:
    """Irregular large creases as a height field, periodic, mean 0, deviation 1."""
    chance = np.random.default_rng(11)
    base = chance.standard_normal((256, 256)).astype(np.float32)
    large = _unit(_soft(_soft(_soft(base, 11), 9), 7))
    return _unit(large + 0.35 * _unit(_soft(_soft(_soft(base[::-1], 6), 5), 4)))


@cache
def flower_tile() -> NDArray[np.float32]:
    """Scattered flowers as weights [TILE, TILE, 3] of petal, heart and leaf."""
    chance = np.random.default_rng(5)
    weights = np.zeros((TILE, TILE, 3), dtype=np.float32)
    y, x = np.mgrid[-40:40, -40:40].astype(np.float32)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)

    def stamp(cx: int, cy: int, channel: int, mask: Plane) -> None:
        rows, columns = (np.arange(-40, 40) + cy) % TILE, (np.arange(-40, 40) + cx) % TILE
        spot = np.ix_(rows, columns)
        weights[spot] *= 1 - mask[..., None]
        weights[(*spot, channel)] += mask

    spacing = 64
    for row in range(TILE // spacing):
        for column in range(TILE // spacing):
            cx = int(column * spacing + (row % 2) * spacing / 2 + chance.integers(-13, 14))
            cy = int(row * spacing + chance.integers(-13, 14))
            size = float(chance.uniform(13, 25))
            turn = float(chance.uniform(0, 6.28))
            for side in (0.6, -0.7, 2.6):
                lx = x * np.cos(turn + side) + y * np.sin(turn + side)
                ly = -x * np.sin(turn + side) + y * np.cos(turn + side)
                leaf = 1 - np.hypot((lx - size * 1.15) / (size * 0.62), ly / (size * 0.24))
                stamp(cx, cy, 2, np.clip(leaf * 5, 0, 1))
            petals = size * (0.66 + 0.34 * np.abs(np.cos(2.5 * (angle + turn))))
            vein = 0.82 + 0.18 * np.cos(5 * (angle + turn))
            stamp(cx, cy, 0, np.clip((petals - distance) / 1.4, 0, 1) * vein)
            stamp(cx, cy, 1, np.clip((size * 0.27 - distance) / 1.2, 0, 1))
    return weights


def _band(position: Plane, width: float, edge: float) -> Plane:
    """1 inside the first ``width`` of every unit step, with a soft edge."""
    place = np.abs((position % 1.0) - 0.5)
    return np.clip((width / 2 - place) / edge + 0.5, 0, 1)


def dye_cloth(cloth: Cloth, u: Plane, v: Plane) -> NDArray[np.float32]:
    """The colour of every point of a patterned cloth, before light: [height, width, 3].

    ``u`` and ``v`` run along the weave in pixels; for colour blocks they are garment space.
    """
    base = np.asarray(cloth.rgb, dtype=np.float32)
    accent = np.asarray(cloth.accent, dtype=np.float32)
    step, edge = cloth.repeat, 1.3 / cloth.repeat
    match cloth.pattern:
        case "striped":
            # The named colour stays the larger part.
            width = (0.42, 0.3, 0.46, 0.22)[cloth.look % 4]
            along = u if cloth.look % 7 == 6 else v
            amount = _band(along / step, width, edge)
        case "checked":
            if cloth.look % 2:  # gingham: half tone where only one band runs
                amount = 0.5 * (_band(u / step, 0.5, edge) + _band(v / step, 0.5, edge))
            else:  # tartan: wide quiet bands with a thin bright line
                wide = 0.17 * (_band(u / step, 0.52, edge) + _band(v / step, 0.52, edge))
                fine = _band(u / step + 0.5, 0.1, edge) + _band(v / step + 0.5, 0.1, edge)
                amount = np.clip(wide + 0.65 * fine, 0, 1)
        case "dotted":
            row = np.floor(v / step)
            cx = (u / step + 0.5 * (row % 2)) % 1.0 - 0.5
            cy = (v / step) % 1.0 - 0.5
            radius = (0.2, 0.27, 0.15)[cloth.look % 3]
            amount = np.clip((radius - np.hypot(cx, cy)) / edge + 0.5, 0, 1)
        case "floral":
            return _flowers(cloth, u, v, base, accent)
        case "colour-block":
            amount = np.clip((v - cloth.block_y) / 1.3 + 0.5, 0, 1)
        case _:
            raise ValueError(f"No pattern is called {cloth.pattern!r}.")
    return base + amount[..., None] * (accent - base)


def _flowers(
    cloth: Cloth, u: Plane, v: Plane, base: NDArray[np.float32], accent: NDArray[np.float32]
) -> NDArray[np.float32]:
    zoom = 1.15 + 0.25 * (cloth.look % 4)
    rows = (v * zoom).astype(np.int32) % TILE
    columns = (u * zoom + 37 * cloth.look).astype(np.int32) % TILE
    weights = flower_tile()[rows, columns]
    leaf = (104, 138, 92) if luminance(cloth.rgb) < 0.62 else (86, 124, 84)
    heart = mix(cloth.accent, (240, 190, 70), 0.8)
    colours = np.stack([accent, np.asarray(heart), np.asarray(mix(leaf, cloth.rgb, 0.25))])
    rest = 1 - weights.sum(axis=2, keepdims=True)
    return (weights @ colours.astype(np.float32) + np.clip(rest, 0, 1) * base).astype(np.float32)
