"""Texts that describe a product, drawn from its title, description and attributes, of many lengths."""

from __future__ import annotations

import numpy as np

from visualsearch.ml import phrases
from visualsearch.ml.coding import CodedCatalogue, Codes

WITHOUT_TITLE, OF_ATTRIBUTES = 0.6, 0.7
"""Shares of the texts of products that have a title and attributes: without the title, and of those
made of attributes instead of a piece of the description."""
WHOLE_TITLE, SHORTENED_TITLE = 0.5, 0.25
"""Shares of the texts with a title: just as it is, with words left out; else with attributes."""


def text_of(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> tuple[str, Codes] | None:
    """A text that describes product `index`, and what a product must be for it to be right.

    Title, title with words dropped, attributes ("blue dress"), a piece of the description, all of
    it: so that whole titles and two-word queries both work. None for a product without any text.
    """
    with_title = coded.has_title(index)
    without = coded.is_described(index) or coded.has_more_texts(index)
    if without and (not with_title or rng.random() < WITHOUT_TITLE):
        return _text_without_title(coded, index, rng)
    return _text_with_title(coded, index, rng) if with_title else None


def texts_of(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> list[tuple[str, Codes]]:
    """A text with the product's title and one without it, as far as it has both; see `text_of`."""
    found = []
    if coded.has_title(index):
        found.append(_text_with_title(coded, index, rng))
    if coded.is_described(index) or coded.has_more_texts(index):
        found.append(_text_without_title(coded, index, rng))
    return found


def _text_with_title(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> tuple[str, Codes]:
    title, wanted = coded.catalogue.items[index].texts[0], coded.nothing()
    form = rng.random()
    if form >= WHOLE_TITLE + SHORTENED_TITLE and coded.is_described(index):
        text, wanted = _attribute_text(coded, index, rng)
        title = f"{title} {text}"
    elif form >= WHOLE_TITLE:
        title = phrases.drop_words(title, rng)
    wanted[coded.title_column] = coded.codes[index, coded.title_column]
    return title, wanted


def _text_without_title(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> tuple[str, Codes]:
    described = coded.is_described(index)
    if described and (not coded.has_more_texts(index) or rng.random() < OF_ATTRIBUTES):
        return _attribute_text(coded, index, rng)
    wanted = coded.nothing()
    wanted[coded.description_column] = coded.codes[index, coded.description_column]
    rest = " ".join(coded.catalogue.items[index].texts[1:])
    return phrases.piece(rest, rng), wanted


def _attribute_text(
    coded: CodedCatalogue, index: int, rng: np.random.Generator
) -> tuple[str, Codes]:
    item, code, wanted = coded.catalogue.items[index], coded.codes[index], coded.nothing()
    present = [name for name in coded.names if item.attributes.get(name)]
    most = min(3, len(present))
    count = int(rng.integers(0 if item.label else 1, most + 1)) if most else 0
    # The first attribute (the colour, where there is one) is what queries name most often.
    chosen = list(rng.permutation(len(present))[:count])
    if count and 0 not in chosen and rng.random() < 0.5:
        chosen[0] = 0
    names = [present[i] for i in chosen]
    label = item.label if not names or rng.random() < 0.8 else ""
    for name in names:
        column = 1 + coded.names.index(name)
        wanted[column] = code[column]
    if label:
        wanted[0] = code[0]
    return phrases.description({name: item.attributes[name] for name in names}, label, rng), wanted
