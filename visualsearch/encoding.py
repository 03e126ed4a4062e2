"""The one door to the network: text, image, or image and text, to a vector.

Queries are encoded in the web process with ONNX Runtime and without torch; workers encode in bulk
with torch where it is installed. `VISUALSEARCH["ENCODER"]` replaces both.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from django.utils.module_loading import import_string

from visualsearch.conf import get_settings
from visualsearch.exceptions import CheckpointError, EncoderBusyError, EncoderUnavailableError
from visualsearch.onnx_encoder import (
    OnnxEncoder,
    Pixels,
    Vectors,
    available_cpus,
    check_preprocessing,
)
from visualsearch.photos import images
from visualsearch.photos.decoding import Decoder

if TYPE_CHECKING:
    from visualsearch.models import Checkpoint

__all__ = [
    "Encoder",
    "OnnxEncoder",
    "bulk_encoder",
    "compose_query",
    "decoder",
    "encode_query_image",
    "encode_query_text",
    "query_encoder",
]

logger = logging.getLogger(__name__)

ENCODERS_KEPT = 2
"""Encoders of each kind in memory: the live checkpoint's and the one before or after it."""
TEXTS_KEPT = 2048
RETRY_BROKEN_AFTER_S = 30.0
"""A checkpoint that could not be loaded is not tried again before this, query after query."""


