"""The kinds of product that are drawn, and what each may be made of, look like and cost."""

from __future__ import annotations

from dataclasses import dataclass

from shop.drawing.palette import COLOURS, DYED

ALL_PATTERNS = ("plain", "striped", "checked", "dotted", "floral", "colour-block")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of product."""

    category: str  # as the shop's menu calls it
    noun: str  # as a title calls it
    price: tuple[int, int]
    weight: int = 2  # how often a style of it is designed
    materials: tuple[str, ...] = ("cotton",)
    patterns: tuple[str, ...] = ("plain",)
    lengths: tuple[str, ...] = ()
    sleeves: tuple[str, ...] = ()
    necklines: tuple[str, ...] = ()
    length_name: str = "length"  # shoes have a height

    def patterns_in(self, material: str) -> tuple[str, ...]:
        """Denim and leather are not printed; leather shoes and bags are sewn from two colours."""
        if material in {"denim", "leather"}:
            return tuple(
                p
                for p in self.patterns
                if p == "plain" or (p == "colour-block" and not self.sleeves)
            )
        return self.patterns

    def choices(self, attribute: str, material: str) -> tuple[str, ...]:
        """Every value that an attribute may have when made of ``material``."""
        match attribute:
            case "pattern":
                return self.patterns_in(material)
            case "length":
                return self.lengths
            case "sleeve":
                return self.sleeves
            case "neckline":
                return self.necklines
            case "colour":
                return DYED.get(material, tuple(COLOURS))
        raise ValueError(f"No product varies in {attribute!r}.")


KINDS: dict[str, Kind] = {
    "t-shirt": Kind(
        category="T-shirts",
        noun="T-shirt",
        price=(13, 30),
        weight=4,
        patterns=ALL_PATTERNS,
        lengths=("cropped", "regular", "long"),
        sleeves=("sleeveless", "short", "three-quarter", "long"),
        necklines=("crew", "v-neck", "round"),
    ),
    "shirt": Kind(
        category="Shirts",
        noun="shirt",
        price=(30, 70),
        weight=3,
        materials=("cotton", "cotton", "denim", "silk"),
        patterns=("plain", "striped", "checked", "dotted", "floral"),
        lengths=("regular", "long"),
        sleeves=("short", "three-quarter", "long"),
        necklines=("collar",),
    ),
    "blouse": Kind(
        category="Blouses",
        noun="blouse",
        price=(28, 75),
        weight=2,
        materials=("silk", "cotton"),
        patterns=("plain", "floral", "dotted", "striped"),
        lengths=("cropped", "regular"),
        sleeves=("short", "three-quarter", "long"),
        necklines=("round", "v-neck", "collar"),
    ),
    "sweater": Kind(
        category="Sweaters",
        noun="sweater",
        price=(38, 110),
        weight=3,
        materials=("wool", "wool", "cotton"),
        patterns=("plain", "striped", "colour-block", "checked"),
        lengths=("cropped", "regular", "long"),
        sleeves=("sleeveless", "short", "long"),
        necklines=("crew", "v-neck", "turtleneck"),
    ),
    "hoodie": Kind(
        category="Hoodies",
        noun="hoodie",
        price=(35, 75),
        weight=1,
        patterns=("plain", "colour-block", "striped"),
        lengths=("cropped", "regular", "long"),
        sleeves=("short", "long"),
        necklines=("hood",),
    ),
    "jacket": Kind(
        category="Jackets & coats",
        noun="jacket",
        price=(65, 240),
        weight=2,
        materials=("denim", "leather", "cotton", "wool"),
        patterns=("plain", "checked", "colour-block"),
        lengths=("cropped", "regular"),
        sleeves=("long",),
        necklines=("collar",),
    ),
    "coat": Kind(
        category="Jackets & coats",
        noun="coat",
        price=(120, 320),
        weight=2,
        materials=("wool", "wool", "cotton"),
        patterns=("plain", "checked", "striped"),
        lengths=("mini", "midi", "maxi"),
        sleeves=("long",),
        necklines=("collar",),
    ),
    "dress": Kind(
        category="Dresses",
        noun="dress",
        price=(45, 160),
        weight=4,
        materials=("cotton", "silk", "cotton", "wool"),
        patterns=ALL_PATTERNS,
        lengths=("mini", "midi", "maxi"),
        sleeves=("sleeveless", "short", "three-quarter", "long"),
        necklines=("round", "v-neck", "crew", "collar"),
    ),
    "skirt": Kind(
        category="Skirts",
        noun="skirt",
        price=(28, 95),
        weight=3,
        materials=("cotton", "silk", "denim", "leather", "wool"),
        patterns=ALL_PATTERNS,
        lengths=("mini", "midi", "maxi"),
    ),
    "trousers": Kind(
        category="Trousers",
        noun="trousers",
        price=(38, 110),
        weight=2,
        materials=("cotton", "wool", "leather"),
        patterns=("plain", "checked", "striped"),
        lengths=("cropped", "long"),
    ),
    "jeans": Kind(
        category="Jeans",
        noun="jeans",
        price=(45, 110),
        weight=2,
        materials=("denim",),
        lengths=("cropped", "long"),
    ),
    "shorts": Kind(
        category="Shorts",
        noun="shorts",
        price=(22, 55),
        weight=2,
        materials=("cotton", "denim"),
        patterns=("plain", "striped", "checked", "floral", "dotted"),
        lengths=("short", "knee-length"),
    ),
    "sneaker": Kind(
        category="Shoes",
        noun="sneakers",
        price=(55, 140),
        weight=2,
        materials=("cotton", "leather"),
        patterns=("plain", "colour-block", "checked"),
        lengths=("low", "high"),
        length_name="height",
    ),
    "boot": Kind(
        category="Shoes",
        noun="boots",
        price=(95, 260),
        weight=2,
        materials=("leather",),
        lengths=("ankle", "knee-high"),
        length_name="height",
    ),
    "handbag": Kind(
        category="Bags",
        noun="handbag",
        price=(48, 280),
        weight=2,
        materials=("leather", "cotton"),
        patterns=("plain", "colour-block", "striped", "checked"),
    ),
    "beanie": Kind(
        category="Hats",
        noun="beanie",
        price=(15, 40),
        weight=1,
        materials=("wool",),
        patterns=("plain", "striped", "colour-block"),
    ),
    "cap": Kind(
        category="Hats",
        noun="cap",
        price=(16, 35),
        weight=1,
        materials=("cotton", "denim"),
        patterns=("plain", "checked", "striped", "colour-block"),
    ),
}
