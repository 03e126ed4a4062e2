"""Misspelt words: the nearest words that products really have, found by trigrams.

The words are a table of ours with its trigrams as an array, which a GIN index of plain PostgreSQL
searches: no extension (pg_trgm) that a database may lack is needed. They are collected by `migrate`
and by every sweep; a word that is missing from them is looked for as it was written all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections, transaction

from visualsearch import copying
from visualsearch.models import SearchDocument, SearchWord

KEPT = 3
"""Corrections of one word that are looked for."""
CANDIDATES = 50
LEAST_LETTERS = 4
"""Shorter words are one letter away from too many others."""
MOST_LETTERS = 40
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


def corrections(cursor: Any, word: str) -> list[str]:
    """Up to KEPT words of the catalogue that `word` was most likely meant to be, nearest first."""
    # A number that nothing has is no misspelling of another number.
    if not LEAST_LETTERS <= len(word) <= MOST_LETTERS or word.isdecimal():
        return []
    wanted = trigrams(word)
    most = 1 if len(word) < 8 else 2
    cursor.execute(
        f"SELECT word, products FROM {_TABLE} WHERE trigrams && %s "
        "AND length(word) BETWEEN %s AND %s ORDER BY cardinality(ARRAY("
        "SELECT unnest(trigrams) INTERSECT SELECT unnest(%s::text[]))) DESC, products DESC, word "
        "LIMIT %s",
        [wanted, len(word) - most, len(word) + most, wanted, CANDIDATES],
    )
    near = [(distance(word, other), -count, other) for other, count in cursor.fetchall()]
    return [other for steps, _, other in sorted(near) if steps <= most][:KEPT]


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
