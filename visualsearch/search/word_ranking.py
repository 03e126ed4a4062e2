"""Products ranked by the words of a query: article numbers, full text, word beginnings, misspelt words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from visualsearch.models import SearchDocument
from visualsearch.search.query_words import Words
from visualsearch.search.results import Total
from visualsearch.search.subquery import Subquery
from visualsearch.tables import keys
from visualsearch.tables.deadlines import read, together

RANKED = (250, 1_000, 5_000)
"""Products with all of the words that are ranked: of words that more have, the rank says little.

The first number is for searches whose conditions have no values, such as what is on sale, the second for
those with filters; the further one is taken where too few of so many are allowed.
"""
RANKED_SOME = 400
"""The same where none has all the words: any of them is often half of the catalogue."""
_TABLE = SearchDocument._meta.db_table
_RANK = "2 * (1000 * ts_rank(document, %s::tsquery))::int"
"""In thousandths, twice: what differs by less matches alike."""
_NEAR = 1
"""Of those that match alike, these are kept before others, and share the place with them."""
_NEW = 2_000
"""What a product with a word that none had before is ranked higher by: no rank is more."""
CODE = 1_000_000
"""The score of a product whose article number was asked for."""
_CODES = f"(SELECT product_id, {CODE} AS score FROM {_TABLE} WHERE codes && %s::text[])"
ORDER = "score DESC, product_id"


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


class _Found(NamedTuple):
    """What one statement found of the words, before it is known whether that is enough."""

    scores: dict[Any, int]
    """Of the products that are allowed, the best first."""
    is_complete: bool
    """Whether no others have the words."""


def best(text: str, subquery: Subquery, *, most: int, near: Sequence[Any] = ()) -> Ranking:
    """Up to `most` products that match the words, and how many there are, as far as that is known.

    They are ranked before it is asked which of them are allowed, and no more are asked about than
    it takes: that is most of the time where a word is common. Only where this leaves the list short
    although more products have the words, those that are allowed are looked for and then ranked.

    Of words that more products have than are ranked, those count that were stored first, and those
    of the products `near`, which the vectors found: a common word is no reason to leave these out.
    """
    wanted = most + 1  # With one more it is known that there are more.
    with together():
        words, keys_near = Words.of(text), keys.prepared(near)
        found = _with_all(words, subquery, wanted, keys_near)
        has_all = bool(found.scores)
        if not has_all and found.is_complete and words.some:
            # None has all, or none that is allowed: any with some will do.
            found = _with_some(words, subquery, wanted, keys_near)
        scores = found.scores
        if len(scores) < wanted and not found.is_complete:
            ctes, parameters = matching(words, subquery)
            sql = f"WITH {ctes} SELECT * FROM words ORDER BY {ORDER} LIMIT %s"
            rows = read(sql, [*parameters, wanted])
            scores = {product_id: score for product_id, score, _ in rows}
            has_all = any(each for _, _, each in rows)
    placed: list[Placed] = []
    place, before = 0, None
    for number, (product_id, score) in enumerate(islice(scores.items(), most), 1):
        if score // 2 != before:
            place, before = number, score // 2
        placed.append(Placed(product_id, score == CODE, place))
    total = Total(value=len(placed), exact=len(scores) < wanted) if has_all else None
    return Ranking(placed, total)


def _with_all(words: Words, subquery: Subquery, wanted: int, near: list[Any]) -> _Found:
    """Those with all of the words, and those with the article number."""
    query, codes = words.every, (_CODES, [list(words.codes)])
    if not query:
        return _allowed({"codes": codes}, subquery, wanted, was_cut="false")
    found = _Found({}, False)
    for ranked in RANKED[1:] if subquery.parameters else RANKED:
        ctes = {"codes": codes, "first": _having(query, limit=ranked)}
        was_cut = f"(SELECT count(*) FROM first) = {ranked}"
        if near:
            # If all that have the words are ranked, those that are near are among them.
            ctes["near"] = _having(query, more=_NEAR, among=near, condition=was_cut)
        if words.new:
            both = f"({query}) & ({words.new})"
            ctes["new"] = _having(both, rank=words.some, more=_NEW, limit=ranked)
        found = _allowed(ctes, subquery, wanted, was_cut=was_cut)
        if len(found.scores) >= wanted or found.is_complete:
            break
    return found


def _with_some(words: Words, subquery: Subquery, wanted: int, near: list[Any]) -> _Found:
    """Those with any of the words."""
    ctes = {"first": _having(words.some, limit=RANKED_SOME)}
    if near:
        ctes["near"] = _having(words.some, more=_NEAR, among=near)
    was_cut = f"(SELECT count(*) FROM first) = {RANKED_SOME}"
    return _allowed(ctes, subquery, wanted, was_cut=was_cut)


def _allowed(ctes: dict[str, _Sql], subquery: Subquery, wanted: int, *, was_cut: str) -> _Found:
    """The best of all parts that are allowed, each product once: near or with a new word it comes twice."""
    made = ", ".join(f"{name} AS MATERIALIZED {sql}" for name, (sql, _) in ctes.items())
    parts = " UNION ALL ".join(f"SELECT product_id, score FROM {name}" for name in ctes)
    found = f"SELECT product_id, max(score) AS score FROM ({parts}) AS part GROUP BY product_id"
    rows = read(
        f"WITH {made} SELECT known.*, best.* FROM (SELECT NOT {was_cut}) AS known "
        f"LEFT JOIN (SELECT * FROM (SELECT * FROM ({found}) AS found ORDER BY {ORDER}) AS found "
        f"WHERE product_id IN ({subquery.sql}) ORDER BY {ORDER} LIMIT %s) AS best ON true "
        f"ORDER BY {ORDER}",
        [
            *(each for _, parameters in ctes.values() for each in parameters),
            *(*subquery.parameters, wanted),
        ],
    )
    scores = {product_id: score for _, product_id, score in rows if product_id is not None}
    return _Found(scores, bool(rows[0][0]))


_Sql = tuple[str, list[Any]]
"""SQL of (product_id, score) and its parameters."""


def _having(
    query: str,
    *,
    rank: str = "",
    more: int = 0,
    among: Sequence[Any] = (),
    condition: str = "",
    limit: int | None = None,
) -> _Sql:
    """Products with the words of `query`, if the `condition` holds."""
    score, parameters = f"{_RANK} + {more}" if more else _RANK, list[Any]([rank or query, query])
    where = "document @@ %s::tsquery"
    if among:
        where += " AND product_id = ANY(%s)"
        parameters.append(among)
    if condition:
        where += f" AND {condition}"
    cut = f" LIMIT {limit}" if limit else ""
    sql = f"(SELECT product_id, {score} AS score FROM {_TABLE} WHERE {where}{cut})"
    return sql, parameters


def matching(words: Words, subquery: Subquery) -> tuple[str, list[Any]]:
    """SQL of (product_id, score, whether it has all of the words): what matches and is allowed.

    Those with any of the words only where none has them all, which is known before they are read.
    """
    allowed = f"product_id IN ({subquery.sql})"

    def ranked(most: int) -> str:
        return (
            f"(SELECT product_id, {_RANK} AS score FROM {_TABLE} "
            f"WHERE document @@ %s::tsquery AND {allowed} LIMIT {most})"
        )

    parts, parameters = {"codes": "codes"}, [list(words.codes), *subquery.parameters]
    ctes = [f"codes AS MATERIALIZED (SELECT * FROM {_CODES} AS found WHERE {allowed})"]
    for name, query, rank, cap in (
        ("every", words.every, words.rank, RANKED[-1]),
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
        parts[name] = f'"{name}"'
        parameters += [rank, query, *subquery.parameters]
    has_all = {part: "false" if name == "some" else "true" for name, part in parts.items()}
    union = " UNION ALL ".join(
        f"SELECT *, {each} AS has_all FROM {part}" for part, each in has_all.items()
    )
    ctes.append(
        "words AS (SELECT product_id, max(score) AS score, bool_or(has_all) AS has_all "
        f"FROM ({union}) AS found GROUP BY product_id)"
    )
    return ", ".join(ctes), parameters
