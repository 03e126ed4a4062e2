"""What a request asks for, from JSON, a multipart form or the query string."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from django.http import QueryDict
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from visualsearch.conf import get_settings
from visualsearch.exceptions import ImageFormatError, InvalidFilterError, QueryError
from visualsearch.queries.cleaning import photo_too_large
from visualsearch.queries.photo_tokens import PREFIX
from visualsearch.queries.terms import MOST_EXAMPLES, NEGATIVE_WEIGHT
from visualsearch.queries.uploads import FIELD

ANSWER_PARTS = (
    "positive",
    "negative",
    "hybrid",
    "filter",
    "facets",
    "diversity",
    "collapse",
    "min_match",
    "limit",
    "offset",
    "explain",
)
PARTS = ("q", "image", "modify", "strength", *ANSWER_PARTS)
RECOMMEND_PARTS = tuple(part for part in ANSWER_PARTS if part != "hybrid")
IMAGE_PARTS = ("product", "base64", "token", "url", "box")
SOURCES = ("product", "base64", "token", "url")
FLAT_PARTS = ("q", "product", "token", "url", "modify", "strength", "box", *ANSWER_PARTS)
DEFAULT_LIMIT = 20


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The parts of a search request; their values are checked where they are used."""

    text: Any = None
    photo: Any = None
    """Bytes, a file, a token or a web address."""
    product: Any = None
    box: Any = None
    modify: Any = None
    strength: Any = None
    positive: tuple[tuple[Any, Any], ...] = ()
    """(key of a product, weight)."""
    negative: tuple[tuple[Any, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """hybrid, diversity, collapse and min_match, where they were given."""
    filters: Mapping[str, Any] = field(default_factory=dict)
    facets: Any = None
    explain: bool = False
    limit: Any = DEFAULT_LIMIT
    offset: Any = 0

    @property
    def is_words_alone(self) -> bool:
        """Whether it was words and nothing else: filters may be why nothing was found."""
        others = (
            self.photo,
            self.product,
            self.modify,
            self.positive,
            self.negative,
            self.filters,
        )
        return isinstance(self.text, str) and not any(others)


class JSONObjectParser(BaseParser):
    """JSON of a bounded size: DRF's own parser reads whatever is sent."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        # Base64 takes four characters for three bytes; the rest of a request is short.
        most = get_settings().UPLOAD_MAX_BYTES * 4 // 3 + 64 * 1024
        body = stream.read(most + 1)
        if len(body) > most:
            raise photo_too_large()
        try:
            data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"The body is not JSON: {str(error)[:200]}") from error
        if not isinstance(data, dict):
            raise ParseError('The body is not a JSON object: send {"q": "red dress"}.')
        return data


def from_json(data: Mapping[str, Any], *, parts: tuple[str, ...] = PARTS) -> Asked:
    """The request in a JSON body."""
    check_names(data, parts, where="the body")
    image = data.get("image")
    if image is None:
        image = {}
    if not isinstance(image, Mapping):
        raise QueryError(
            'image is not an object: send {"product": 12} or {"base64": "…"}.', field="image"
        )
    check_names(image, IMAGE_PARTS, where="image")
    given = [name for name in SOURCES if name in image]
    if len(given) > 1:
        raise QueryError(
            f"image has both a {given[0]} and a {given[1]}: send one of them.", field="image"
        )
    if image and not given:
        raise QueryError(f"image names none of {', '.join(SOURCES)}.", field="image")
    filters = data.get("filter")
    return Asked(
        text=data.get("q"),
        photo=_photo(image),
        product=image.get("product"),
        box=image.get("box"),
        modify=data.get("modify"),
        strength=data.get("strength"),
        positive=_examples(data.get("positive"), field="positive"),
        negative=_examples(data.get("negative"), field="negative"),
        options={name: data[name] for name in _OPTIONS if data.get(name) is not None},
        filters=_filters({} if filters is None else filters),
        facets=data.get("facets"),
        explain=_truth(data.get("explain")),
        limit=data.get("limit", DEFAULT_LIMIT),
        offset=data.get("offset", 0),
    )


def from_parameters(
    data: QueryDict, *, photo: Any = None, parts: tuple[str, ...] = FLAT_PARTS
) -> Asked:
    """The request in a query string or a form: what is not one of its `parts` is a filter."""
    filters = _filters(_json(data, "filter") or {}) if "filter" in parts else {}
    for name in data:
        if name not in parts and name != "csrfmiddlewaretoken":
            values = data.getlist(name)
            filters[name] = values if len(values) > 1 else values[0]
    asked = {name: data.get(name) for name in parts}
    sources = [name for name in ("product", "token", "url") if asked.get(name)]
    if len(sources) > 1:
        raise QueryError(
            f"There is both a {sources[0]} and a {sources[1]}: send one.", field="image"
        )
    image = {name: asked[name] for name in ("token", "url") if asked.get(name)}
    if photo is not None and image:
        raise QueryError("There is both a photo and another image: send one.", field="image")
    return Asked(
        text=asked.get("q"),
        photo=photo if photo is not None else _photo(image),
        product=asked.get("product") or None,
        box=_json(data, "box") if "box" in parts else None,
        modify=asked.get("modify"),
        strength=_json(data, "strength") if "strength" in parts else None,
        positive=_examples(_listed(asked.get("positive")), field="positive"),
        negative=_examples(_listed(asked.get("negative")), field="negative"),
        options=_flat_options(data, parts),
        filters=filters,
        facets=_listed(asked.get("facets")),
        explain=_truth(asked.get("explain")),
        limit=_number(asked.get("limit"), DEFAULT_LIMIT),
        offset=_number(asked.get("offset"), 0),
    )


def check_names(data: Mapping[str, Any], names: tuple[str, ...], *, where: str) -> None:
    """QueryError for a name that is none of `names`: what is not read is not ignored."""
    for name in data:
        if name not in names:
            raise QueryError(
                f"There is no {name[:40]!r} in {where}. Allowed: {', '.join(names)}.",
                field=name[:40],
            )


_OPTIONS = ("hybrid", "diversity", "collapse", "min_match")


def _flat_options(data: QueryDict, parts: tuple[str, ...]) -> dict[str, Any]:
    """Options as a query string has them: numbers, true and false, or JSON."""
    found: dict[str, Any] = {}
    for name in _OPTIONS:
        text = data.get(name) if name in parts else None
        if not text:
            continue
        if name == "collapse":
            found[name] = text
            continue
        found[name] = _json(data, name)
    return found


def _examples(value: Any, *, field: str) -> tuple[tuple[Any, Any], ...]:
    """(key, weight) of each product; a weight of None is the usual one."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise QueryError(
            f'{field} is not a list: send [12, {{"id": 33, "weight": 0.5}}].', field=field
        )
    if len(value) > MOST_EXAMPLES:
        raise QueryError(
            f"{field} has {len(value)} products: at most {MOST_EXAMPLES} are read.", field=field
        )
    usual = 1.0 if field == "positive" else NEGATIVE_WEIGHT
    found = []
    for each in value:
        if isinstance(each, Mapping):
            check_names(each, ("id", "weight"), where=field)
            if "id" not in each:
                raise QueryError(f"{field} has a product without an id.", field=field)
            found.append((each["id"], each.get("weight", usual)))
        else:
            found.append((each, usual))
    return tuple(found)


def _photo(image: Mapping[str, Any]) -> Any:
    """What stands for the photo: bytes, a token or a web address; None if nothing does."""
    if "base64" in image:
        return _decoded(image["base64"])
    for name in ("token", "url"):
        value = image.get(name)
        if value is None:
            continue
        is_one = isinstance(value, str) and (
            value.startswith(PREFIX) if name == "token" else "://" in value
        )
        if not is_one:
            what = "token of an earlier photo" if name == "token" else "web address"
            raise QueryError(f"image.{name} is not the {what}.", field="image")
        return value
    return None


def _filters(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidFilterError(
            'filter is not an object: send {"category": "dresses"}.', field="filter"
        )
    return dict(value)


def _decoded(value: Any) -> bytes:
    wrong = ImageFormatError("image.base64 is not base64 of a JPEG, PNG or WebP.", field=FIELD)
    if not isinstance(value, str):
        raise wrong
    if value.startswith("data:"):
        value = value.partition(",")[2]
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise wrong from None


def _listed(text: str | None) -> list[Any] | None:
    """A list as JSON, or with commas: "12,33"."""
    if not text:
        return None
    if text.lstrip().startswith("["):
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, list):
            return value
    return [part.strip() for part in text.split(",") if part.strip()]


def _truth(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "1", "false", "0", ""):
        return value.lower() in ("true", "1")
    raise QueryError(f"explain is {str(value)[:40]!r}: give true or false.", field="explain")


def _json(data: QueryDict, name: str) -> Any:
    text = data.get(name)
    if not text:
        return None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise QueryError(f"{name} is not JSON.", field=name) from None


def _number(text: str | None, default: int) -> Any:
    """A whole number if it is written as one; otherwise the text, for the check to refuse."""
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
