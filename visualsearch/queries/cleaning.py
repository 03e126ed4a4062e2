"""What a request may hold: texts, numbers, boxes and photo bytes, each refused by the name of its field."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

from visualsearch.conf import get_settings
from visualsearch.exceptions import (
    ImageFormatError,
    ImageTooLargeError,
    InvalidLimitError,
    InvalidTextError,
    QueryError,
    TextTooLongError,
)
from visualsearch.photos import images

MOST_STRENGTH = 2.0
"""Beyond, a changed image is hardly like any."""


def clean_text(value: Any, *, field: str) -> str:
    """The text, normalised and trimmed, or a QueryError; None is ""."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidTextError(f"{field} is {type(value).__name__}: give a text.", field=field)
    most = get_settings().TEXT_MAX_LENGTH
    if len(value) > most:
        raise TextTooLongError(
            f"{field} has {len(value)} characters: at most {most} are read.", field=field
        )
    check_characters(value, field=field)
    text = " ".join(unicodedata.normalize("NFC", value).split())
    if len(text) > most:  # a few characters grow when they are normalised
        raise TextTooLongError(f"{field} is longer than {most} characters.", field=field)
    return text


def check_characters(value: str, *, field: str) -> None:
    """InvalidTextError for what neither Postgres nor UTF-8 can hold."""
    if "\x00" in value:
        raise InvalidTextError(f"{field} holds a NUL character: remove it.", field=field)
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidTextError(
            f"{field} holds half of a surrogate pair: send well-formed Unicode.", field=field
        )


def clean_box(value: Any) -> images.Box | None:
    """Four fractions of the picture, or a QueryError."""
    if value is None:
        return None
    try:
        left, top, right, bottom = (float(number) for number in value)
    except (TypeError, ValueError, OverflowError):
        raise QueryError(
            "box is not [left, top, right, bottom] as fractions of the picture, "
            "for example [0.1, 0.2, 0.8, 0.9].",
            field="box",
        ) from None
    box = (left, top, right, bottom)
    images.check_box(box)
    return box


def clean_limit(value: Any) -> int:
    """How many hits: a whole number from 1 to LIMIT_MAX, or InvalidLimitError."""
    return whole_number(value, field="limit", least=1, most=get_settings().LIMIT_MAX)


def clean_offset(value: Any) -> int:
    """How many hits to skip: a whole number from 0 to OFFSET_MAX, or InvalidLimitError."""
    return whole_number(value, field="offset", least=0, most=get_settings().OFFSET_MAX)


def whole_number(value: Any, *, field: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`, or InvalidLimitError."""
    # bool is an int to Python, and nobody means `limit=True`.
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidLimitError(
            f"{field} is {str(value)[:40]!r}: give a whole number from {least} to {most}.",
            field=field,
        )
    return value


def clean_fraction(value: Any, *, field: str) -> float:
    """A number from 0 to 1, or a QueryError."""
    return _number(value, field=field, least=0.0, most=1.0)


def clean_strength(value: Any) -> float:
    """How much of a change is meant: 0 is none, 1 (also for None) what was learned, 2 twice that."""
    if value is None:
        return 1.0
    return _number(value, field="strength", least=0.0, most=MOST_STRENGTH)


def clean_weight(value: Any, *, field: str, most: float) -> float:
    """A finite number from -most to most that is not 0, or a QueryError."""
    weight = _number(value, field=field, least=-most, most=most)
    if weight == 0:
        raise QueryError(f"{field} has the weight 0: leave that part out.", field=field)
    return weight


def _number(value: Any, *, field: str, least: float, most: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN is neither less nor more than anything.
    if not is_number or not math.isfinite(value) or not least <= value <= most:
        raise QueryError(
            f"{field} is {str(value)[:40]!r}: give a number from {least:g} to {most:g}.",
            field=field,
        )
    return float(value)


def read_photo(image: Any) -> bytes:
    """The bytes of `image`, of which never more than UPLOAD_MAX_BYTES are read."""
    most = get_settings().UPLOAD_MAX_BYTES
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image[: most + 1])
    elif callable(getattr(image, "read", None)):
        data = image.read(most + 1)
    else:
        raise TypeError(
            f"image is {type(image).__name__}: give bytes, an open file, a product, the token of an "
            "earlier photo or a web address."
        )
    if not isinstance(data, bytes):
        raise TypeError("image is a file opened as text: open it in binary mode.")
    if len(data) > most:
        raise photo_too_large()
    if not data:
        raise ImageFormatError("The photo is empty: choose a JPEG, PNG or WebP.", field="image")
    return data


def photo_too_large() -> ImageTooLargeError:
    """The error for more than UPLOAD_MAX_BYTES."""
    megabytes = get_settings().UPLOAD_MAX_BYTES / 1024 / 1024
    return ImageTooLargeError(
        f"The photo is larger than {megabytes:g} MB: send a smaller one.", field="image"
    )
