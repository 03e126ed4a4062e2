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

from visualsearch.cleaning import photo_too_large
from visualsearch.conf import get_settings
from visualsearch.exceptions import ImageFormatError, InvalidFilterError, QueryError
from visualsearch.uploads import FIELD

PARTS = ("q", "image", "modify", "filter", "limit", "offset")
IMAGE_PARTS = ("product", "base64", "box")
FLAT_PARTS = ("q", "product", "modify", "box", "filter", "limit", "offset")
DEFAULT_LIMIT = 20


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The parts of a search request; their values are checked where they are used."""

    text: Any = None
    photo: Any = None
    product: Any = None
    box: Any = None
    modify: Any = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    limit: Any = DEFAULT_LIMIT
    offset: Any = 0


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


def from_json(data: Mapping[str, Any]) -> Asked:
    """The request in a JSON body."""
    _check_names(data, PARTS, where="the body")
    image = data.get("image")
    if image is None:
        image = {}
    if not isinstance(image, Mapping):
        raise QueryError(
            'image is not an object: send {"product": 12} or {"base64": "…"}.', field="image"
        )
    _check_names(image, IMAGE_PARTS, where="image")
    if "product" in image and "base64" in image:
        raise QueryError("image has both a product and base64: send one of them.", field="image")
    if image and not {"product", "base64"} & set(image):
        raise QueryError("image names neither a product nor base64.", field="image")
    filters = data.get("filter")
    return Asked(
        text=data.get("q"),
        photo=_decoded(image["base64"]) if "base64" in image else None,
        product=image.get("product"),
        box=image.get("box"),
        modify=data.get("modify"),
        filters=_filters({} if filters is None else filters),
        limit=data.get("limit", DEFAULT_LIMIT),
        offset=data.get("offset", 0),
    )


def from_parameters(
    data: QueryDict, *, photo: Any = None, parts: tuple[str, ...] = FLAT_PARTS
) -> Asked:
    """The request in a query string or a form: what is not one of its `parts` is a filter."""
    filters = _filters(_json(data, "filter") or {})
    for name in data:
        if name not in parts and name != "csrfmiddlewaretoken":
            values = data.getlist(name)
            filters[name] = values if len(values) > 1 else values[0]
    return Asked(
        text=data.get("q"),
        photo=photo,
        product=data.get("product") or None,
        box=_json(data, "box"),
        modify=data.get("modify"),
        filters=filters,
        limit=_number(data.get("limit"), DEFAULT_LIMIT),
        offset=_number(data.get("offset"), 0),
    )


def _check_names(data: Mapping[str, Any], names: tuple[str, ...], *, where: str) -> None:
    for name in data:
        if name not in names:
            raise QueryError(
                f"There is no {name[:40]!r} in {where}. Allowed: {', '.join(names)}.",
                field=name[:40],
            )


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
