"""The drawn catalogue: product number i, computed from i and a seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from shop.drawing.design import Design, View
from shop.drawing.kinds import KINDS, Kind
from shop.drawing.photo import jpeg, second_view
from shop.drawing.wording import description, title

# Products come in blocks of styles, so that any one is found without counting those before it.
BLOCK = 24
SMALLEST_STYLE = 4
VARYING = ("sleeve", "length", "neckline", "pattern")


@dataclass(frozen=True, kw_only=True)
class DrawnProduct:
    """Everything that the shop knows about one drawn product."""

    number: int
    sku: str
    style_code: str
    design: Design
    price: Decimal
    stock: int

    @property
    def name(self) -> str:
        return title(self.design)

    @property
    def description(self) -> str:
        return description(self.design)

    @property
    def category(self) -> str:
        return KINDS[self.design.kind].category

    @property
    def attributes(self) -> dict[str, str]:
        """What is not a field of its own: kind, length or height, sleeve, neckline."""
        kind = KINDS[self.design.kind]
        pairs = {
            "kind": self.design.kind,
            kind.length_name: self.design.length,
            "sleeve": self.design.sleeve,
            "neckline": self.design.neckline,
        }
        return {name: value for name, value in pairs.items() if value}

    def photos(self) -> tuple[bytes, bytes]:
        """Two JPEG files: the front, and another view that the whole style shares."""
        front = jpeg(self.design, View.FRONT, shot=self.number)
        return front, jpeg(self.design, second_view(self.design), shot=self.number)


def product(number: int, *, seed: int = 0) -> DrawnProduct:
    """Product ``number`` (from 0) of the catalogue of ``seed``."""
    if number < 0:
        raise ValueError(f"Drawn products are numbered from 0, not {number}.")
    block, place = divmod(number, BLOCK)
    for index, style in enumerate(_styles(block, seed)):
        if place < len(style):
            return _finish(number, style[place], block, index, seed)
        place -= len(style)
    raise AssertionError("a block's styles fill it")


@lru_cache(maxsize=64)
def _styles(block: int, seed: int) -> tuple[tuple[Design, ...], ...]:
    """The styles of a block, each as the designs of its variants."""
    chance = random.Random(f"styles/{seed}/{block}")
    styles: list[tuple[Design, ...]] = []
    left = BLOCK
    while left:
        size = chance.randint(SMALLEST_STYLE, 8)
        if left - size < SMALLEST_STYLE:
            size = left
        styles.append(_style(size, chance))
        left -= size
    return tuple(styles)


def _style(size: int, chance: random.Random) -> tuple[Design, ...]:
    """One style: its colours, then relatives that differ from the first in one other attribute."""
    name = chance.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
    kind = KINDS[name]
    base = _base(name, kind, chance)
    colours = list(kind.choices("colour", base.material))
    chance.shuffle(colours)
    relatives = [replace(base, **{what: value}) for what, value in _changes(base, kind)]
    chance.shuffle(relatives)
    count = min(chance.randint(2, 5), size, len(colours))
    count = max(count, min(size - len(relatives) * 2, len(colours)), 2)
    designs = [replace(base, colour=colour) for colour in colours[:count]]
    for colour in colours[: min(2, count)]:
        designs += [replace(relative, colour=colour) for relative in relatives]
    return (
        tuple(designs[:size]) if len(designs) >= size else _fill(designs, relatives, colours, size)
    )


def _fill(
    designs: list[Design], relatives: list[Design], colours: list[str], size: int
) -> tuple[Design, ...]:
    """Enough variants for a style whose kind has few: relatives in the remaining colours."""
    for colour in colours:
        for relative in relatives:
            designs.append(replace(relative, colour=colour))
    return tuple(dict.fromkeys(designs))[:size]


def _base(name: str, kind: Kind, chance: random.Random) -> Design:
    material = chance.choice(kind.materials)
    patterns = kind.patterns_in(material)
    # Half of any shop is plain.
    pattern = "plain" if chance.random() < 0.45 else chance.choice(patterns)

    def one(values: tuple[str, ...]) -> str:
        return chance.choice(values) if values else ""

    return Design(
        kind=name,
        colour="",
        material=material,
        pattern=pattern,
        length=one(kind.lengths),
        sleeve=one(kind.sleeves),
        neckline=one(kind.necklines),
        style=chance.randrange(2**31),
    )


def _changes(base: Design, kind: Kind) -> list[tuple[str, str]]:
    return [
        (what, value)
        for what in VARYING
        for value in kind.choices(what, base.material)
        if value != getattr(base, what)
    ]


def _finish(number: int, design: Design, block: int, index: int, seed: int) -> DrawnProduct:
    chance = random.Random(f"offer/{seed}/{number}")
    low, high = KINDS[design.kind].price
    worth = design.random("price").uniform(low, high)
    worth *= {"silk": 1.25, "leather": 1.3, "wool": 1.1}.get(design.material, 1.0)
    ending = design.random("ending").choice(("0.99", "0.95", "0.00", "0.50"))
    sold_out = chance.random() < 0.08
    code = f"{seed}-" if seed else ""
    return DrawnProduct(
        number=number,
        sku=f"VS-{code}{number + 1:06d}",
        style_code=f"ST-{code}{block + 1:05d}{'ABCDEF'[index]}",
        design=design,
        price=Decimal(int(worth)) + Decimal(ending),
        stock=0 if sold_out else chance.randint(1, 60),
    )
