"""The drawn catalogue: the same for everybody, varied, and honest about what is drawn."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from shop.drawing.catalogue import BLOCK, product
from shop.drawing.design import Design, View
from shop.drawing.garments import BUILDERS
from shop.drawing.kinds import KINDS
from shop.drawing.palette import COLOURS, DYED, accent_for, dye, luminance
from shop.drawing.photo import jpeg, photograph, second_view
from shop.drawing.studio import photographed

ATTRIBUTES = ("colour", "pattern", "material", "length", "sleeve", "neckline")
SHIRT = Design(
    kind="t-shirt", colour="red", length="regular", sleeve="short", neckline="crew", style=4
)


def some_design(name: str, colour: str = "navy") -> Design:
    kind = KINDS[name]
    material = kind.materials[0]
    first = [values[0] if values else "" for values in (kind.lengths, kind.sleeves, kind.necklines)]
    return Design(
        kind=name,
        colour=colour,
        material=material,
        length=first[0],
        sleeve=first[1],
        neckline=first[2],
        style=7,
    )


def pixels(design: Design, view: View = View.FRONT) -> np.ndarray:
    return np.asarray(photograph(design, view), dtype=np.float32)


def differing(a: Design, b: Design) -> list[str]:
    return [name for name in ATTRIBUTES if getattr(a, name) != getattr(b, name)]


def test_kinds__every_kind_has_a_builder() -> None:
    assert set(KINDS) == set(BUILDERS)
    assert len(KINDS) >= 8


def test_product__is_computed_from_its_number_alone() -> None:
    alone = product(999_983)
    assert [product(i) for i in (5, 999_983, 41)][1] == alone
    assert alone.sku == "VS-999984"


def test_product__another_seed_is_another_catalogue() -> None:
    first, second = ([product(i, seed=s) for i in range(BLOCK)] for s in (0, 1))
    assert [p.design for p in first] != [p.design for p in second]
    assert not {p.sku for p in first} & {p.sku for p in second}
    assert not {p.style_code for p in first} & {p.style_code for p in second}


def test_product__negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0, not -1"):
        product(-1)


def test_catalogue__skus_and_designs_are_unique() -> None:
    products = [product(i) for i in range(40 * BLOCK)]
    assert len({p.sku for p in products}) == len(products)
    assert len({p.design for p in products}) == len(products)


def test_catalogue__every_variant_has_a_sibling_that_differs_in_one_attribute() -> None:
    families: dict[str, list[Design]] = {}
    for i in range(40 * BLOCK):
        families.setdefault(product(i).style_code, []).append(product(i).design)
    for family in families.values():
        assert len({design.kind for design in family}) == 1
        assert len({design.style for design in family}) == 1
        assert len({design.colour for design in family}) >= 2
        for design in family:
            assert any(len(differing(design, other)) == 1 for other in family)


def test_catalogue__sleeves_and_patterns_change_within_styles() -> None:
    changes: dict[str, int] = dict.fromkeys(ATTRIBUTES, 0)
    for start in range(0, 40 * BLOCK, BLOCK):
        block = [product(start + i) for i in range(BLOCK)]
        for a in block:
            for b in block:
                if a.style_code == b.style_code and len(differing(a.design, b.design)) == 1:
                    changes[differing(a.design, b.design)[0]] += 1
    for name in ("colour", "pattern", "length", "sleeve", "neckline"):
        assert changes[name] >= 50, name


def test_catalogue__has_every_kind_and_colour_prices_and_sold_out_products() -> None:
    products = [product(i) for i in range(1200)]
    assert {p.design.kind for p in products} == set(KINDS)
    assert {p.design.colour for p in products} == set(COLOURS)
    assert len(COLOURS) >= 12
    assert all(5 < p.price < 500 for p in products)
    sold_out = sum(p.stock == 0 for p in products)
    assert 30 <= sold_out <= 200


@pytest.mark.parametrize("number", range(0, 240, 7))
def test_words__title_and_description_name_what_is_drawn(number: int) -> None:
    drawn = product(number)
    design, words = drawn.design, f"{drawn.name} {drawn.description}".lower()
    assert KINDS[design.kind].noun.lower() in words
    assert design.colour in drawn.description.lower()
    if design.pattern == "dotted":
        assert "dots" in words or "dotted" in words
    elif design.pattern != "plain":
        assert design.pattern.split("-")[0] in words or "stripes" in words or "check" in words
    if design.sleeve == "sleeveless":
        assert "sleeveless" in words and "no sleeves" in words
    elif design.sleeve:
        assert f"{design.sleeve} sleeves" in words
    assert drawn.description.count(". ") == 1 and drawn.description.endswith(".")
    assert drawn.name[0].isupper() and len(drawn.name) < 100


def test_words__example_reads_like_a_shop() -> None:
    from shop.drawing.wording import title

    assert title(replace(SHIRT, pattern="striped", sleeve="long")) == (
        "Striped cotton T-shirt with long sleeves"
    )


def test_attributes__shoes_have_a_height_and_no_sleeves() -> None:
    boots = next(p for p in map(product, range(2000)) if p.design.kind == "boot")
    assert set(boots.attributes) == {"kind", "height"}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_photo__every_kind_is_drawn_in_both_views(name: str) -> None:
    design = some_design(name, "blue")
    for view in (View.FRONT, second_view(design)):
        image = photograph(design, view)
        assert image.size == (480, 600) and image.mode == "RGB"
        values = np.asarray(image, dtype=np.float32)
        # A good part of the photo is not studio paper, and the corner is.
        covered = np.abs(values - values[2, 2]).max(axis=2) > 30
        assert 0.05 < covered.mean() < 0.95
        assert values[2, 2].min() > 175


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_photo__middle_of_a_plain_t_shirt_has_its_colour(colour: str) -> None:
    middle = pixels(replace(SHIRT, colour=colour))[300:380, 200:280].mean(axis=(0, 1))
    distances = {name: np.abs(middle - np.asarray(rgb)).sum() for name, rgb in COLOURS.items()}
    assert min(distances, key=lambda name: distances[name]) == colour


@pytest.mark.parametrize(
    "change",
    [
        {"sleeve": "long"},
        {"sleeve": "sleeveless"},
        {"length": "cropped"},
        {"length": "long"},
        {"neckline": "v-neck"},
        {"pattern": "striped"},
        {"pattern": "checked"},
        {"pattern": "dotted"},
        {"pattern": "floral"},
        {"pattern": "colour-block"},
        {"colour": "blue"},
    ],
)
def test_photo__each_attribute_can_be_seen(change: dict[str, str]) -> None:
    changed = np.abs(pixels(SHIRT) - pixels(replace(SHIRT, **change))).max(axis=2) > 40
    assert changed.mean() > 0.003


def test_photo__pattern_leaves_the_named_colour_the_larger_part() -> None:
    for pattern in ("striped", "dotted", "floral"):
        for style in range(6):
            design = replace(SHIRT, pattern=pattern, colour="navy", style=style)
            body = pixels(design)[220:400, 190:290].reshape(-1, 3)
            navy = np.abs(body - np.asarray(COLOURS["navy"])).sum(axis=1)
            accent = np.abs(body - np.asarray(design.cloth().accent)).sum(axis=1)
            assert (navy < accent).mean() > 0.5, (pattern, style)


@pytest.mark.parametrize("number", [643, 886])
def test_photo__a_part_of_which_a_sliver_is_in_the_picture_is_drawn(number: int) -> None:
    front, second = product(number, seed=0).photos()
    assert front[:2] == second[:2] == b"\xff\xd8"


def test_jpeg__is_the_same_every_time_and_small() -> None:
    first, second = (jpeg(SHIRT, View.FRONT, shot=3) for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "JPEG"
    assert 5_000 < len(first) < 120_000


def test_photographed__parallel_drawing_gives_the_same_photos_in_order() -> None:
    numbers = list(range(3, 12))
    alone = list(photographed(numbers, 0, 1))
    assert list(photographed(numbers, 0, 2)) == alone
    assert [drawn.number for drawn, _ in alone] == numbers


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_palette__accents_stand_out(colour: str) -> None:
    for choice in range(12):
        accent = accent_for(colour, choice)
        assert abs(luminance(accent) - luminance(COLOURS[colour])) > 0.2


def test_palette__dyed_materials_use_named_colours() -> None:
    for material, colours in DYED.items():
        for colour in colours:
            assert colour in COLOURS
            assert len(dye(colour, material)) == 3
