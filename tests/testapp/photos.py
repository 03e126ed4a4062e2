"""Pictures for the small catalogues: one colour on white, which the FakeEncoder tells apart."""

from __future__ import annotations

import io

from django.core.files.base import ContentFile
from PIL import Image, ImageDraw


def photo(colour: str) -> bytes:
    """A PNG of something in that colour."""
    image = Image.new("RGB", (48, 64), "white")
    ImageDraw.Draw(image).rectangle((10, 8, 38, 60), fill=colour)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def photo_file(colour: str) -> ContentFile[bytes]:
    return ContentFile(photo(colour), f"{colour}.png")
