"""Titles that differ in exactly one word, found by what they have in common."""

from __future__ import annotations

from collections.abc import Iterable

Member = tuple[str, str]
"""The word that a title has at its family's gap, and the title."""


def one_word_apart(titles: Iterable[str]) -> dict[str, list[Member]]:
    """Family ("* cotton shirt") -> its titles with the word in the gap, two or more; distinct titles.

    A family of one word is left out: it is no design, only a pair of unrelated names.
    """
    families: dict[str, list[Member]] = {}
    for title in titles:
        words = title.split()
        for place, word in enumerate(words):
            family = " ".join([*words[:place], "*", *words[place + 1 :]])
            families.setdefault(family, []).append((word, title))
    return {
        family: members
        for family, members in families.items()
        if len(members) > 1 and family != "*"
    }


def normalised(title: str) -> str:
    """As titles are compared: without case, single spaces."""
    return " ".join(title.casefold().split())
