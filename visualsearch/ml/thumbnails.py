"""Photos as data: URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image


def data_uri(pixels: npt.NDArray[np.uint8], *, size: int = 96) -> str:
    """uint8 [S, S, 3] -> a WebP of at most `size` pixels a side; never enlarged."""
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((size, size), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "WEBP", quality=78, method=2)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")
