"""Encodes images, texts and composed queries with PyTorch; numpy in, numpy out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from visualsearch.exceptions import QueryError
from visualsearch.ml import checkpoints
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.manifest import Manifest
from visualsearch.ml.quick import Quick
from visualsearch.ml.tokenizer import Tokenizer

Vectors = npt.NDArray[np.float32]
BATCH = 256
PHOTOS_AT_A_TIME = {"cpu": 32}
"""In one pass, by device, else BATCH: on a CPU more would only fall out of the caches."""
QUICK_FROM = 32
"""Photos in one call from which a copy of the network that is made for speed reads them."""


class TorchEncoder:
    """A checkpoint behind the Encoder protocol, for workers: large batches, any device."""

    def __init__(self, folder: Path | str, *, device: str = "auto") -> None:
        network, tokenizer, manifest = checkpoints.load(folder)
        self._use(network, tokenizer, checkpoints.pick_device(device))
        self.manifest: Manifest | None = manifest

    @classmethod
    def of(
        cls, network: VisualEncoder, tokenizer: Tokenizer | None, *, device: torch.device
    ) -> TorchEncoder:
        """Wraps a network that is in memory already."""
        encoder = cls.__new__(cls)
        encoder._use(network, tokenizer, device)
        encoder.manifest = None
        return encoder

    def _use(
        self, network: VisualEncoder, tokenizer: Tokenizer | None, device: torch.device
    ) -> None:
        self.network = network.to(device).eval()
        self.tokenizer = tokenizer
        self.device = device
        self.width = network.recipe.width
        self.image_size = network.recipe.image_size
        self._quick: Quick | None = None
        self._making = threading.Lock()

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        """uint8 [B, S, S, 3] -> unit float32 [B, width]."""
        parts = [np.zeros((0, self.width), np.float32)]
        if self._quick is None and len(pixels) >= QUICK_FROM:
            with self._making:
                self._quick = self._quick or Quick(self.network.image, device=self.device)
        encode = self.network.encode_image if self._quick is None else self._quick
        size = PHOTOS_AT_A_TIME.get(self.device.type, BATCH)
        with torch.inference_mode():
            for start in range(0, len(pixels), size):
                batch = torch.from_numpy(np.array(pixels[start : start + size])).to(self.device)
                parts.append(encode(batch).cpu().numpy())
        return np.concatenate(parts)

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """B texts -> unit float32 [B, width]."""
        if self.tokenizer is None:
            raise QueryError(
                f"The checkpoint's recipe {self.network.recipe.name!r} reads no text. "
                "Promote a checkpoint of the recipe 'default' for text search."
            )
        parts = [np.zeros((0, self.width), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                tokens = torch.from_numpy(self.tokenizer.encode(texts[start : start + BATCH]))
                parts.append(self.network.encode_text(tokens.to(self.device)).cpu().numpy())
        return np.concatenate(parts)

    def compose(self, image_vectors: Vectors, text_vectors: Vectors) -> Vectors:
        """References and modifications, unit [B, width] each -> unit float32 [B, width]."""
        if self.network.composer is None:
            raise QueryError(
                f"The checkpoint's recipe {self.network.recipe.name!r} composes no queries. "
                "Promote a checkpoint of the recipe 'default' for 'like this but…'."
            )
        with torch.inference_mode():
            image = torch.from_numpy(np.ascontiguousarray(image_vectors, np.float32))
            text = torch.from_numpy(np.ascontiguousarray(text_vectors, np.float32))
            composed = self.network.compose(image.to(self.device), text.to(self.device))
            result: Vectors = composed.cpu().numpy()
        return result
