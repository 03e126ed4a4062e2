"""The words of a query as PostgreSQL is asked for them: stems, word beginnings, and what a misspelt one may mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

from visualsearch.conf import get_settings
from visualsearch.models import SearchWord
from visualsearch.search import spelling
from visualsearch.tables.deadlines import read

MOST_WORDS = 12
_OPERATOR = re.compile(r'"|(^|\s)-|\bor\b', re.IGNORECASE)
_WORDS = SearchWord._meta.db_table


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

    @classmethod
    def of(cls, text: str) -> Words:
        """The words of `text`: their stems, and what else may be meant by one that no product has."""
        whole = re.sub(r"\s", "", text).lower()
        codes = tuple(dict.fromkeys([whole, *text.lower().split()]))[: MOST_WORDS + 1]
        config = get_settings().TEXT_SEARCH_CONFIG
        if _OPERATOR.search(text):
            ((query,),) = read(
                "SELECT websearch_to_tsquery(%s::regconfig, %s)::text", [config, text]
            )
            return cls(codes=codes, every=query, rank=query, some="")
        stems = _stems(re.findall(r"\w+", text)[:MOST_WORDS], config)
        # Of a word that products have, or that is being typed, nothing else is meant.
        unknown = [stem for stem, _, is_beginning in stems if not is_beginning]
        corrections = spelling.corrections(unknown)
        parts, said = [], []
        for stem, is_known, is_beginning in stems:
            others = corrections.get(stem, [])
            meant = [_quoted(stem), *map(_quoted, others)]
            part = f"({' | '.join(meant if is_known else [f'{_quoted(stem)}:*', *meant])})"
            parts.append(part)
            if is_known or is_beginning or others:
                said.append(part)
        every, some = " & ".join(said or parts), " | ".join(parts)
        # A word that no product had when words were collected leaves none out. One that has it since
        # then comes first by its rank.
        is_short = 0 < len(said) < len(parts)
        return cls(
            codes=codes,
            every=every,
            rank=some if is_short else every,
            some=some if len(parts) > 1 else "",
        )


def _stems(words: list[str], config: str) -> list[tuple[str, bool, bool]]:
    """(stem, whether products have it, whether a word of theirs begins with it), in their order."""
    # In the order of the characters, the first word from the stem on tells both.
    found = read(
        f"SELECT lexeme, (SELECT word FROM {_WORDS} WHERE word ~>=~ lexeme "
        "ORDER BY word USING ~<~ LIMIT 1) "
        "FROM unnest(%s::text[]) WITH ORDINALITY AS given (word, place) CROSS JOIN LATERAL "
        "unnest(tsvector_to_array(to_tsvector(%s::regconfig, word))) AS lexeme "
        "GROUP BY lexeme ORDER BY min(place), lexeme",
        [words, config],
    )
    return [(stem, word == stem, (word or "").startswith(stem)) for stem, word in found]


def _quoted(lexeme: str) -> str:
    """A lexeme of a tsquery, whatever characters it has."""
    escaped = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
