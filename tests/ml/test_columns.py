"""Which column means what, by its name."""

from __future__ import annotations

import pytest

from visualsearch.ml.columns import map_columns, normal_name

KAGGLE = [
    *("id", "gender", "masterCategory", "subCategory", "articleType"),
    *("baseColour", "season", "year", "usage", "productDisplayName"),
]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("productDisplayName", "product_display_name"),
        ("Style Code", "style_code"),
        ("\ufeffSKU", "sku"),
        ("base-colour", "base_colour"),
    ],
)
def test_normal_name__joins_words(column: str, expected: str) -> None:
    assert normal_name(column) == expected


def test_map_columns__kaggle_layout() -> None:
    columns = map_columns(KAGGLE)
    assert (columns.id, columns.title, columns.label) == ("id", "productDisplayName", "articleType")
    assert columns.image is None
    assert list(columns.attributes) == [
        "base_colour",
        "gender",
        "master_category",
        "sub_category",
        "season",
        "usage",
    ]


def test_map_columns__only_repeating_words_are_attributes() -> None:
    header = [
        "sku",
        "name",
        "style_code",
        "product_code",
        "colour",
        "price",
        "stock",
        "ean",
        "note",
        "weight",
    ]
    rows = [
        {
            "sku": str(i),
            "name": f"Name {i}",
            "colour": ("red", "blue")[i % 2],
            "note": f"note {i}",
            "weight": str(i % 3),
        }
        for i in range(12)
    ]
    columns = map_columns(header, rows)
    assert columns.group == "style_code"
    assert (columns.price, columns.stock) == ("price", "stock")
    assert dict(columns.attributes) == {"colour": "colour"}
    assert columns.attributes_of({"colour": " red ", "note": "x"}) == {"colour": "red"}
    assert columns.attributes_of({}) == {}


def test_map_columns__a_column_given_by_hand_wins() -> None:
    header = ["id", "group", "design"]
    assert map_columns(header, overrides={"group": "design"}).group == "design"
    with pytest.raises(ValueError, match="no column 'nowhere'"):
        map_columns(header, overrides={"group": "nowhere"})


def test_map_columns__no_id_says_which_names_would_do() -> None:
    with pytest.raises(ValueError, match="id, sku"):
        map_columns(["name", "price"])


def test_images_of__several_in_one_cell() -> None:
    columns = map_columns(["id", "image"])
    assert columns.images_of({"image": "a.jpg | b.jpg;c.jpg;"}) == ["a.jpg", "b.jpg", "c.jpg"]
