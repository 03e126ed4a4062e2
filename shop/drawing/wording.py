"""Titles and descriptions of drawn products, as a shop would write them."""

from __future__ import annotations

import random

from shop.drawing.design import Design
from shop.drawing.kinds import KINDS, Kind

PLURAL = frozenset({"trousers", "jeans", "shorts", "sneaker", "boot"})

PATTERN_PHRASES = {
    "plain": ("in one clear colour", ""),
    "striped": ("with stripes", "striped"),
    "checked": ("with a check", "checked"),
    "dotted": ("with polka dots", "dotted"),
    "floral": ("with a floral print", "floral"),
    "colour-block": ("in two blocks of colour", "colour-block"),
}
MATERIAL_PHRASES = {
    "cotton": ("soft cotton", "crisp cotton", "combed cotton"),
    "denim": ("sturdy denim", "washed denim", "cotton denim"),
    "wool": ("warm wool", "fine wool", "a soft wool blend"),
    "silk": ("flowing silk", "washed silk", "satin-finished silk"),
    "leather": ("smooth leather", "grained leather", "supple leather"),
}
NECK_PHRASES = {
    "crew": "a crew neck",
    "round": "a wide round neckline",
    "v-neck": "a V-neck",
    "turtleneck": "a ribbed turtleneck",
    "collar": "a collar",
    "hood": "a hood with drawstrings",
}
LENGTH_PHRASES = {
    "cropped": "The cropped cut ends above the ankle",
    "regular": "The regular length sits at the hip",
    "long": "The long cut",
    "mini": "The mini length ends well above the knee",
    "midi": "The midi length falls below the knee",
    "maxi": "The maxi length reaches the ankles",
    "short": "The short cut ends high on the thigh",
    "knee-length": "The knee-length cut keeps its shape",
    "low": "The low cut leaves the ankle free",
    "high": "The high shaft covers the ankle",
    "ankle": "The shaft ends at the ankle",
    "knee-high": "The shaft reaches up to the knee",
}
ENDINGS = (
    "easy to wear from morning to evening",
    "made to be worn often",
    "good on its own or in layers",
    "simple to combine with what you already own",
    "a quiet favourite for every season",
    "cut for an easy, relaxed fit",
    "smart or casual, as the day wants it",
    "finished with neat seams inside and out",
)


def title(design: Design) -> str:
    """A short name: "Striped cotton T-shirt with long sleeves"."""
    kind = KINDS[design.kind]
    words: list[str] = []
    if design.sleeve == "sleeveless":
        words.append("sleeveless")
    if design.pattern != "plain":
        words.append(design.pattern)
    if design.length not in {"", "regular", "low", "high"} and not (
        design.length == "long" and design.kind in {"jeans", "trousers"}
    ):
        words.append(design.length)
    if design.kind == "sneaker":
        words.append(f"{design.length}-top")
    if design.kind != "jeans":
        words.append(
            design.material
            if design.kind != "sneaker" or design.material == "leather"
            else "canvas"
        )
    if len(kind.necklines) > 1 and design.neckline in {"v-neck", "turtleneck"}:
        words.append("V-neck" if design.neckline == "v-neck" else "turtleneck")
    words.append(kind.noun)
    name = " ".join(words)
    if len(kind.sleeves) > 1 and design.sleeve != "sleeveless":
        name += f" with {design.sleeve} sleeves"
    return name[0].upper() + name[1:]


def description(design: Design) -> str:
    """Two sentences that say what is to be seen."""
    kind = KINDS[design.kind]
    chance = design.random("words")
    return f"{_first(design, kind, chance)} {_second(design, chance)}"


def _first(design: Design, kind: Kind, chance: random.Random) -> str:
    adjective = PATTERN_PHRASES[design.pattern][1]
    look = f"{design.colour} {adjective}".strip() if chance.random() < 0.5 else design.colour
    phrase = PATTERN_PHRASES[design.pattern][0] if look == design.colour else ""
    stuff = chance.choice(MATERIAL_PHRASES[design.material])
    if design.weave == "canvas":
        stuff = "sturdy cotton canvas"
    article = "" if design.kind in PLURAL else ("An " if look[0] in "aeiou" else "A ")
    start = f"{article}{look} {kind.noun} in {stuff}"
    details = []
    if design.sleeve == "sleeveless":
        details.append("no sleeves")
    elif design.sleeve:
        details.append(f"{design.sleeve} sleeves")
    if design.neckline:
        details.append(NECK_PHRASES[design.neckline])
    if phrase.startswith("with "):
        details.insert(0, phrase.removeprefix("with "))
    elif phrase and design.pattern != "plain":
        start += f", {phrase}"
    text = start + (f", with {_listed(details)}" if details else "")
    return text[0].upper() + text[1:] + "."


def _second(design: Design, chance: random.Random) -> str:
    ending = chance.choice(ENDINGS)
    if not design.length:
        return ending[0].upper() + ending[1:] + "."
    start = LENGTH_PHRASES[design.length]
    if design.length == "cropped" and KINDS[design.kind].sleeves:
        start = "The cropped cut ends at the waist"
    if design.length == "long":
        low = (
            "falls straight to the shoe"
            if design.kind in {"jeans", "trousers"}
            else "covers the hips"
        )
        start = f"The long cut {low}"
    return f"{start}: {ending}."


def _listed(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " and " + parts[-1]
