"""A validated search query: words, a photo or a product, and what should be different about it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any, Self

from django.db import models

from visualsearch import images, indexes
from visualsearch.conf import get_settings
from visualsearch.exceptions import (
    EmptyQueryError,
    ImageFormatError,
    ImageTooLargeError,
    InvalidLimitError,
    InvalidTextError,
    QueryError,
    TextTooLongError,
)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked for; made by `Query.of`, which raises a QueryError or ImageError otherwise."""

    text: str = ""
    """Words, trimmed; "" when none were given."""
    photo: bytes | None = None
    """An image file that has not been looked into yet."""
    product: models.Model | None = None
    """The product that stands for the image."""
    box: images.Box | None = None
    """The part of the photo that is meant."""
    modify: str = ""
    """What should be different about the image or the product."""

    @classmethod
    def of(
        cls, text: Any = None, *, image: Any = None, modify: Any = None, box: Any = None
    ) -> Self:
        """The query these parts make; `image` is bytes, an open file or a product."""
        product = image if isinstance(image, models.Model) else None
        if product is not None and not isinstance(product, indexes.product_model()):
            raise TypeError(
                f"image is a {product._meta.label}: give a {indexes.product_model()._meta.label}, "
                "bytes or a file."
            )
        query = cls(
            text=clean_text(text, field="q"),
            photo=read_photo(image) if image is not None and product is None else None,
            product=product,
            box=clean_box(box),
            modify=clean_text(modify, field="modify"),
        )
        if query.modify and not query.has_image:
            raise QueryError(
                "There is nothing to modify: name the product or send the photo that should be "
                "different, or put the words into the text.",
                field="modify",
            )
        if query.box is not None and query.photo is None:
            raise QueryError("A box is a part of a photo: send the photo as well.", field="box")
        if not query.text and not query.has_image:
            raise EmptyQueryError("Nothing was asked for: give words, a photo or a product.")
        return query

    @property
    def has_image(self) -> bool:
        return self.photo is not None or self.product is not None


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
    return _whole_number(value, field="limit", least=1, most=get_settings().LIMIT_MAX)


def clean_offset(value: Any) -> int:
    """How many hits to skip: a whole number from 0 to OFFSET_MAX, or InvalidLimitError."""
    return _whole_number(value, field="offset", least=0, most=get_settings().OFFSET_MAX)


def _whole_number(value: Any, *, field: str, least: int, most: int) -> int:
    # bool is an int to Python, and nobody means `limit=True`.
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidLimitError(
            f"{field} is {str(value)[:40]!r}: give a whole number from {least} to {most}.",
            field=field,
        )
    return value


def read_photo(image: Any) -> bytes:
    """The bytes of `image`, of which never more than UPLOAD_MAX_BYTES are read."""
    most = get_settings().UPLOAD_MAX_BYTES
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image[: most + 1])
    elif callable(getattr(image, "read", None)):
        data = image.read(most + 1)
    else:
        raise TypeError(f"image is {type(image).__name__}: give bytes, an open file or a product.")
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
