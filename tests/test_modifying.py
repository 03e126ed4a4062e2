"""The words of "like this but…" suggestions."""

from __future__ import annotations

import pytest

from visualsearch.search import modifying


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("colour", "Navy", "in navy"),
        ("base_color", "Navy", "in navy"),
        ("pattern", "Striped", "striped"),
        ("material", "Silk", "in silk"),
        ("neck_style", "V", "with v neck style"),
        ("sleeve", "Sleeveless", "sleeveless"),
        ("sleeve_length", "Long sleeves", "long sleeves"),
    ],
)
def test_sentence__is_one_that_training_uses_and_says_nothing_twice(
    name: str, value: str, said: str
) -> None:
    assert modifying.sentence(name, value) == said
