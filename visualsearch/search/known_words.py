"""What products have of the words of a query: their stems, beginnings of words, and likely misspellings."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from visualsearch.models import SearchWord
from visualsearch.search import spelling
from visualsearch.tables.deadlines import read

SECONDS = 60
"""How long a word's stems are remembered. The words of all products are collected once a day; what is not
known yet is looked for as it was written."""
MOST_KEPT = 10_000
_TABLE = SearchWord._meta.db_table


class Stem(NamedTuple):
    """A stem of a word that was searched for."""

    lexeme: str
    is_known: bool
    """Whether products have it."""
    is_beginning: bool
    """Whether a word of theirs begins with it."""
    corrections: tuple[str, ...]
    """What else may be meant, the most likely first; () for what is known or being typed."""


_remembered: dict[tuple[str, str], tuple[float, tuple[Stem, ...]]] = {}
"""(configuration, word) -> until when, and its stems: the words of queries are few and come again."""


def stems(words: Iterable[str], config: str) -> list[Stem]:
    """The stems of `words` by the text search configuration `config`, in their order, each once."""
    words = list(dict.fromkeys(words))
    now = time.monotonic()
    found = {
        word: known
        for word in words
        for until, known in [_remembered.get((config, word), (0.0, ()))]
        if until > now
    }
    lacking = [word for word in words if word not in found]
    if lacking:
        found |= _looked_up(lacking, config)
        if len(_remembered) > MOST_KEPT:
            _remembered.clear()
        for word in lacking:
            _remembered[config, word] = now + SECONDS, found[word]
    return list({stem.lexeme: stem for word in words for stem in found[word]}.values())


def forget() -> None:
    """Ask the database again from now on: its words were collected anew."""
    _remembered.clear()


def _looked_up(words: list[str], config: str) -> dict[str, tuple[Stem, ...]]:
    # In the order of the characters, the first word from the stem on tells both: whether it is the
    # stem itself, and whether it begins with it.
    rows = read(
        f"SELECT place, lexeme, (SELECT word FROM {_TABLE} WHERE word ~>=~ lexeme "
        "ORDER BY word USING ~<~ LIMIT 1) "
        "FROM unnest(%s::text[]) WITH ORDINALITY AS given (word, place) CROSS JOIN LATERAL "
        "unnest(tsvector_to_array(to_tsvector(%s::regconfig, word))) AS lexeme "
        "ORDER BY place, lexeme",
        [words, config],
    )
    found: dict[str, list[tuple[str, bool, bool]]] = {word: [] for word in words}
    for place, lexeme, first in rows:
        is_beginning = (first or "").startswith(lexeme)
        found[words[place - 1]].append((lexeme, first == lexeme, is_beginning))
    # Of a word that products have, or that is being typed, nothing else is meant.
    unknown = [
        lexeme for each in found.values() for lexeme, _, is_beginning in each if not is_beginning
    ]
    meant = spelling.corrections(unknown)
    return {
        word: tuple(Stem(*each, tuple(meant.get(each[0], ()))) for each in each_word)
        for word, each_word in found.items()
    }
