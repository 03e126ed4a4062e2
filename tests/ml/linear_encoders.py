"""Encoders that are fitted by least squares in milliseconds: good ones, equal ones, broken ones.

They learn from photos and titles as networks do, so that what a gate sees of them is what it sees
of networks: two fitted on resamples of one catalogue differ by chance, and one that is shown
shuffled titles or mirrored channels is bad in the way that such networks are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from tests.ml.catalogues import COLOURS, KINDS, draw
from visualsearch.ml.data import Catalogue, Item

DESIGNS = ("Alva", "Bo", "Cleo", "Dina", "Elba", "Fia", "Gro", "Hilda", "Ines", "Juno")
SIZE = 16
WIDTH = len(KINDS) + len(COLOURS) + len(DESIGNS)
NOISE = 60


def shop(*, copies: int = 1, seed: int = 0) -> Catalogue:
    """4 kinds x 10 designs x 4 colours; a dark mark on the shape says which design it is."""
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    pixels: list[np.ndarray] = []
    for copy, kind, (place, design) in product(range(copies), KINDS, enumerate(DESIGNS)):
        for name, colour in COLOURS.items():
            image = draw(kind, colour, size=SIZE, rng=rng)
            row, column = divmod(place, 5)
            image[4 + 5 * row : 7 + 5 * row, 1 + 3 * column : 3 + 3 * column] = 20
            noise = rng.normal(0, NOISE, image.shape)
            items.append(
                Item(
                    id=f"{kind}-{design}-{name}-{copy}",
                    images=(len(pixels),),
                    texts=(f"{design} {kind.lower()} in {name.lower()}",),
                    label=kind,
                    group=f"{kind}-{design}",
                    attributes={"colour": name},
                )
            )
            pixels.append(np.clip(image + noise, 0, 255).astype(np.uint8))
    return Catalogue(items, np.stack(pixels))


class LinearEncoder:
    """Photos and titles to the same few numbers, by ridge regression on bags of words."""

    width = WIDTH
    image_size = SIZE

    def __init__(
        self, catalogue: Catalogue, *, seed: int = 0, examples: int = 0, shuffled: bool = False
    ) -> None:
        rng = np.random.default_rng(seed)
        # A resample of the examples is what another seed is to a network.
        drawn = rng.integers(0, len(catalogue.items), examples or len(catalogue.items))
        titles = [item.texts[0] for item in catalogue.items]
        words = sorted({word for title in titles for word in title.lower().split()} - {"in"})
        self.places = {word: place for place, word in enumerate(words)}
        bags = self._bags(titles)
        photos = np.stack([catalogue.pixels[item.images[0]] for item in catalogue.items])
        x = self._features(photos[drawn])
        y = bags[rng.permutation(drawn)] if shuffled else bags[drawn]
        weights = np.linalg.solve(x.T @ x + 3.0 * np.eye(x.shape[1]), x.T @ (y - bags.mean(axis=0)))
        self.mean = bags.mean(axis=0)
        # The words are the space, of which random axes are kept: all of it and no more.
        self.image_weights = weights
        basis, _ = np.linalg.qr(rng.standard_normal((len(words), len(words))))
        self.basis = basis[:, :WIDTH]

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        return self._unit(self._features(pixels) @ self.image_weights @ self.basis)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        wanted = [text.lower().partition(" instead")[0] for text in texts]
        bags = self._bags(wanted)
        return self._unit((bags - self.mean * (bags.sum(axis=1, keepdims=True) > 0)) @ self.basis)

    def compose(self, image_vectors: np.ndarray, text_vectors: np.ndarray) -> np.ndarray:
        return self._unit(image_vectors + 0.8 * text_vectors)

    def _bags(self, texts: Sequence[str]) -> np.ndarray:
        bags = np.zeros((len(texts), len(self.places)))
        for row, text in enumerate(texts):
            for word in text.lower().replace(",", " ").split():
                if word in self.places:
                    bags[row, self.places[word]] = 1
        return bags

    @staticmethod
    def _features(pixels: np.ndarray) -> np.ndarray:
        flat = pixels.reshape(len(pixels), -1) / 255.0 - 0.85
        return np.concatenate([flat, np.maximum(flat, 0)], axis=1)

    @staticmethod
    def _unit(vectors: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(norms, 1e-9)).astype(np.float32)


class Mirrored(LinearEncoder):
    """Wrong preprocessing: it was taught on RGB and is given BGR."""

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        return super().encode_image(pixels[..., ::-1])


class Inverted(LinearEncoder):
    """Wrong preprocessing: dark is light."""

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        return super().encode_image(255 - pixels)


class Collapsed(LinearEncoder):
    """Every photo lands in one place, nearly."""

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        return self._unit(super().encode_image(pixels) + 0.5)


class Flat(LinearEncoder):
    """Every photo lands on one line."""

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        vectors = super().encode_image(pixels)
        return self._unit(vectors * (np.arange(WIDTH) < 1))


class Broken(LinearEncoder):
    """One number in thousands is none."""

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        vectors = super().encode_image(pixels)
        vectors[7, 3] = np.nan
        return vectors
