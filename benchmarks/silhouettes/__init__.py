"""What a drawn product looks like from far away: its outline by kind, length, sleeves and neckline."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.silhouettes import sleeved, unsleeved
from benchmarks.silhouettes.shapes import Layer, Shape
from shop.drawing.design import Design

__all__ = ["Layer", "Shape", "shapes"]


def shapes(design: Design) -> list[Shape]:
    """What `design` is put together from."""
    return _DRAWN[design.kind](design)


_DRAWN: dict[str, Callable[[Design], list[Shape]]] = {
    "t-shirt": sleeved.t_shirt,
    "shirt": sleeved.shirt,
    "blouse": sleeved.blouse,
    "sweater": sleeved.sweater,
    "hoodie": sleeved.hoodie,
    "jacket": sleeved.jacket,
    "coat": sleeved.coat,
    "dress": sleeved.dress,
    "skirt": unsleeved.skirt,
    "trousers": unsleeved.trousers,
    "jeans": unsleeved.jeans,
    "shorts": unsleeved.shorts,
    "sneaker": unsleeved.sneaker,
    "boot": unsleeved.boot,
    "handbag": unsleeved.handbag,
    "beanie": unsleeved.beanie,
    "cap": unsleeved.cap,
}
