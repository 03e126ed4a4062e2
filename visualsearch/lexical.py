"""What matches by words: article numbers, full text, word beginnings and misspelt words; never a vector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models

from visualsearch import spelling
from visualsearch.conf import get_settings
from visualsearch.deadlines import bounded
from visualsearch.indexes import VisualIndex, readable_paths
from visualsearch.models import SearchDocument, SearchWord
from visualsearch.results import BLOCK, NOTHING, Block, Match, Total
from visualsearch.subquery import Subquery

MOST_WORDS = 12
RANKED = 5_000
"""Products that are ranked by words: of a word that more of them have, the rank says little."""
RANKED_SOME = 1_000
"""The same where none has all the words: any of them is often half of the catalogue."""
_OPERATOR = re.compile(r'"|(^|\s)-|\bor\b', re.IGNORECASE)
_TABLE, _WORDS = SearchDocument._meta.db_table, SearchWord._meta.db_table


@dataclass(frozen=True, kw_only=True)
class Words:
    """A text as PostgreSQL is asked for it."""

    codes: tuple[str, ...]
    """What may be an article number: the whole text, and each of its words."""
    every: str
    """tsquery of products with all words that any product has; "" if no word says anything."""
    rank: str
    """tsquery by which these are ranked."""
    some: str
    """tsquery of products with any of them; "" where that was not asked for."""


def read(cursor: Any, text: str) -> Words:
    """The words of `text`: their stems, and what else may be meant by one that no product has."""
    whole = re.sub(r"\s", "", text).lower()
    codes = tuple(dict.fromkeys([whole, *text.lower().split()]))[: MOST_WORDS + 1]
    config = get_settings().TEXT_SEARCH_CONFIG
    if _OPERATOR.search(text):
        cursor.execute("SELECT websearch_to_tsquery(%s::regconfig, %s)::text", [config, text])
        (query,) = cursor.fetchone()
        return Words(codes=codes, every=query, rank=query, some="")
    words = re.findall(r"\w+", text)[:MOST_WORDS]
    cursor.execute(
        f"SELECT lexeme, EXISTS (SELECT FROM {_WORDS} WHERE word = lexeme), "
        f"EXISTS (SELECT FROM {_WORDS} WHERE word LIKE lexeme || '%%') "
        "FROM unnest(%s::text[]) WITH ORDINALITY AS given (word, place) CROSS JOIN LATERAL "
        "unnest(tsvector_to_array(to_tsvector(%s::regconfig, word))) AS lexeme "
        "GROUP BY lexeme ORDER BY min(place), lexeme",
        [words, config],
    )
    parts, said = [], []
    for stem, is_known, is_beginning in cursor.fetchall():
        # Of a word that products have, or that is being typed, nothing else is meant.
        others = [] if is_beginning else spelling.corrections(cursor, stem)
        meant = [_quoted(stem), *map(_quoted, others)]
        part = f"({' | '.join(meant if is_known else [f'{_quoted(stem)}:*', *meant])})"
        parts.append(part)
        if is_known or is_beginning or others:
            said.append(part)
    every, some = " & ".join(said or parts), " | ".join(parts)
    # A word that no product had when words were collected leaves none out. One that has it since
    # then comes first by its rank.
    is_short = 0 < len(said) < len(parts)
    return Words(
        codes=codes,
        every=every,
        rank=some if is_short else every,
        some=some if len(parts) > 1 else "",
    )


def matching(words: Words, subquery: Subquery) -> tuple[str, list[Any]]:
    """SQL of (product_id, is_code, has_every, score): what matches, article numbers first.

    Those with any of the words only where none has them all, which is known before they are read.
    """
    allowed = f"product_id IN ({subquery.sql})"

    def ranked(*, every: bool) -> str:
        most = RANKED if every else RANKED_SOME
        return (
            f"(SELECT product_id, false AS is_code, {every} AS has_every, "
            f"round(ts_rank(document, %s::tsquery)::numeric, 3) AS score FROM {_TABLE} "
            f"WHERE document @@ %s::tsquery AND {allowed} LIMIT {most})"
        )

    codes = (
        f"SELECT product_id, true AS is_code, true AS has_every, 1.0 AS score FROM {_TABLE} "
        f"WHERE codes && %s::text[] AND {allowed}"
    )
    parts, parameters = ["codes"], [list(words.codes), *subquery.parameters]
    ctes = [f"codes AS MATERIALIZED ({codes})"]
    for name, query, rank, is_every in (
        ("every", words.every, words.rank, True),
        ("some", words.some, words.some, False),
    ):
        if not query:
            continue
        sql = ranked(every=is_every)
        if not is_every:
            sql = (
                f"(SELECT * FROM {sql} AS found "
                'WHERE NOT EXISTS (SELECT FROM "every") AND NOT EXISTS (SELECT FROM codes))'
            )
        ctes.append(f'"{name}" AS MATERIALIZED ({sql})')
        parts.append(f'"{name}"')
        parameters += [rank, query, *subquery.parameters]
    union = " UNION ALL ".join(f"SELECT * FROM {part}" for part in parts)
    ctes.append(
        "words AS (SELECT product_id, bool_or(is_code) AS is_code, bool_or(has_every) AS has_every, "
        f"max(score) AS score FROM ({union}) AS found GROUP BY product_id)"
    )
    return ", ".join(ctes), parameters


class LexicalMatches:
    """Products that match the words, the best first: the answer where there are no vectors."""

    def __init__(self, *, allowed: models.QuerySet[Any], text: str) -> None:
        self._allowed = allowed
        self._text = text

    def block(self, number: int) -> Block:
        try:
            subquery = Subquery(self._allowed)
        except EmptyResultSet:
            return NOTHING
        with bounded() as cursor:
            ctes, parameters = matching(read(cursor, self._text), subquery)
            cursor.execute(
                f"WITH {ctes} SELECT product_id, is_code, count(*) OVER () FROM words "
                "ORDER BY is_code DESC, score DESC, product_id LIMIT %s OFFSET %s",
                [*parameters, BLOCK, BLOCK * number],
            )
            rows = cursor.fetchall()
        matches = tuple(
            Match(product_id=pk, by_words=BLOCK * number + place, is_code=is_code)
            for place, (pk, is_code, _) in enumerate(rows, 1)
        )
        return _block(matches, rows[0][2] if rows else None, number)


class Listed:
    """Products in the order of their keys: for a query that holds conditions alone."""

    def __init__(self, allowed: models.QuerySet[Any]) -> None:
        self._allowed = allowed.order_by("pk")

    def block(self, number: int) -> Block:
        with bounded():
            rows = self._allowed.values_list("pk", flat=True).distinct()
            found = list(rows[BLOCK * number : BLOCK * (number + 1)])
            count = self._allowed.order_by().values("pk").distinct().count() if found else None
        return _block(tuple(Match(product_id=pk) for pk in found), count, number)


def same_kind(
    index: VisualIndex, allowed: models.QuerySet[Any], product: models.Model
) -> models.QuerySet[Any]:
    """Those of `allowed` with the product's label; none if the label is not a plain field."""
    products = index.model._base_manager.filter(pk__in=allowed.order_by().values("pk"))
    label = index.get_label(product)
    if not label or not readable_paths(index, [index.label_field]):
        return products.none()
    return products.filter(**{index.label_field: label})


def _block(matches: Sequence[Match], count: int | None, number: int) -> Block:
    if count is None:
        return Block(matches=(), total=NOTHING.total if number == 0 else None)
    return Block(matches=tuple(matches), total=Total(value=count, exact=True))


def _quoted(lexeme: str) -> str:
    """A lexeme of a tsquery, whatever characters it has."""
    escaped = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
