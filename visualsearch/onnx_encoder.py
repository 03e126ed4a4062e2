"""Runs a checkpoint's exported graphs with ONNX Runtime, on the CPU and without torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from visualsearch.exceptions import CheckpointError, EncoderUnavailableError
from visualsearch.photos import images

Vectors = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class OnnxEncoder:
    """Runs the ONNX graphs of a checkpoint folder on the CPU; safe to share by threads.

    Raises EncoderUnavailableError, when made and when used, if a file or the runtime is missing.
    """

    batch_size = 32

    def __init__(self, folder: Path | str, *, threads: int | None = None) -> None:
        from visualsearch.ml.manifest import Manifest

        self.folder = Path(folder)
        self.threads = threads or available_cpus()
        try:
            self.manifest = Manifest.load(self.folder)
        except CheckpointError as error:
            raise EncoderUnavailableError(error.message) from error
        check_preprocessing(self.manifest.preprocessing, folder=self.folder)
        self.width = self.manifest.width
        self.image_size = self.manifest.image_size
        self._sessions: dict[str, Any] = {}
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    def encode_image(self, pixels: Pixels) -> Vectors:
        expected = (self.image_size, self.image_size, 3)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
            raise ValueError(
                f"pixels are {pixels.dtype} {list(pixels.shape)}: "
                f"this encoder reads uint8 [B, {self.image_size}, {self.image_size}, 3]."
            )
        return self._run("image", pixels)

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        self._check_reads_text()
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._load_tokenizer()
        return self._run("text", self._tokenizer.encode(list(texts)))

    def compose(self, image_vectors: Vectors, text_vectors: Vectors) -> Vectors:
        self._check_reads_text()
        return self._run(
            "compose",
            np.asarray(image_vectors, dtype=np.float32),
            np.asarray(text_vectors, dtype=np.float32),
        )

    def _check_reads_text(self) -> None:
        if not self.manifest.reads_text:
            raise EncoderUnavailableError(
                f"Recipe {self.manifest.recipe!r} of checkpoint {self.folder} reads no text: "
                "search by photo, or train a recipe that does, such as 'default'."
            )

    def _load_tokenizer(self) -> Any:
        try:
            from visualsearch.ml import tokenizer

            return tokenizer.load(
                self.folder / tokenizer.TOKENIZER_NAME, text_length=self.manifest.text_length
            )
        except ImportError as error:
            raise EncoderUnavailableError(
                f"Texts cannot be read ({error}): pip install tokenizers."
            ) from error
        except CheckpointError as error:
            raise EncoderUnavailableError(error.message) from error

    def _run(self, graph: str, *inputs: npt.NDArray[Any]) -> Vectors:
        session = self._session(graph)
        names = [each.name for each in session.get_inputs()]
        parts: list[Vectors] = []
        for start in range(0, len(inputs[0]), self.batch_size):
            part = [each[start : start + self.batch_size] for each in inputs]
            try:
                (vectors,) = session.run(None, dict(zip(names, part, strict=True)))
            except Exception as error:  # the runtime's own errors share no base class
                raise EncoderUnavailableError(
                    f"{self.folder / graph}.onnx failed ({error}): promote another checkpoint."
                ) from error
            parts.append(vectors)
        if not parts:
            return np.zeros((0, self.width), dtype=np.float32)
        return checked(
            np.concatenate(parts), width=self.width, source=f"{self.folder}/{graph}.onnx"
        )

    def _session(self, graph: str) -> Any:
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = self._open(graph)
            return self._sessions[graph]

    def _open(self, graph: str) -> Any:
        name = f"{graph}.onnx"
        # A graph that the manifest does not name was not verified, whoever put it there.
        if name not in self.manifest.files:
            raise EncoderUnavailableError(
                f"Checkpoint {self.folder} has no {name}: export it with "
                f"`python -m visualsearch.ml export {self.folder}`, or train a new one."
            )
        try:
            import onnxruntime
        except ImportError as error:
            raise EncoderUnavailableError(
                f"Queries cannot be encoded here ({error}): pip install onnxruntime."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # An arena keeps the largest batch's memory for ever, in every web process.
        options.enable_cpu_mem_arena = False
        # Idle threads that spin would take the processor from the other web processes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(
                str(self.folder / name), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise EncoderUnavailableError(
                f"{self.folder / name} cannot be run ({error}): promote another checkpoint."
            ) from error


def checked(vectors: npt.NDArray[Any], *, width: int, source: str) -> Vectors:
    """The vectors as float32 of length 1, or EncoderUnavailableError: none may reach the index."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise EncoderUnavailableError(
            f"{source} gave an array of shape {list(vectors.shape)} instead of [B, {width}]: "
            "promote another checkpoint."
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.abs(norms - 1) < 0.01):  # NaN is never less
        worst = norms[np.argmax(np.abs(norms - 1))][0]
        raise EncoderUnavailableError(
            f"{source} gave a vector of length {worst}, not 1: promote another checkpoint."
        )
    return cast(Vectors, vectors / norms)


def check_preprocessing(name: str, *, folder: Path) -> None:
    if name != images.PREPROCESSING:
        raise EncoderUnavailableError(
            f"Checkpoint {folder} was trained on images decoded by {name!r}, this release decodes "
            f"by {images.PREPROCESSING!r}: train a new checkpoint."
        )


def available_cpus() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
