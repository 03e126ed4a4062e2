"""The small photos of benchmarks show what the product is: kind, colour, pattern, cut."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks import silhouettes, small_catalogue, small_photo
from shop.drawing.catalogue import product
from shop.drawing.design import Design
from shop.drawing.kinds import KINDS
from shop.drawing.palette import COLOURS

SHIRT = Design(
    kind="t-shirt", colour="red", length="regular", sleeve="short", neckline="crew", style=4
)
UNLIKE = ("t-shirt", "trousers", "skirt", "boot", "handbag", "cap")


def pixels(data: bytes) -> NDArray[np.float32]:
    return np.asarray(Image.open(io.BytesIO(data)), dtype=np.float32)


def seen(design: Design, *, shot: int = 0) -> NDArray[np.float32]:
    return pixels(small_photo.draw(design, shot=(0, shot)))


def thing(photo: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where something other than the background is."""
    return np.abs(photo - np.median(photo[[0, -1]], axis=(0, 1))).max(axis=2) > 40


def outline(photo: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The thing alone, whatever its place and size were."""
    image = Image.fromarray(thing(photo))
    return np.asarray(image.crop(image.getbbox()).resize((48, 48)))


def in_common(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def one_of(kind: str) -> Design:
    """The first drawn product of that kind in plain black."""
    designs = (product(number).design for number in range(5000))
    found = next(each for each in designs if each.kind == kind)
    return replace(found, colour="black", pattern="plain")


def test_photo__the_same_for_a_number_and_a_seed_and_for_no_other() -> None:
    photos = [small_catalogue.photo(number, seed=seed) for number in range(60) for seed in (0, 1)]

    assert len(set(photos)) == len(photos)
    assert small_catalogue.photo(7, seed=1) == photos[15]
    assert pixels(photos[0]).shape == (small_photo.SIDE, small_photo.SIDE, 3)


def test_photo__two_variants_of_one_design_differ_in_the_colour() -> None:
    first, second = (product(number).design for number in (0, 1))
    assert (first.kind, first.style) == (second.kind, second.style)
    assert first.colour != second.colour

    assert in_common(outline(seen(first)), outline(seen(second, shot=5))) > 0.8


@pytest.mark.parametrize("colour", sorted(set(COLOURS) - {"white"}))
def test_photo__the_thing_has_the_colour_of_the_design(colour: str) -> None:
    photo = seen(replace(SHIRT, colour=colour))

    found = photo[thing(photo)].mean(axis=0)
    assert np.abs(found - COLOURS[colour]).max() < 40


def test_photo__white_on_white_has_an_outline() -> None:
    photo = seen(replace(SHIRT, colour="white"))

    assert np.abs(np.diff(photo[32], axis=0)).max() > 20


def test_photo__two_shots_of_a_kind_are_alike_and_two_kinds_are_not() -> None:
    outlines = {kind: outline(seen(one_of(kind))) for kind in UNLIKE}

    for kind, each in outlines.items():
        assert in_common(each, outline(seen(one_of(kind), shot=1))) > 0.9, kind
    for one, other in combinations(UNLIKE, 2):
        assert in_common(outlines[one], outlines[other]) < 0.8, (one, other)


def test_photo__every_pattern_is_seen_and_is_another_one() -> None:
    plain = replace(SHIRT, pattern="plain")
    patterns = [each for each in KINDS["t-shirt"].patterns if each != "plain"]
    photos = {each: seen(replace(SHIRT, pattern=each)) for each in patterns}

    inside = thing(seen(plain))
    for each, photo in photos.items():
        assert photo[inside].std(axis=0).max() > 1.4 * seen(plain)[inside].std(axis=0).max(), each
    for one, other in combinations(patterns, 2):
        assert np.abs(photos[one] - photos[other])[inside].mean() > 15, (one, other)


@pytest.mark.parametrize("cut", ["sleeve", "length"])
def test_photo__what_is_longer_covers_more(cut: str) -> None:
    lengths = {"sleeve": KINDS["t-shirt"].sleeves, "length": KINDS["t-shirt"].lengths}[cut]

    covered = [thing(seen(replace(SHIRT, **{cut: each}))).sum() for each in lengths]
    assert covered == sorted(set(covered))


def test_silhouettes__every_kind_in_every_cut_has_one_inside_the_photo() -> None:
    drawn = {product(number).design for number in range(2000)}
    assert {design.kind for design in drawn} == set(KINDS)

    for design in drawn:
        parts = silhouettes.shapes(design)
        kept = [part for part in parts if part.layer is silhouettes.Layer.CLOTH]
        assert kept, design
        for x, y in (point for part in kept if part.form == "polygon" for point in part.points):
            assert -0.5 <= x <= 0.5, design
            assert 0 <= y <= 1, design
