"""The tokenizer takes any string and remembers itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visualsearch.exceptions import CheckpointError
from visualsearch.ml import tokenizer

TEXTS = ["Blue striped dress", "blue dress", "a red shirt with long sleeves", "shirt"] * 3
HOSTILE = [
    "",
    " ",
    "\x00",
    "\ud800 lone surrogate",
    "<pad> [PAD] </s>",
    "👗" * 40,
    "ﷺ" * 1_000,
    "'; DROP TABLE product; --",
    "x" * 1_000_000,
    "a\u0301\u0301\u0301\u202e",
]


@pytest.fixture(scope="module")
def trained() -> tokenizer.Tokenizer:
    return tokenizer.train(TEXTS, vocabulary_size=320, text_length=12)


def test_encode__every_hostile_string_has_a_row(trained: tokenizer.Tokenizer) -> None:
    rows = trained.encode(HOSTILE)
    assert rows.shape == (len(HOSTILE), 12)
    assert rows.dtype == np.int64
    assert rows.min() >= 0
    assert rows.max() < trained.vocabulary_size
    assert not rows[0].any()  # nothing but padding
    assert (rows[4] != 0).any()  # "<pad>" typed by a visitor is text


def test_encode__known_words_are_short_and_case_does_not_matter(
    trained: tokenizer.Tokenizer,
) -> None:
    rows = trained.encode(["BLUE dress", "blue DRESS", "dress blue"])
    assert (rows[0] == rows[1]).all()
    assert (rows[0] != rows[2]).any()
    assert np.count_nonzero(rows[0]) == 2


def test_train__same_texts_same_vocabulary(trained: tokenizer.Tokenizer) -> None:
    again = tokenizer.train(TEXTS, vocabulary_size=320, text_length=12)
    assert (again.encode(TEXTS + HOSTILE) == trained.encode(TEXTS + HOSTILE)).all()


def test_load__gives_back_what_was_saved(trained: tokenizer.Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path / "tokenizer.json")
    loaded = tokenizer.load(tmp_path / "tokenizer.json", text_length=12)
    assert (loaded.encode(HOSTILE + TEXTS) == trained.encode(HOSTILE + TEXTS)).all()


def test_load__a_broken_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="Copy the checkpoint again"):
        tokenizer.load(tmp_path / "tokenizer.json", text_length=12)
