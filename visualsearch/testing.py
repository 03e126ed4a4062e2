"""An encoder for tests, without torch or training: colours and layout stand for the network.

A shop's own tests set `VISUALSEARCH = {..., "ENCODER": "visualsearch.testing.FakeEncoder"}`.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from visualsearch.photos import images

if TYPE_CHECKING:
    from visualsearch.models import Checkpoint

COLOURS = {
    "black": (20, 20, 20),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (200, 30, 40),
    "pink": (240, 150, 180),
    "orange": (240, 130, 30),
    "yellow": (240, 220, 60),
    "beige": (220, 200, 165),
    "brown": (110, 70, 40),
    "green": (40, 130, 60),
    "turquoise": (50, 180, 180),
    "blue": (40, 80, 200),
    "navy": (20, 30, 80),
    "purple": (120, 50, 150),
}
"""The words that name a colour, and the colour that each names."""

_PALETTE = np.array(list(COLOURS.values()), dtype=np.float64)
_SPELLINGS = {"gray": "grey", "violet": "purple", "cream": "beige"}
_CELLS = 4
_LAYOUT_WEIGHT = 0.5
_WORD_WEIGHT = 0.2
_NEARLY_WHITE = 240


class FakeEncoder:
    """Vectors that are the same everywhere, so that a test can say what search must find.

    An image becomes the colour of what is not white in it and a coarse 4 x 4 layout of dark and
    light. A colour word lands near an image filled with that colour; any other word adds a small
    vector of its own. `compose` swaps the colour of the image if the text names one.
    """

    width = 64
    image_size = 32

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = folder
        random = np.random.default_rng(0)
        # Orthonormal, so that it can be undone by its transpose and no single number stands out.
        self._basis = np.linalg.qr(random.normal(size=(self.width, self.width)))[0]

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Vectors of uint8 [B, 32, 32, 3]."""
        return self._project([self._look(each) for each in pixels])

    def encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of texts, in the space of the images."""
        return self._project([self._read(text) for text in texts])

    def compose(
        self, image_vectors: npt.NDArray[np.float32], text_vectors: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """The images in the colour that the text names; a nudge towards any other text."""
        seen = np.asarray(image_vectors, dtype=np.float64) @ self._basis.T
        read = np.asarray(text_vectors, dtype=np.float64) @ self._basis.T
        colours = slice(0, len(COLOURS))
        composed = []
        for image, text in zip(seen, read, strict=True):
            strength = np.linalg.norm(text[colours])
            changed = image + _WORD_WEIGHT * text
            if strength > 0.1:
                changed[colours] = text[colours] * np.linalg.norm(image[colours]) / strength
            composed.append(changed)
        return self._project(composed)

    def _look(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        flat = pixels.reshape(-1, 3).astype(np.float64)
        thing = flat[flat.min(axis=1) < _NEARLY_WHITE]
        colour = (thing if len(thing) else flat).mean(axis=0)
        side = pixels.shape[0] // _CELLS * _CELLS
        light = pixels[:side, :side].mean(axis=2).reshape(_CELLS, side // _CELLS, _CELLS, -1)
        layout = light.mean(axis=(1, 3)).ravel() / 255 - 0.5
        features = np.zeros(self.width)
        features[: len(COLOURS)] = _name_colour(colour)
        features[len(COLOURS) : len(COLOURS) + _CELLS**2] = (
            _LAYOUT_WEIGHT * layout / max(1.0, float(np.linalg.norm(layout)))
        )
        return features

    def _read(self, text: str) -> npt.NDArray[np.float64]:
        features = np.zeros(self.width)
        for word in re.findall(r"\w+", text.lower()) or [""]:
            word = _SPELLINGS.get(word, word)
            if word in COLOURS:
                features[: len(COLOURS)] += _name_colour(np.array(COLOURS[word], dtype=np.float64))
            else:
                features[len(COLOURS) :] += _WORD_WEIGHT * self._hash(word)
        return features

    def _hash(self, word: str) -> npt.NDArray[np.float64]:
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
        vector = np.random.default_rng(int.from_bytes(digest)).normal(
            size=self.width - len(COLOURS)
        )
        return cast(npt.NDArray[np.float64], vector / np.linalg.norm(vector))

    def _project(self, features: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float32]:
        rows = np.asarray(features, dtype=np.float64).reshape(-1, self.width) @ self._basis
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float32)


def fake_checkpoint(*, live: bool = True, **fields: Any) -> Checkpoint:
    """A checkpoint row for the FakeEncoder, with its partitions; live unless said otherwise.

    A checkpoint that is live already is retired, as a promotion would do.
    """
    from django.utils import timezone

    from visualsearch.models import Checkpoint
    from visualsearch.tables import partitions

    now = timezone.now()
    if live:
        Checkpoint.objects.filter(state=Checkpoint.State.LIVE).update(
            state=Checkpoint.State.RETIRED, retired_at=now
        )
    name = f"fake-{uuid.uuid4().hex[:8]}"
    state = Checkpoint.State.LIVE if live else Checkpoint.State.BUILDING
    checkpoint = Checkpoint.objects.create(
        **{
            "name": name,
            "folder": name,
            "recipe": "fake",
            "state": state,
            "width": FakeEncoder.width,
            "image_size": FakeEncoder.image_size,
            "preprocessing": images.PREPROCESSING,
            "promoted_at": now if live else None,
        }
        | fields
    )
    partitions.create(checkpoint)
    return checkpoint


def _name_colour(colour: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How near a colour is to each that has a name: length 1, mostly one number."""
    distances = np.square(_PALETTE - colour).sum(axis=1) / 255**2
    near = np.exp(-(distances - distances.min()) / 0.02)
    return cast(npt.NDArray[np.float64], near / np.linalg.norm(near))
