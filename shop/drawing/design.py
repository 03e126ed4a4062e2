"""What is drawn: the parameters of one product, and the ways of looking at it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from shop.drawing.layers import Cloth
from shop.drawing.palette import accent_for, dye


class View(StrEnum):
    """How a product is photographed."""

    FRONT = "front"
    BACK = "back"
    DETAIL = "detail"
    HANGER = "hanger"
    MANNEQUIN = "mannequin"

    @property
    def shows_front(self) -> bool:
        return self is not View.BACK


@dataclass(frozen=True, kw_only=True)
class Design:
    """One product's parameters; ``style`` seeds everything that its variants have in common."""

    kind: str
    colour: str
    pattern: str = "plain"
    material: str = "cotton"
    length: str = ""
    sleeve: str = ""
    neckline: str = ""
    style: int = 0

    def random(self, purpose: str) -> random.Random:
        """Chance that all variants of the style share, one stream for each purpose."""
        return random.Random(f"{self.style}/{self.kind}/{purpose}")

    @property
    def weave(self) -> str:
        """How the material is made for this kind of product: wool is knitted, or felted for coats."""
        if self.material == "wool":
            knitted = self.kind in {"sweater", "beanie", "dress"}
            return "knit" if knitted else "felt"
        if self.material == "cotton":
            if self.kind in {"t-shirt", "hoodie", "sweater", "dress"}:
                return "jersey"
            return "canvas" if self.kind in {"sneaker", "handbag", "cap", "jacket"} else "poplin"
        return self.material

    def cloth(self, *, block_y: float = 300.0) -> Cloth:
        chance = self.random("cloth")
        choice = chance.randrange(100)
        repeats = {"striped": (15, 34), "checked": (24, 46), "dotted": (15, 28)}
        low, high = repeats.get(self.pattern, (20, 30))
        look = chance.randrange(100)
        if self.kind in {"trousers", "shorts"}:
            look = 6 + 7 * (look % 4)  # stripes run down a leg
        return Cloth(
            rgb=dye(self.colour, self.material),
            accent=accent_for(self.colour, choice),
            pattern=self.pattern,
            weave=self.weave,
            repeat=chance.uniform(low, high),
            look=look,
            block_y=block_y,
        )

    def trim(self) -> Cloth:
        """The same cloth without its pattern, for collars, bands and linings."""
        return Cloth(rgb=dye(self.colour, self.material), weave=self.weave)
