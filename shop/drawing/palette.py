"""The named colours of the drawn catalogue and which of them go together."""

from __future__ import annotations

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "black": (34, 34, 38),
    "white": (243, 242, 238),
    "grey": (150, 152, 156),
    "navy": (34, 46, 82),
    "blue": (48, 98, 178),
    "light blue": (160, 194, 224),
    "teal": (24, 124, 126),
    "green": (46, 122, 72),
    "olive": (110, 110, 62),
    "yellow": (240, 196, 60),
    "orange": (226, 118, 44),
    "red": (196, 38, 44),
    "burgundy": (108, 26, 44),
    "pink": (236, 160, 178),
    "purple": (112, 74, 148),
    "beige": (216, 196, 164),
    "brown": (112, 74, 48),
}

# Denim and leather come in the colours in which they are really dyed.
DYED: dict[str, tuple[str, ...]] = {
    "denim": ("blue", "light blue", "navy", "black", "grey", "white"),
    "leather": ("black", "brown", "burgundy", "beige", "white", "navy", "red", "green"),
}

DENIM: dict[str, RGB] = {
    "blue": (66, 100, 148),
    "light blue": (146, 176, 208),
    "navy": (44, 56, 88),
    "black": (46, 47, 52),
    "grey": (132, 135, 140),
    "white": (236, 235, 230),
}

LIGHT_ACCENTS: tuple[str, ...] = ("white", "beige", "light blue", "pink")
DARK_ACCENTS: tuple[str, ...] = ("navy", "black", "burgundy", "green", "brown", "red")


def luminance(rgb: RGB) -> float:
    """Perceived brightness, 0 to 1 (Rec. 709 weights)."""
    return (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]) / 255


def dye(colour: str, material: str) -> RGB:
    """How a named colour looks on a material."""
    if material == "denim":
        return DENIM.get(colour, COLOURS[colour])
    return COLOURS[colour]


def accent_for(colour: str, choice: int) -> RGB:
    """A second colour that stands out from ``colour``; ``choice`` picks among those that do."""
    base = luminance(COLOURS[colour])
    # White keeps half of the cloth: it is what most patterns are printed with.
    options = LIGHT_ACCENTS if base < 0.5 else DARK_ACCENTS
    picks = [options[0], *options] if choice % 2 else list(options)
    allowed = [name for name in picks if abs(luminance(COLOURS[name]) - base) > 0.25]
    return COLOURS[allowed[choice % len(allowed)]]


def mix(first: RGB, second: RGB, amount: float) -> RGB:
    """``amount`` of ``second`` in ``first``."""
    blend = [round(a + (b - a) * amount) for a, b in zip(first, second, strict=True)]
    return (blend[0], blend[1], blend[2])


def darker(rgb: RGB, amount: float) -> RGB:
    return mix(rgb, (12, 10, 14), amount)


def lighter(rgb: RGB, amount: float) -> RGB:
    return mix(rgb, (255, 255, 255), amount)
