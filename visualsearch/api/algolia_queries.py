"""Questions as Algolia's clients and InstantSearch ask them, read as our own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from visualsearch.api import parsing
from visualsearch.conf import get_settings
from visualsearch.exceptions import InvalidFilterError, QueryError
from visualsearch.indexes import VisualIndex
from visualsearch.queries.cleaning import clean_text, whole_number
from visualsearch.search.facets import MOST_FACETS

MOST_REQUESTS = 10
"""Queries in one request: the hits, and one for each facet of which several values are chosen."""
USUAL_HITS = 20
MOST_VALUES = 100
"""Values of a facet, as Algolia has it; maxValuesPerFacet may ask for fewer."""
OURS = ("image", "modify", "min_match", "hybrid", "diversity", "collapse")
"""Parts of our own search that may stand among the parameters."""
READ = ("query", "page", "hitsPerPage", "facets", "facetFilters", "numericFilters", "filters")
LEFT_OUT = (
    *("analytics", "analyticsTags", "clickAnalytics", "enablePersonalization", "userToken"),
    *("attributesToHighlight", "attributesToRetrieve", "attributesToSnippet", "responseFields"),
    *("highlightPreTag", "highlightPostTag", "snippetEllipsisText", "getRankingInfo"),
    *("restrictHighlightAndSnippetArrays", "sumOrFiltersScores", "maxValuesPerFacet"),
    *("enableABTest", "ruleContexts", "enableRules", "synonyms", "percentileComputation"),
)
"""Parameters that change nothing about which products are found; maxValuesPerFacet is read."""
_NUMBER = r"-?\d+(?:\.\d+)?"
_COMPARISON = re.compile(rf"\s*([\w.]+?)\s*(<=|>=|=|<|>)\s*({_NUMBER})\s*")
_RANGE = re.compile(rf"\s*([\w.]+)\s*:\s*({_NUMBER})\s+TO\s+({_NUMBER})\s*", re.IGNORECASE)
_FACET = re.compile(r"""\s*([\w.]+)\s*:\s*(?:"([^"]*)"|'([^']*)'|(.*?))\s*""", re.DOTALL)
_LOOKUPS = {"<": "__lt", "<=": "__lte", ">": "__gt", ">=": "__gte", "=": ""}
_AND = re.compile(r"""\s+AND\s+(?=(?:[^"']|"[^"]*"|'[^']*')*$)""")
_JSON = ("facets", "facetFilters", "numericFilters", *OURS)


@dataclass(frozen=True, kw_only=True)
class AlgoliaQuery:
    """One query of a request."""

    index_name: str
    params: str
    """As they were sent, for the answer to repeat."""
    page: int
    hits_per_page: int
    """0 where only facets are asked for."""
    most_values: int
    asked: parsing.Asked

    @property
    def is_listing(self) -> bool:
        """Whether nothing is asked for: then all that the filters leave is listed."""
        asked = self.asked
        return not (asked.text or asked.modify) and asked.photo is None and asked.product is None


def queries(data: Mapping[str, Any], index: VisualIndex) -> list[AlgoliaQuery]:
    """Of {"requests": [{"indexName", "params" or the parameters themselves}]}."""
    return [_query(each, index) for each in requests(data)]


def requests(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What is in "requests", each an object."""
    parsing.check_names(data, ("requests", "strategy"), where="the body")
    given = data.get("requests")
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        raise QueryError(
            'requests is not a list of objects: send {"requests": [{}]}.', field="requests"
        )
    if not 1 <= len(given) <= MOST_REQUESTS:
        raise QueryError(
            f"requests has {len(given)} queries: send 1 to {MOST_REQUESTS}.", field="requests"
        )
    return given


def filters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Our filters, of Algolia's three ways to write them; all of them must hold."""
    found: dict[str, Any] = {}
    for group in _groups(parameters.get("facetFilters"), field="facetFilters"):
        _add(found, [_facet(each, field="facetFilters") for each in group], field="facetFilters")
    for group in _groups(parameters.get("numericFilters"), field="numericFilters"):
        if len(group) > 1:
            raise InvalidFilterError(
                "numericFilters has a list within the list: one of several is not read, all are.",
                field="numericFilters",
            )
        for condition in _numeric(group[0], field="numericFilters"):
            _add(found, [condition], field="numericFilters")
    text = clean_text(parameters.get("filters"), field="filters")
    for part in _AND.split(text) if text else ():
        for condition in _condition(part):
            _add(found, [condition], field="filters")
    return found


def number(parameters: Mapping[str, Any], name: str, usual: int, *, most: int) -> int:
    """A whole number from 0 to `most`, also as a query string has it."""
    value = parameters.get(name)
    if value is None:
        return usual
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10
    return whole_number(int(value) if is_text else value, field=name, least=0, most=most)


def check_parameters(parameters: Mapping[str, Any], names: Iterable[str], *, where: str) -> None:
    """QueryError for what is not read and could change the answer."""
    there = {name for name, value in parameters.items() if value not in (None, "", [], {})}
    parsing.check_names(
        {name: None for name in sorted(there - set(LEFT_OUT))}, tuple(names), where=where
    )


def _query(given: Mapping[str, Any], index: VisualIndex) -> AlgoliaQuery:
    parameters = {
        name: given[name] for name in given if name not in ("indexName", "params", "type")
    }
    if given.get("type", "default") != "default":
        raise QueryError(
            'type is not "default": ask for facets among the parameters of a query.', field="type"
        )
    params = given.get("params")
    if isinstance(params, str):
        parameters |= _decoded(params)
    elif isinstance(params, Mapping):
        parameters |= params
    elif params is not None:
        raise QueryError("params is neither an object nor a query string.", field="params")
    check_parameters(parameters, (*READ, *OURS), where="params")
    settings = get_settings()
    hits = number(parameters, "hitsPerPage", USUAL_HITS, most=settings.LIMIT_MAX)
    last_page = settings.OFFSET_MAX // max(1, hits)
    page = number(parameters, "page", 0, most=last_page)
    asked = parsing.from_json(
        {name: parameters[name] for name in OURS if parameters.get(name) is not None}
        | {
            "q": clean_text(parameters.get("query"), field="query") or None,
            "facets": _facets(parameters.get("facets"), index),
            "filter": filters(parameters),
            "limit": hits,
            "offset": page * hits,
        }
    )
    return AlgoliaQuery(
        index_name=clean_text(given.get("indexName"), field="indexName"),
        params=params if isinstance(params, str) else _encoded(parameters),
        page=page,
        hits_per_page=hits,
        most_values=number(parameters, "maxValuesPerFacet", MOST_VALUES, most=1000),
        asked=asked,
    )


def _decoded(params: str) -> dict[str, Any]:
    """Parameters of a query string, lists and objects in it as JSON."""
    found: dict[str, Any] = dict(parse_qsl(params, keep_blank_values=True))
    for name in _JSON:
        text = found.get(name)
        if text and text[0] in "[{0123456789tf":
            try:
                found[name] = json.loads(text)
            except (ValueError, RecursionError):
                raise QueryError(f"{name} is not JSON.", field=name) from None
    return found


def _encoded(parameters: Mapping[str, Any]) -> str:
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in parameters.items()
    }
    return urlencode(texts, errors="replace")


