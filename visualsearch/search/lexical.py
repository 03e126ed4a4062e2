"""What matches by words: article numbers, full text, word beginnings and misspelt words; never a vector."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import models

from visualsearch.models import SearchDocument
from visualsearch.search.query_words import Words
from visualsearch.search.results import BLOCK, LOADED, NOTHING, Block, Match, Total
from visualsearch.search.subquery import Subquery
from visualsearch.tables.deadlines import bounded, read, together

RANKED = 5_000
"""Products that are ranked by words: of a word that more of them have, the rank says little."""
RANKED_SOME = 400
"""The same where none has all the words: any of them is often half of the catalogue."""
_TABLE = SearchDocument._meta.db_table
_RANK = "(1000 * ts_rank(document, %s::tsquery))::int"
"""In thousandths: what differs by less matches alike."""
_CODES = (
    f"SELECT product_id, true AS is_code, 1000 AS score FROM {_TABLE} WHERE codes && %s::text[]"
)
_ORDER = "is_code DESC, score DESC, product_id"


class Placed(NamedTuple):
    """A product and its place among those that match the words."""

    product_id: Any
    is_code: bool
    place: int
    """Those that match alike share one."""


class Ranking(NamedTuple):
    """What the words found."""

    placed: list[Placed]
    """The best first."""
    total: Total | None
    """How many have all of the words; None where none has."""


def best(text: str, subquery: Subquery, *, most: int) -> Ranking:
    """Up to `most` products that match the words, and how many there are, as far as that is known.

    They are ranked before it is asked which of them are allowed, and no more are asked about than
    it takes: that is most of the time where a word is common. Only where this leaves the list short
    although more products have the words, those that are allowed are looked for and then ranked.
    """
    with together():
        words = Words.of(text)
        # With one more it is known that there are more.
        rows, were_all, any_has_all = _ranked_first(words, subquery, most + 1)
        have_all = any_has_all and bool(rows)
        if not rows and were_all and any_has_all and words.some:
            # None of those that have all is allowed.
            rows, were_all, _ = _ranked_first(words, subquery, most + 1, every=False)
        if len(rows) < most and not were_all:
            ctes, parameters = matching(words, subquery)
            rows = read(
                f"WITH {ctes} SELECT product_id, is_code, score FROM words "
                f"ORDER BY {_ORDER} LIMIT %s",
                [*parameters, most + 1],
            )
    placed: dict[Any, Placed] = {}
    place, before = 0, None
    for number, (product_id, *worth) in enumerate(rows[:most], 1):
        if worth != before:
            place, before = number, worth
        # An article number may be among a product's words too.
        placed.setdefault(product_id, Placed(product_id, worth[0], place))
    total = Total(value=len(placed), exact=len(rows) <= most) if have_all else None
    return Ranking(list(placed.values()), total)


def _ranked_first(
    words: Words, subquery: Subquery, most: int, *, every: bool = True
) -> tuple[list[tuple[Any, ...]], bool, bool]:
    """(product_id, is_code, score) of the best that are allowed; whether no others have the words; and
    whether any product has all of them: those with some are looked for only where none has, or
    where `every` says so.
    """
    having, parameters = _CODES, list[Any]([list(words.codes)])
    if every and words.every:
        having += f" UNION ALL {_having(RANKED)}"
        parameters += [words.rank, words.every]
    others = "SELECT * FROM matched WHERE false"
    if words.some:
        others = f"SELECT * FROM {_having(RANKED_SOME)} AS found"
        others += " WHERE NOT EXISTS (SELECT FROM matched)" if every else ""
        parameters += [words.some, words.some]
    rows = read(
        f"WITH matched AS MATERIALIZED ({having}), others AS MATERIALIZED ({others}), "
        "found AS (SELECT * FROM matched UNION ALL SELECT * FROM others) "
        "SELECT counted.*, best.* FROM "
        "(SELECT (SELECT count(*) FROM matched), (SELECT count(*) FROM others)) AS counted "
        f"LEFT JOIN (SELECT * FROM (SELECT * FROM found ORDER BY {_ORDER}) AS found "
        f"WHERE product_id IN ({subquery.sql}) ORDER BY {_ORDER} LIMIT %s) AS best ON true "
        f"ORDER BY {_ORDER}",
        [*parameters, *subquery.parameters, most],
    )
    number, some = rows[0][:2]
    were_all = number < RANKED and some < RANKED_SOME
    return [row[2:] for row in rows if row[2] is not None], were_all, number > 0


def _having(most: int) -> str:
    return (
        f"(SELECT product_id, false AS is_code, {_RANK} AS score FROM {_TABLE} "
        f"WHERE document @@ %s::tsquery LIMIT {most})"
    )


def matching(words: Words, subquery: Subquery) -> tuple[str, list[Any]]:
    """SQL of (product_id, is_code, score): what matches.

    Those with any of the words only where none has them all, which is known before they are read.
    """
    allowed = f"product_id IN ({subquery.sql})"

    def ranked(most: int) -> str:
        return (
            f"(SELECT product_id, false AS is_code, {_RANK} AS score FROM {_TABLE} "
            f"WHERE document @@ %s::tsquery AND {allowed} LIMIT {most})"
        )

    parts, parameters = ["codes"], [list(words.codes), *subquery.parameters]
    ctes = [f"codes AS MATERIALIZED ({_CODES} AND {allowed})"]
    for name, query, rank, cap in (
        ("every", words.every, words.rank, RANKED),
        ("some", words.some, words.some, RANKED_SOME),
    ):
        if not query:
            continue
        sql = ranked(cap)
        if name == "some":
            sql = (
                f"(SELECT * FROM {sql} AS found "
                'WHERE NOT EXISTS (SELECT FROM "every") AND NOT EXISTS (SELECT FROM codes))'
            )
        ctes.append(f'"{name}" AS MATERIALIZED ({sql})')
        parts.append(f'"{name}"')
        parameters += [rank, query, *subquery.parameters]
    union = " UNION ALL ".join(f"SELECT * FROM {part}" for part in parts)
    ctes.append(
        "words AS (SELECT product_id, bool_or(is_code) AS is_code, max(score) AS score "
        f"FROM ({union}) AS found GROUP BY product_id)"
    )
    return ", ".join(ctes), parameters


class LexicalMatches:
    """Products that match the words, the best first: the answer where there are no vectors."""

    def __init__(self, *, allowed: models.QuerySet[Any], text: str) -> None:
        self._allowed = allowed
        self._text = text
        self._read = functools.cache(self._matches)

    def block(self, number: int) -> Block:
        return _block(*self._read(BLOCK * number // LOADED), number)

    def _matches(self, part: int) -> tuple[list[Match], int | None]:
        """LOADED of those that match, and how many there are; None if there are none so far down."""
        try:
            subquery = Subquery(self._allowed)
        except EmptyResultSet:
            return [], None
        start = LOADED * part
        with together():
            ctes, parameters = matching(Words.of(self._text), subquery)
            rows = read(
                f"WITH {ctes} SELECT product_id, is_code, count(*) OVER () FROM words "
                f"ORDER BY {_ORDER} LIMIT %s OFFSET %s",
                [*parameters, LOADED, start],
            )
        matches = [
            Match(product_id=pk, by_words=start + place, is_code=is_code)
            for place, (pk, is_code, _) in enumerate(rows, 1)
        ]
        return matches, rows[0][2] if rows else None


class Listed:
    """Products in the order of their keys: for a query that holds conditions alone."""

    def __init__(self, allowed: models.QuerySet[Any]) -> None:
        self._allowed = allowed.order_by("pk")
        self._read = functools.cache(self._matches)

    def block(self, number: int) -> Block:
        return _block(*self._read(BLOCK * number // LOADED), number)

    def _matches(self, part: int) -> tuple[list[Match], int | None]:
        with bounded():
            rows = self._allowed.values_list("pk", flat=True).distinct()
            found = list(rows[LOADED * part : LOADED * (part + 1)])
            count = self._allowed.order_by().values("pk").distinct().count() if found else None
        return [Match(product_id=pk) for pk in found], count


def _block(matches: Sequence[Match], count: int | None, number: int) -> Block:
    """The `number`-th block, of the LOADED matches that it is among."""
    if count is None:
        return Block(matches=(), total=NOTHING.total if number == 0 else None)
    start = BLOCK * number % LOADED
    return Block(
        matches=tuple(matches[start : start + BLOCK]), total=Total(value=count, exact=True)
    )
