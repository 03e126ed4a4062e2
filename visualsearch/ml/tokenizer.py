"""Subword tokens, learned from the catalogue's own words and safe for any string."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from visualsearch.exceptions import CheckpointError

PADDING = 0
TOKENIZER_NAME = "tokenizer.json"
# What lies beyond this many characters cannot reach the network, which reads `text_length` tokens.
MAX_CHARACTERS = 2_000


class Tokenizer:
    """Texts to token ids. Byte-level, so that every string has tokens and none is unknown."""

    def __init__(self, backend: Backend, *, text_length: int) -> None:
        self._backend = backend
        self.text_length = text_length

    @property
    def vocabulary_size(self) -> int:
        return int(self._backend.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """int64 [B, text_length]: the first tokens of each text, then 0."""
        rows = np.full((len(texts), self.text_length), PADDING, dtype=np.int64)
        encoded = self._backend.encode_batch([_clean(text) for text in texts])
        for row, item in zip(rows, encoded, strict=True):
            ids = item.ids[: self.text_length]
            row[: len(ids)] = ids
        return rows

    def as_text(self) -> str:
        """The vocabulary and its rules as JSON: what `load` reads."""
        return self._backend.to_str(pretty=False)

    def save(self, path: Path | str) -> None:
        Path(path).write_text(self.as_text(), encoding="utf-8")


def train(texts: Iterable[str], *, vocabulary_size: int, text_length: int) -> Tokenizer:
    """A byte-level BPE vocabulary of at most `vocabulary_size` subwords (Sennrich et al., 2016)."""
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=["<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((_clean(text) for text in texts), trainer)
    return locked(backend, text_length=text_length)


def load(path: Path | str, *, text_length: int) -> Tokenizer:
    """Reads a tokenizer that `Tokenizer.save` wrote."""
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every fault
        raise CheckpointError(
            f"Cannot read the tokenizer {path}: {error}. Copy the checkpoint again."
        ) from error
    return locked(backend, text_length=text_length)


def locked(backend: Backend, *, text_length: int) -> Tokenizer:
    """The tokenizer of a backend that reads every text as text."""
    # A visitor who types "<pad>" means these five characters, not the padding token.
    backend.encode_special_tokens = True
    return Tokenizer(backend, text_length=text_length)


def _clean(text: str) -> str:
    # Lone surrogates are legal in Python strings but not in UTF-8.
    return text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