def _facets(given: Any, index: VisualIndex) -> list[Any] | None:
    """Names of the fields to be counted; "*" is all of them."""
    if given in (None, "", []):
        return None
    names = [given] if isinstance(given, str) else given
    if names in (["*"], ("*",)):
        return list(index.filter_fields)[:MOST_FACETS]
    return names  # facets.clean_names refuses what it does not know


def _groups(given: Any, *, field: str) -> list[list[Any]]:
    """Lists of which each must have one condition that holds."""
    if given in (None, "", []):
        return []
    outer = given if isinstance(given, list) else [given]
    groups = [each if isinstance(each, list) else [each] for each in outer]
    if not all(isinstance(text, str) for group in groups for text in group):
        raise InvalidFilterError(
            f'{field} is not a list of texts: send ["colour:red"] or [["colour:red", "colour:blue"]].',
            field=field,
        )
    return [group for group in groups if group]


def _facet(text: str, *, field: str) -> tuple[str, Any]:
    found = _FACET.fullmatch(text)
    if found is None:
        raise InvalidFilterError(f'{field} has {text[:40]!r}: write "colour:red".', field=field)
    value = next((part for part in found.groups()[1:] if part is not None), "")
    if value.startswith("-") and found[4] is not None:
        raise InvalidFilterError(
            f"{field} has {text[:40]!r}: leaving out a value is not read; ask for those wanted.",
            field=field,
        )
    return found[1], value.removeprefix("\\") if value.startswith("\\-") else value


def _numeric(text: str, *, field: str) -> list[tuple[str, Any]]:
    if found := _RANGE.fullmatch(text):
        return [(f"{found[1]}__gte", found[2]), (f"{found[1]}__lte", found[3])]
    if found := _COMPARISON.fullmatch(text):
        return [(found[1] + _LOOKUPS[found[2]], found[3])]
    raise InvalidFilterError(
        f'{field} has {text[:40]!r}: write "price>=10" or "price:10 TO 20".', field=field
    )


def _condition(text: str) -> list[tuple[str, Any]]:
    """One condition of `filters`."""
    if re.match(r"\s*(NOT\s|\()", text) or re.search(
        r"""\sOR\s(?=(?:[^"']|"[^"]*"|'[^']*')*$)""", text
    ):
        raise InvalidFilterError(
            "filters has OR, NOT or brackets: conditions joined by AND are read; write one of several "
            'values as facetFilters [["colour:red", "colour:blue"]].',
            field="filters",
        )
    if _RANGE.fullmatch(text) or _COMPARISON.fullmatch(text):
        return _numeric(text, field="filters")
    return [_facet(text, field="filters")]


def _add(found: dict[str, Any], conditions: list[tuple[str, Any]], *, field: str) -> None:
    """Adds one condition, or several values of one field of which any will do."""
    names = {name for name, _ in conditions}
    name = conditions[0][0]
    if len(names) > 1:
        raise InvalidFilterError(
            f"{field} asks for one of {', '.join(sorted(names))[:80]}: a list within the list may "
            "name values of one field only.",
            field=field,
        )
    if name in found:
        raise InvalidFilterError(
            f"{field} has {name[:40]!r} twice: put values of which any will do into one list "
            'within the list, [["colour:red", "colour:blue"]].',
            field=field,
        )
    values = [value for _, value in conditions]
    found[name] = values if len(values) > 1 else values[0]
