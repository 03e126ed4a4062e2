"""What each kind of product is cut from: a builder per kind, returning layers back to front."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shop.drawing.design import Design, View
from shop.drawing.garments import (
    bags,
    boots,
    coats,
    dresses,
    hats,
    jackets,
    legwear,
    sneakers,
    tops,
)
from shop.drawing.layers import Layer

Builder = Callable[[Design, View], Sequence[Layer]]

BUILDERS: dict[str, Builder] = {
    "t-shirt": tops.t_shirt,
    "shirt": tops.shirt,
    "blouse": tops.blouse,
    "sweater": tops.sweater,
    "hoodie": tops.hoodie,
    "jacket": jackets.jacket,
    "coat": coats.coat,
    "dress": dresses.dress,
    "skirt": dresses.skirt,
    "trousers": legwear.trousers,
    "jeans": legwear.jeans,
    "shorts": legwear.shorts,
    "sneaker": sneakers.sneaker,
    "boot": boots.boot,
    "handbag": bags.handbag,
    "beanie": hats.beanie,
    "cap": hats.cap,
}


def build(design: Design, view: View) -> Sequence[Layer]:
    """The layers of this design seen this way, back to front."""
    return BUILDERS[design.kind](design, view)
