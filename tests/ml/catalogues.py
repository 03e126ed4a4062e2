"""Synthetic catalogues for the tests of `visualsearch.ml`: coloured shapes with texts and groups."""

from __future__ import annotations

from itertools import product

import numpy as np

from visualsearch.ml.data import Catalogue, Item

COLOURS = {
    "Red": (220, 30, 30),
    "Green": (30, 170, 60),
    "Blue": (30, 60, 210),
    "Yellow": (235, 210, 40),
}
KINDS = ("Square", "Bar", "Ring", "Cross")


def draw(
    kind: str, colour: tuple[int, int, int], *, size: int, rng: np.random.Generator
) -> np.ndarray:
    """One photo: uint8 [size, size, 3], a shape on white, a little moved."""
    image = np.full((size, size, 3), 255, dtype=np.uint8)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    x, y = x + rng.uniform(-0.06, 0.06), y + rng.uniform(-0.06, 0.06)
    inside = {
        "Square": (abs(x) < 0.3) & (abs(y) < 0.3),
        "Bar": (abs(x) < 0.12) & (abs(y) < 0.42),
        "Ring": (np.hypot(x, y) < 0.4) & (np.hypot(x, y) > 0.2),
        "Cross": ((abs(x) < 0.1) | (abs(y) < 0.1)) & (abs(x) < 0.42) & (abs(y) < 0.42),
    }[kind]
    image[inside] = np.clip(np.array(colour) + rng.integers(-15, 16, 3), 0, 255)
    return image


def coloured_shapes(
    *, designs: int = 2, photos: int = 1, size: int = 32, seed: int = 0
) -> Catalogue:
    """4 kinds x `designs` groups x 4 colours, with a title, kind, group and attributes each."""
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    pixels: list[np.ndarray] = []
    for kind, design in product(KINDS, range(designs)):
        for name, colour in COLOURS.items():
            slots = tuple(range(len(pixels), len(pixels) + photos))
            pixels += [draw(kind, colour, size=size, rng=rng) for _ in range(photos)]
            items.append(
                Item(
                    id=f"{kind}-{design}-{name}",
                    images=slots,
                    texts=(f"{name} {kind.lower()}", f"A {kind.lower()} of design {design}."),
                    label=kind,
                    group=f"{kind}-{design}",
                    attributes={"colour": name, "line": "Old" if design % 2 else "New"},
                )
            )
    return Catalogue(items, np.stack(pixels))
