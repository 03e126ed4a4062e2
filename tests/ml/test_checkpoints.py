"""Checkpoint folders: complete or absent, every file checked, nothing outside the folder."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from tests.ml.test_encoders import TINY
from visualsearch.exceptions import CheckpointError, TrainingError
from visualsearch.ml import checkpoints, tokenizer
from visualsearch.ml.__main__ import main
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.manifest import MANIFEST_NAME, Manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tokens = tokenizer.train(["blue dress"] * 4, vocabulary_size=300, text_length=8)
    network = VisualEncoder(TINY, vocabulary_size=tokens.vocabulary_size, weights=None)
    target = tmp_path / "checkpoint"
    with checkpoints.writing(target) as temporary:
        checkpoints.save_weights(network, temporary)
        tokens.save(temporary / "tokenizer.json")
        Manifest(
            recipe="default",
            options=TINY.as_dict(),
            width=16,
            image_size=32,
            preprocessing="test-1",
            text_length=8,
            parameters=network.parameter_count(),
            attributes={},
        ).write(temporary)
    return target


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_load__gives_back_the_network(folder: Path) -> None:
    network, tokens, manifest = checkpoints.load(folder)
    assert manifest.reads_text
    assert tokens is not None
    assert network.recipe == TINY
    assert not network.training
    assert sorted(manifest.files) == ["encoder.safetensors", "tokenizer.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("name", ["encoder.safetensors", "tokenizer.json"])
def test_load__a_changed_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="sha256 differs"):
        checkpoints.load(folder)


def test_load__a_missing_file_is_refused(folder: Path) -> None:
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks the file 'encoder\.safetensors'"):
        checkpoints.load(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "", "a\\b", "a\0b"])
def test_load__a_path_that_leads_outside_is_refused(folder: Path, name: str) -> None:
    _edit(folder, files={name: "0" * 64})
    with pytest.raises(CheckpointError, match="no plain file name"):
        Manifest.load(folder)


def test_load__a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "encoder.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="lacks the file"):
        Manifest.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"width": "wide"}, "width must be a whole number"),
        ({"files": []}, "files must be an object"),
        ({"files": {}}, "does not list"),
        ({"options": {"trunk": "resnet10"}}, "do not fit"),
    ],
)
def test_load__a_manifest_that_is_not_ours_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    _edit(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(folder)


def test_load__no_manifest_means_not_finished(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        Manifest.load(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text("{")
    with pytest.raises(CheckpointError, match="Copy the folder again"):
        Manifest.load(tmp_path)


def test_writing__a_failure_leaves_what_was_there(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RuntimeError), checkpoints.writing(folder) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError("power cut")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


def test_save_weights__a_full_disk_is_the_error_that_python_has_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In safetensors' words of it, as they were read on a disk that was full (tests/chaos, R11)."""

    def full(*_: Any) -> None:
        message = "Error while serializing: I/O error: No space left on device (os error 28)"
        raise SafetensorError(message)

    network = VisualEncoder(TINY, vocabulary_size=300, weights=None)
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError) as caught:
        checkpoints.save_weights(network, tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_writing__replaces_a_checkpoint_but_nothing_else(folder: Path, tmp_path: Path) -> None:
    with checkpoints.writing(folder) as temporary:
        (temporary / "new").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.jpg").write_text("mine")
    with pytest.raises(CheckpointError, match="is no checkpoint"), checkpoints.writing(other):
        pass
    assert (other / "a.jpg").read_text() == "mine"


def test_pick_device__unknown_or_absent() -> None:
    assert checkpoints.pick_device("cpu").type == "cpu"
    with pytest.raises(TrainingError, match="no device 'abacus'"):
        checkpoints.pick_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="no GPU here"):
            checkpoints.pick_device("cuda")


@pytest.mark.slow
def test_export__into_the_checkpoint_names_the_graphs_that_are_served(folder: Path) -> None:
    assert main(["export", str(folder)]) == 0
    assert {"image.onnx", "text.onnx", "compose.onnx"} <= set(Manifest.load(folder).files)
