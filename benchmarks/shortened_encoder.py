"""An encoder of which only the first numbers of each vector are used, brought to length 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visualsearch.exceptions import QueryError
from visualsearch.ml.exact_search import Vectors
from visualsearch.ml.judge import ImageTextEncoder


class ShortenedEncoder:
    """The first `width` numbers of `encoder`'s vectors; composes nothing: composers read whole ones."""

    def __init__(self, encoder: ImageTextEncoder, *, width: int) -> None:
        self.encoder = encoder
        self.width = width

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        """uint8 [B, S, S, 3] -> unit float32 [B, width]."""
        return self._shortened(self.encoder.encode_image(pixels))

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """B texts -> unit float32 [B, width]."""
        return self._shortened(self.encoder.encode_text(texts))

    def compose(self, image_vectors: Vectors, text_vectors: Vectors) -> Vectors:
        raise QueryError("Shortened vectors are not composed: the composer reads whole ones.")

    def _shortened(self, vectors: Vectors) -> Vectors:
        beginning = vectors[:, : self.width]
        lengths = np.linalg.norm(beginning, axis=1, keepdims=True)
        shortened: Vectors = beginning / np.maximum(lengths, 1e-12)
        return shortened