class Encoder(Protocol):
    """What every encoder offers; all vectors are float32 [B, width] of length 1."""

    @property
    def width(self) -> int: ...

    @property
    def image_size(self) -> int: ...

    def encode_image(self, pixels: Pixels) -> Vectors:
        """Vectors of uint8 [B, image_size, image_size, 3]."""

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts, in the space of the images."""

    def compose(self, image_vectors: Vectors, text_vectors: Vectors) -> Vectors:
        """Vectors of images changed as the texts say."""


def query_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder for shoppers' queries: ONNX on the CPU, kept by this process."""
    threads = max(1, available_cpus() // max(1, get_settings().ENCODER_CONCURRENCY))
    return _process().encoder("query", checkpoint, lambda f: OnnxEncoder(f, threads=threads))


def bulk_encoder(checkpoint: Checkpoint) -> Encoder:
    """The encoder for whole catalogues: torch on the DEVICE setting, ONNX without torch."""
    device = get_settings().DEVICE

    def load(folder: Path) -> Encoder:
        if importlib.util.find_spec("torch") is None:
            if device not in ("auto", "cpu"):
                logger.warning("DEVICE is %r but torch is not installed: using the CPU.", device)
            return OnnxEncoder(folder)
        from visualsearch.ml.inference import TorchEncoder

        encoder = TorchEncoder(folder, device=device)
        if encoder.manifest is not None:
            check_preprocessing(encoder.manifest.preprocessing, folder=folder)
        return encoder

    return _process().encoder(f"bulk {device}", checkpoint, load)


def decoder() -> Decoder:
    """This process's image decoder, as the DECODER_* settings say."""
    return _process().decoder()


def encode_query_text(checkpoint: Checkpoint, text: str) -> Vectors:
    """float32 [width] of a query text; remembered, as shoppers ask for the same words.

    Raises EncoderBusyError when too many queries wait, EncoderUnavailableError when none can be
    answered: then a lexical answer is better than none.
    """
    process = _process()
    key = (*_identity(checkpoint), text)
    vector = process.remembered(key)
    if vector is None:
        encoder = query_encoder(checkpoint)
        with process.turn():
            vector = encoder.encode_text([text])[0]
        process.remember(key, vector)
    return vector


def encode_query_image(
    checkpoint: Checkpoint, data: bytes, *, box: images.Box | None = None
) -> Vectors:
    """float32 [width] of a query photo, or of the part of it in `box`.

    Raises ImageError for a photo that cannot be read, else as `encode_query_text`.
    """
    encoder = query_encoder(checkpoint)
    pixels = decoder().decode(
        data, size=encoder.image_size, box=box, wait_s=get_settings().ENCODER_WAIT_SECONDS
    )
    with _process().turn():
        return encoder.encode_image(pixels[None])[0]


def compose_query(checkpoint: Checkpoint, image_vector: Vectors, text: str) -> Vectors:
    """float32 [width] of an image vector changed as `text` says ("like this but…")."""
    text_vector = encode_query_text(checkpoint, text)
    encoder = query_encoder(checkpoint)
    image_vector = np.asarray(image_vector, dtype=np.float32)
    with _process().turn():
        return encoder.compose(image_vector[None], text_vector[None])[0]


class _Process:
    """What one process keeps; a fork starts afresh, as threads and locks do not survive it."""

    def __init__(self) -> None:
        self._encoders: dict[str, OrderedDict[tuple[object, ...], Encoder]] = {}
        self._broken: dict[tuple[object, ...], tuple[float, str]] = {}
        self._texts: OrderedDict[tuple[object, ...], Vectors] = OrderedDict()
        self._decoder: tuple[tuple[float, ...], Decoder] | None = None
        self._loading = threading.Lock()
        self._texts_lock = threading.Lock()
        self._turns = threading.Condition()
        self._encoding = 0

    def encoder(
        self, kind: str, checkpoint: Checkpoint, load: Callable[[Path], Encoder]
    ) -> Encoder:
        key = _identity(checkpoint)
        folder = get_settings().CHECKPOINT_ROOT / checkpoint.folder
        if replacement := get_settings().ENCODER:
            load = import_string(replacement)
        with self._loading:
            kept = self._encoders.setdefault(kind, OrderedDict())
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
            until, message = self._broken.get((kind, *key), (0.0, ""))
            if time.monotonic() < until:
                raise EncoderUnavailableError(message)
            started = time.monotonic()
            try:
                encoder = load(folder)
            except (EncoderUnavailableError, CheckpointError) as error:
                self._broken = {
                    (kind, *key): (time.monotonic() + RETRY_BROKEN_AFTER_S, error.message)
                }
                raise EncoderUnavailableError(error.message) from error
            logger.info(
                "Loaded the %s encoder of checkpoint %s in %.2f s.",
                kind,
                checkpoint,
                time.monotonic() - started,
            )
            kept[key] = encoder
            while len(kept) > ENCODERS_KEPT:
                kept.popitem(last=False)
            return encoder

    def decoder(self) -> Decoder:
        settings = get_settings()
        wanted = (
            settings.DECODER_PROCESSES,
            settings.DECODER_TIMEOUT_SECONDS,
            settings.DECODER_MEMORY_BYTES,
            settings.PIXELS_MAX,
        )
        with self._loading:
            if self._decoder is None or self._decoder[0] != wanted:
                if self._decoder is not None:
                    self._decoder[1].close()
                processes, timeout_s, memory_bytes, max_pixels = wanted
                made = Decoder(
                    processes=processes,
                    timeout_s=timeout_s,
                    memory_bytes=memory_bytes,
                    max_pixels=max_pixels,
                )
                self._decoder = (wanted, made)
            return self._decoder[1]

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder[1].close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One of ENCODER_CONCURRENCY turns at the encoder, or EncoderBusyError."""
        settings = get_settings()
        wait_s = settings.ENCODER_WAIT_SECONDS
        with self._turns:
            free = self._turns.wait_for(
                lambda: self._encoding < settings.ENCODER_CONCURRENCY, timeout=wait_s
            )
            if not free:
                raise EncoderBusyError(
                    f"{settings.ENCODER_CONCURRENCY} queries were being encoded for {wait_s} s: "
                    "try again in a moment."
                )
            self._encoding += 1
        try:
            yield
        finally:
            with self._turns:
                self._encoding -= 1
                self._turns.notify()

    def remembered(self, key: tuple[object, ...]) -> Vectors | None:
        with self._texts_lock:
            if key in self._texts:
                self._texts.move_to_end(key)
            return self._texts.get(key)

    def remember(self, key: tuple[object, ...], vector: Vectors) -> None:
        vector.flags.writeable = False  # shared by every query for these words
        with self._texts_lock:
            self._texts[key] = vector
            while len(self._texts) > TEXTS_KEPT:
                self._texts.popitem(last=False)


_processes: dict[int, _Process] = {}


def _process() -> _Process:
    pid = os.getpid()
    # setdefault is atomic: two threads of a fresh fork agree on one state
    return _processes.get(pid) or _processes.setdefault(pid, _Process())


def _identity(checkpoint: Checkpoint) -> tuple[object, ...]:
    settings = get_settings()
    return settings.ENCODER, checkpoint.pk, settings.CHECKPOINT_ROOT, checkpoint.folder


@atexit.register
def _close() -> None:
    process = _processes.get(os.getpid())
    if process is not None:
        process.close()
