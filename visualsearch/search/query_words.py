"""The words of a query as PostgreSQL is asked for them: stems, word beginnings, and what a misspelt one may mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

from visualsearch.conf import get_settings
from visualsearch.search import known_words
from visualsearch.tables.deadlines import read

MOST_WORDS = 12
_OPERATOR = re.compile(r'"|(^|\s)-|\bor\b', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Words:
    """A text as PostgreSQL is asked for it."""

    codes: tuple[str, ...]
    """What may be an article number: the whole text, and each of its words."""
    every: str
    """tsquery of products with all words that any product has; "" if no word says anything."""
    new: str
    """tsquery of products with any of the words that none had when they were collected; "" without such."""
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
            return cls(codes=codes, every=query, new="", some="")
        parts: list[str] = []
        said: list[str] = []
        new: list[str] = []
        for stem in known_words.stems(re.findall(r"\w+", text)[:MOST_WORDS], config):
            meant = [_quoted(stem.lexeme), *map(_quoted, stem.corrections)]
            # A word that products have is whole; any other may be still being typed.
            others = meant if stem.is_known else [f"{meant[0]}:*", *meant]
            part = f"({' | '.join(others)})"
            parts.append(part)
            # A word that no product had when words were collected leaves none out.
            is_said = stem.is_known or stem.is_beginning or bool(stem.corrections)
            (said if is_said else new).append(part)
        return cls(
            codes=codes,
            every=" & ".join(said or parts),
            new=" | ".join(new) if said else "",
            some=" | ".join(parts) if len(parts) > 1 else "",
        )

    @property
    def rank(self) -> str:
        """tsquery by which those with `every` are ranked: who has a new word comes first."""
        return self.some if self.new else self.every


def _quoted(lexeme: str) -> str:
    """A lexeme of a tsquery, whatever characters it has."""
    escaped = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
