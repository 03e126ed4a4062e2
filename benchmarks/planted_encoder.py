"""Vectors drawn with the seed, as a trained network gives them, and an encoder that knows them.

Photos lie in clusters of clusters, with fewer directions than numbers. A sentence lies outside
their cloud: partly where its product is, partly in a direction that all sentences share (Liang et
al. 2022 call it the modality gap), and mostly elsewhere. A composed query is the sum of both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

VECTORS_NAME = "planted.npy"
FAMILIES = 40
CLUSTERS = 1_000
MEANING, GAP, ELSEWHERE = 0.5, 0.4, 0.77
"""What a sentence's vector is made of: its product, the direction of all sentences, and noise."""
CHANGE = 0.8
"""Weight of the sentence in "like this but…"."""
_NAMED = re.compile(r"\bnear (\d+) (\d+)\b")


def photos(count: int, *, width: int, seed: int = 0) -> Vectors:
    """float32 [count, width] of length 1: clusters in families, variance falling by direction."""
    random = np.random.default_rng(seed)
    # Variance of the 1st, 2nd … direction: few matter much, as in the vectors of trained networks.
    spread = np.arange(1, width + 1) ** -0.5
    spread /= np.sqrt(np.mean(spread**2))
    families = random.normal(size=(FAMILIES, width))
    clusters = families[random.integers(0, FAMILIES, CLUSTERS)]
    clusters = clusters + 0.8 * spread * random.normal(size=(CLUSTERS, width))
    # A few clusters hold many products, most hold some.
    shares = random.pareto(1.5, CLUSTERS) + 0.2
    chosen = random.choice(CLUSTERS, size=count, p=shares / shares.sum())
    found = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 50_000):
        part = clusters[chosen[start : start + 50_000]]
        found[start : start + 50_000] = _unit(part + 0.6 * spread * random.normal(size=part.shape))
    return found


class PlantedEncoder:
    """Reads "near 12 3" as the 3rd of the sentences about product 12; any text as one about some."""

    image_size = 32

    def __init__(self, folder: Path | str) -> None:
        self.photos: Vectors = np.load(Path(folder) / VECTORS_NAME, mmap_mode="r")
        self.width = self.photos.shape[1]
        self._gap = _unit(np.random.default_rng(7).normal(size=self.width))

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        """A photo is as a stored one that its pixels choose, and not quite."""
        return np.stack([self._photo(each) for each in pixels])

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._read(text) for text in texts])

    def compose(self, image_vectors: Vectors, text_vectors: Vectors) -> Vectors:
        return _unit(np.asarray(image_vectors) + CHANGE * np.asarray(text_vectors))

    def _photo(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        random = _seeded(pixels.tobytes())
        like = self.photos[random.integers(len(self.photos))]
        return _unit(like + 0.3 * _unit(random.normal(size=self.width)))

    def _read(self, text: str) -> Vectors:
        random = _seeded(text.encode())
        named = _NAMED.search(text)
        about = int(named[1]) if named else int(random.integers(len(self.photos)))
        noise = _unit(random.normal(size=self.width))
        return _unit(MEANING * self.photos[about] + GAP * self._gap + ELSEWHERE * noise)


def _seeded(data: bytes) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()))


def _unit(vectors: npt.NDArray[Any]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
