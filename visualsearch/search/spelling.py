"""Misspelt words: the nearest words that products really have, found by trigrams.

The words are a table of ours with its trigrams as an array, which a GIN index of plain PostgreSQL
searches: no extension (pg_trgm) that a database may lack is needed. They are collected by `migrate`,
at the end of a training run, and by every sweep; a word that is missing from them is looked for as it
was written all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections, transaction

from visualsearch.models import SearchDocument, SearchWord
from visualsearch.tables import copying
from visualsearch.tables.deadlines import read

KEPT = 3
"""Corrections of one word that are looked for."""
CANDIDATES = 50
LEAST_LETTERS = 4
"""Shorter words are one letter away from too many others."""
MOST_LETTERS = 40
TRIGRAMS_OF_A_STEP = 4
"""Of a word's trigrams, those that one step changes at most: two letters swapped are in four."""
_TABLE = SearchWord._meta.db_table


def collect(*, using: str = "default") -> int:
    """Read the words of all products anew; how many there are.

    Replaced in one transaction, so that a search sees the old ones or the new ones.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT word, ndoc FROM ts_stat(%s) WHERE length(word) BETWEEN 2 AND %s",
            [f"SELECT document FROM {SearchDocument._meta.db_table}", MOST_LETTERS],
        )
        found = cursor.fetchall()
        cursor.execute(f"DELETE FROM {_TABLE}")
        columns = {"word": "text", "products": "bigint", "trigrams": "text"}
        rows = (
            [copying.text(word), copying.bigint(count), copying.text(_array(trigrams(word)))]
            for word, count in found
        )
        copying.stage(cursor, "visualsearch_staged_word", columns, rows)
        cursor.execute(
            f"INSERT INTO {_TABLE} (word, products, trigrams) "
            "SELECT word, products, string_to_array(trigrams, chr(31)) "
            "FROM visualsearch_staged_word"
        )
    return len(found)


def corrections(words: Iterable[str]) -> dict[str, list[str]]:
    """For each of `words` up to KEPT words of the catalogue that it was most likely meant to be.

    The nearest come first; a word that seems to be no misspelling of any is left out.
    """
    # A number that nothing has is no misspelling of another number.
    wanted = [
        word
        for word in words
        if LEAST_LETTERS <= len(word) <= MOST_LETTERS and not word.isdecimal()
    ]
    if not wanted:
        return {}
    parameters: list[Any] = []
    for word in wanted:
        parameters += [word, trigrams(word), _most_steps(word)]
    rows = read(
        "SELECT wanted.word, near.word, near.products FROM (VALUES "
        f"{', '.join(['(%s, %s::text[], %s)'] * len(wanted))}) AS wanted (word, trigrams, steps) "
        "CROSS JOIN LATERAL (SELECT word, products, cardinality(ARRAY("
        "SELECT unnest(trigrams) INTERSECT SELECT unnest(wanted.trigrams))) AS shared "
        f"FROM {_TABLE} WHERE trigrams && wanted.trigrams "
        "AND length(word) BETWEEN length(wanted.word) - steps AND length(wanted.word) + steps "
        "ORDER BY shared DESC, products DESC, word LIMIT %s) AS near "
        "WHERE shared >= cardinality(wanted.trigrams) - %s * steps",
        [*parameters, CANDIDATES, TRIGRAMS_OF_A_STEP],
    )
    found: dict[str, list[tuple[int, int, str]]] = {}
    for word, other, products in rows:
        steps = distance(word, other)
        if steps <= _most_steps(word):
            found.setdefault(word, []).append((steps, -products, other))
    return {word: [other for *_, other in sorted(near)[:KEPT]] for word, near in found.items()}


def _most_steps(word: str) -> int:
    return 1 if len(word) < 8 else 2


def trigrams(word: str) -> list[str]:
    """The runs of three letters of a word, with its beginning and its end marked by blanks."""
    padded = f"  {word} "
    return sorted({padded[at : at + 3] for at in range(len(padded) - 2)})


def distance(one: str, other: str) -> int:
    """Letters to add, drop, replace or swap with their neighbour (optimal string alignment)."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, against in enumerate(other, 1):
            cost = letter != against
            best = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + cost)
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                best = min(best, rows[i - 2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def _array(values: Iterable[str]) -> str:
    return chr(31).join(values)
