"""The door to the network: ONNX without torch, one copy a process, bounded, and typed when it fails."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visualsearch import encoding, onnx_encoder, testing
from visualsearch.exceptions import (
    EncoderBusyError,
    EncoderUnavailableError,
    ImageFormatError,
    QueryError,
)
from visualsearch.ml import tokenizer
from visualsearch.ml.manifest import Manifest
from visualsearch.models import Checkpoint
from visualsearch.photos import images
from visualsearch.testing import COLOURS, FakeEncoder

SIZE, WIDTH, LENGTH = 16, 3, 6


def photo(colour: str | tuple[int, ...] = "red", size: tuple[int, int] = (60, 60)) -> bytes:
    buffer = io.BytesIO()
    named = COLOURS.get(colour, colour) if isinstance(colour, str) else colour
    Image.new("RGB", size, named).save(buffer, "PNG")
    return buffer.getvalue()


def filled(colour: str, size: int = FakeEncoder.image_size) -> np.ndarray:
    return np.full((1, size, size, 3), COLOURS[colour], dtype=np.uint8)


def graph(path: Path, inputs: list[tuple[str, int, list[Any]]], nodes: list[Any]) -> None:
    """Writes an ONNX graph whose last step makes the vectors "raw" length 1."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        *nodes,
        helper.make_node("ReduceL2", ["raw"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Div", ["raw", "norm"], ["vectors"]),
    ]
    made = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["B", WIDTH])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A real checkpoint folder with tiny graphs: mean colour; the first tokens; a sum."""
    from onnx import TensorProto, helper

    made = tmp_path / "tiny"
    made.mkdir()
    cast = {"to": TensorProto.FLOAT}
    graph(
        made / "image.onnx",
        [("pixels", TensorProto.UINT8, ["B", SIZE, SIZE, 3])],
        [
            helper.make_node("Cast", ["pixels"], ["float"], **cast),
            helper.make_node("ReduceMean", ["float"], ["raw"], axes=[1, 2], keepdims=0),
        ],
    )
    graph(
        made / "text.onnx",
        [("tokens", TensorProto.INT64, ["B", LENGTH])],
        [
            helper.make_node("Cast", ["tokens"], ["float"], **cast),
            helper.make_node("Constant", [], ["first"], value_ints=[0]),
            helper.make_node("Constant", [], ["last"], value_ints=[WIDTH]),
            helper.make_node("Constant", [], ["axis"], value_ints=[1]),
            helper.make_node("Slice", ["float", "first", "last", "axis"], ["raw"]),
        ],
    )
    graph(
        made / "compose.onnx",
        [("image", TensorProto.FLOAT, ["B", WIDTH]), ("text", TensorProto.FLOAT, ["B", WIDTH])],
        [helper.make_node("Add", ["image", "text"], ["raw"])],
    )
    tokenizer.train(
        ["red dress", "blue dress", "red shirt"] * 3, vocabulary_size=300, text_length=LENGTH
    ).save(made / tokenizer.TOKENIZER_NAME)
    MANIFEST.write(made)
    return made


MANIFEST = Manifest(
    recipe="tiny",
    options={},
    width=WIDTH,
    image_size=SIZE,
    preprocessing=images.PREPROCESSING,
    text_length=LENGTH,
    parameters=0,
    attributes={},
)


@pytest.fixture(autouse=True)
def fresh_process_state() -> Iterator[None]:
    """Nothing that one test loaded is there for the next."""
    kept = encoding._processes.pop(os.getpid(), None)
    yield
    mine = encoding._processes.pop(os.getpid(), None)
    if mine is not None:
        mine.close()
    if kept is not None:
        encoding._processes[os.getpid()] = kept


@pytest.fixture
def checkpoint(folder: Path, settings: Any) -> Checkpoint:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "CHECKPOINT_ROOT": folder.parent,
        "ENCODER": "",
    }
    return Checkpoint(pk=7, name="tiny", folder=folder.name, width=WIDTH, image_size=SIZE)


@pytest.fixture
def fake(settings: Any) -> Checkpoint:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": "visualsearch.testing.FakeEncoder"}
    return Checkpoint(pk=8, name="fake", folder="fake", width=64, image_size=32)


# --- OnnxEncoder ---------------------------------------------------------------------------------


def test_onnx_encoder__gives_unit_vectors_of_images_texts_and_both(folder: Path) -> None:
    encoder = encoding.OnnxEncoder(folder)
    assert (encoder.width, encoder.image_size) == (WIDTH, SIZE)
    seen = encoder.encode_image(np.concatenate([filled("red", SIZE), filled("blue", SIZE)]))
    expected = np.array([COLOURS["red"], COLOURS["blue"]], dtype=np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert seen.dtype == np.float32
    assert seen == pytest.approx(expected, abs=1e-5)
    read = encoder.encode_text(["red dress", "blue dress", "red dress"])
    tokens = tokenizer.load(folder / "tokenizer.json", text_length=LENGTH).encode(["red dress"])
    assert read[0] == pytest.approx(tokens[0, :WIDTH] / np.linalg.norm(tokens[0, :WIDTH]), abs=1e-5)
    assert np.array_equal(read[0], read[2]) and not np.array_equal(read[0], read[1])
    both = encoder.compose(seen, read[:2])
    summed = seen + read[:2]
    assert both == pytest.approx(summed / np.linalg.norm(summed, axis=1, keepdims=True), abs=1e-5)


def test_onnx_encoder__any_number_of_images_and_none(folder: Path) -> None:
    encoder = encoding.OnnxEncoder(folder, threads=1)
    pixels = np.random.default_rng(0).integers(1, 256, (75, SIZE, SIZE, 3), dtype=np.uint8)
    together = encoder.encode_image(pixels)
    assert together.shape == (75, WIDTH)
    alone = np.concatenate([encoder.encode_image(pixels[i : i + 1]) for i in range(75)])
    assert together == pytest.approx(alone, abs=1e-6)
    assert encoder.encode_image(pixels[:0]).shape == (0, WIDTH)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, SIZE, SIZE, 3), dtype=np.float32),
        np.zeros((SIZE, SIZE, 3), dtype=np.uint8),
        np.zeros((1, SIZE + 1, SIZE, 3), dtype=np.uint8),
    ],
)
def test_onnx_encoder__wrong_pixels_are_a_programming_error(folder: Path, pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"reads uint8 \[B, 16, 16, 3\]"):
        encoding.OnnxEncoder(folder).encode_image(pixels)


def test_onnx_encoder__a_vector_that_is_not_a_number_is_an_error(folder: Path) -> None:
    black = np.zeros((2, SIZE, SIZE, 3), dtype=np.uint8)  # 0 / 0 in the graph
    with pytest.raises(EncoderUnavailableError, match="length nan"):
        encoding.OnnxEncoder(folder).encode_image(black)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.zeros((2, 3)), "length 0"),
        (np.full((2, 3), 5.0), "length 8.66"),
        (np.array([[1, 0, 0], [np.inf, 0, 0]]), "length inf"),
        (np.ones((2, 4)), r"shape \[2, 4\]"),
    ],
)
def test_checked__only_unit_vectors_pass(vectors: Any, said: str) -> None:
    with pytest.raises(EncoderUnavailableError, match=said):
        onnx_encoder.checked(vectors, width=3, source="it")


def test_onnx_encoder__a_missing_or_altered_file_says_so(folder: Path) -> None:
    with (folder / "image.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EncoderUnavailableError, match="sha256"):
        encoding.OnnxEncoder(folder)
    (folder / "image.onnx").unlink()
    with pytest.raises(EncoderUnavailableError, match=r"lacks the file 'image\.onnx'"):
        encoding.OnnxEncoder(folder)
    with pytest.raises(EncoderUnavailableError, match=r"no checkpoint\.json"):
        encoding.OnnxEncoder(folder.parent / "nowhere")


def test_onnx_encoder__a_graph_that_the_manifest_does_not_name_is_not_run(folder: Path) -> None:
    content = (folder / "image.onnx").read_bytes()
    (folder / "image.onnx").unlink()
    MANIFEST.write(folder)
    (folder / "image.onnx").write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match="export"):
        encoding.OnnxEncoder(folder).encode_image(filled("red", SIZE))


def test_onnx_encoder__a_graph_that_does_not_load_says_so(folder: Path) -> None:
    (folder / "image.onnx").write_bytes(b"no graph")
    MANIFEST.write(folder)
    with pytest.raises(EncoderUnavailableError, match="cannot be run"):
        encoding.OnnxEncoder(folder).encode_image(filled("red", SIZE))


def test_onnx_encoder__another_decoding_path_is_refused(folder: Path) -> None:
    dataclasses.replace(MANIFEST, preprocessing="crop-1").write(folder)
    with pytest.raises(EncoderUnavailableError, match=r"'crop-1'.*train a new checkpoint"):
        encoding.OnnxEncoder(folder)


def test_onnx_encoder__a_recipe_without_text_still_sees(folder: Path) -> None:
    dataclasses.replace(MANIFEST, text_length=0, recipe="images-only").write(folder)
    encoder = encoding.OnnxEncoder(folder)
    seen = encoder.encode_image(filled("red", SIZE))
    for ask in (lambda: encoder.encode_text(["red"]), lambda: encoder.compose(seen, seen)):
        with pytest.raises(EncoderUnavailableError, match=r"'images-only'.*reads no text"):
            ask()


def test_onnx_encoder__without_the_runtime_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderUnavailableError, match="pip install onnxruntime"):
        encoding.OnnxEncoder(folder).encode_image(filled("red", SIZE))


def test_onnx_encoder__threads_share_one_session(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoding.OnnxEncoder(folder)
    opened: list[str] = []
    original = encoder._open
    monkeypatch.setattr(encoder, "_open", lambda name: opened.append(name) or original(name))
    answers: list[Any] = []
    work = lambda: answers.append(encoder.encode_image(filled("red", SIZE)))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["image"] and len(answers) == 8


# --- which encoder, and how many of them ------------------------------------------------------


def test_query_encoder__is_loaded_once_a_process(checkpoint: Checkpoint) -> None:
    first = encoding.query_encoder(checkpoint)
    assert isinstance(first, encoding.OnnxEncoder)
    assert encoding.query_encoder(checkpoint) is first


def test_query_encoder__two_checkpoints_stay_the_third_takes_the_oldest_place(
    fake: Checkpoint,
) -> None:
    others = [Checkpoint(pk=pk, folder=f"fake-{pk}") for pk in (21, 22, 23)]
    first, second = (encoding.query_encoder(each) for each in others[:2])
    assert encoding.query_encoder(others[0]) is first
    encoding.query_encoder(others[2])
    assert encoding.query_encoder(others[0]) is first
    assert encoding.query_encoder(others[1]) is not second


def test_query_encoder__a_broken_checkpoint_is_not_read_again_for_every_query(
    checkpoint: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "checkpoint.json").rename(folder / "away.json")
    with pytest.raises(EncoderUnavailableError, match=r"checkpoint\.json"):
        encoding.query_encoder(checkpoint)
    (folder / "away.json").rename(folder / "checkpoint.json")
    with pytest.raises(EncoderUnavailableError, match=r"checkpoint\.json"):
        encoding.query_encoder(checkpoint)
    now = time.monotonic()
    monkeypatch.setattr(
        "visualsearch.encoding.time.monotonic", lambda: now + encoding.RETRY_BROKEN_AFTER_S + 1
    )
    assert encoding.query_encoder(checkpoint).width == WIDTH


def test_query_encoder__the_setting_replaces_both_encoders(fake: Checkpoint) -> None:
    assert isinstance(encoding.query_encoder(fake), FakeEncoder)
    assert isinstance(encoding.bulk_encoder(fake), FakeEncoder)


def test_bulk_encoder__without_torch_runs_the_onnx_graphs(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visualsearch.encoding.importlib.util.find_spec", lambda name: None)
    encoder = encoding.bulk_encoder(checkpoint)
    assert isinstance(encoder, encoding.OnnxEncoder)
    assert encoding.bulk_encoder(checkpoint) is encoder


def test_decoder__follows_the_settings_and_is_one_a_process(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"DECODER_PROCESSES": 1, "PIXELS_MAX": 99}
    first = encoding.decoder()
    assert (first.processes, first.max_pixels) == (1, 99)
    assert encoding.decoder() is first
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"PIXELS_MAX": 100}
    assert encoding.decoder().max_pixels == 100


def test_process_state__a_fork_starts_afresh(fake: Checkpoint) -> None:
    ours = encoding.query_encoder(fake)
    forked = os.fork()
    if forked == 0:  # no assertion may escape into a second pytest
        try:
            os._exit(0 if encoding.query_encoder(fake) is not ours else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert encoding.query_encoder(fake) is ours


# --- queries -------------------------------------------------------------------------------------


def test_encode_query_text__is_remembered_by_checkpoint_and_text(
    fake: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    original = FakeEncoder.encode_text
    monkeypatch.setattr(
        FakeEncoder,
        "encode_text",
        lambda self, texts: asked.append(list(texts)) or original(self, texts),
    )
    first = encoding.encode_query_text(fake, "red dress")
    assert first.shape == (64,) and first.dtype == np.float32
    assert encoding.encode_query_text(fake, "red dress") is first
    encoding.encode_query_text(fake, "blue dress")
    encoding.encode_query_text(Checkpoint(pk=9, folder="another"), "red dress")
    assert asked == [["red dress"], ["blue dress"], ["red dress"]]
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_encode_query_text__memory_is_bounded(
    fake: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "TEXTS_KEPT", 3)
    for number in range(10):
        encoding.encode_query_text(fake, f"dress {number}")
    assert [key[-1] for key in encoding._process()._texts] == ["dress 7", "dress 8", "dress 9"]


def test_encode_query_image__is_the_vector_of_the_decoded_photo(checkpoint: Checkpoint) -> None:
    vector = encoding.encode_query_image(checkpoint, photo("turquoise"))
    expected = np.array(COLOURS["turquoise"]) / np.linalg.norm(COLOURS["turquoise"])
    assert vector.shape == (WIDTH,)
    assert vector == pytest.approx(expected, abs=1e-4)


def test_encode_query_image__box_and_bad_files(fake: Checkpoint) -> None:
    image = Image.new("RGB", (100, 50), COLOURS["red"])
    image.paste(COLOURS["blue"], (50, 0, 100, 50))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    right = encoding.encode_query_image(fake, buffer.getvalue(), box=(0.5, 0, 1, 1))
    assert right @ encoding.encode_query_text(fake, "blue") > 0.8
    assert right @ encoding.encode_query_text(fake, "red") < 0.3
    with pytest.raises(ImageFormatError):
        encoding.encode_query_image(fake, b"GIF89a")
    with pytest.raises(QueryError):
        encoding.encode_query_image(fake, buffer.getvalue(), box=(1, 1, 0, 0))


def test_compose_query__is_the_encoders_composition(checkpoint: Checkpoint) -> None:
    image = encoding.encode_query_image(checkpoint, photo("red"))
    text = encoding.encode_query_text(checkpoint, "blue dress")
    both = encoding.compose_query(checkpoint, image, "blue dress")
    assert both == pytest.approx((image + text) / np.linalg.norm(image + text), abs=1e-5)


def test_queries__beyond_the_concurrency_wait_and_are_then_turned_away(
    fake: Checkpoint, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER_CONCURRENCY": 2,
        "ENCODER_WAIT_SECONDS": 0.2,
    }
    release, at_work, peak = threading.Event(), [], []
    original = FakeEncoder.encode_text

    def slow(self: FakeEncoder, texts: list[str]) -> Any:
        at_work.append(texts)
        peak.append(len(at_work))
        release.wait(5)
        at_work.pop()
        return original(self, texts)

    monkeypatch.setattr(FakeEncoder, "encode_text", slow)
    outcomes: list[str] = []

    def ask(text: str) -> None:
        try:
            encoding.encode_query_text(fake, text)
            outcomes.append("answered")
        except EncoderBusyError as error:
            assert error.status == 503
            outcomes.append("busy")

    threads = [threading.Thread(target=ask, args=(f"text {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while outcomes.count("busy") < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    release.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["answered"] * 2 + ["busy"] * 4
    assert max(peak) == 2
    assert encoding.encode_query_text(fake, "afterwards").shape == (64,)


def test_queries__a_failing_encoder_gives_its_turn_back(
    fake: Checkpoint, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER_CONCURRENCY": 1,
        "ENCODER_WAIT_SECONDS": 0.1,
    }

    def broken(self: FakeEncoder, texts: list[str]) -> Any:
        raise EncoderUnavailableError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(FakeEncoder, "encode_text", broken)
        for _ in range(3):
            with pytest.raises(EncoderUnavailableError, match="broken"):
                encoding.encode_query_text(fake, "red")
    assert encoding.encode_query_text(fake, "red").shape == (64,)


WITHOUT_TORCH = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
import numpy as np
import visualsearch.encoding, visualsearch.testing
encoder = visualsearch.encoding.OnnxEncoder(sys.argv[1])
encoder.encode_image(np.full((1, 16, 16, 3), 9, dtype=np.uint8))
encoder.compose(encoder.encode_text(["red"]), encoder.encode_text(["blue"]))
print(sorted({"torch", "torchvision", "onnx"} & set(sys.modules)))
"""


def test_encoding__answers_queries_without_ever_importing_torch(folder: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(folder)], capture_output=True, text=True
    )
    assert said.stdout.strip() == "[]", said.stderr


# --- FakeEncoder ---------------------------------------------------------------------------------


def test_fake_encoder__is_the_same_everywhere_and_of_length_1() -> None:
    one, other = FakeEncoder(), FakeEncoder("any/folder")
    texts = ["red dress", "", "кот 🐈", "blue " * 50, "\ud800"]
    vectors = [one.encode_text(texts), one.encode_image(filled("red"))]
    assert np.array_equal(vectors[0], other.encode_text(texts))
    for each in vectors:
        assert each.dtype == np.float32 and each.shape[1] == FakeEncoder.width
        assert np.linalg.norm(each, axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_fake_encoder__a_colour_word_lands_nearest_that_colour(colour: str) -> None:
    encoder = FakeEncoder()
    gallery = encoder.encode_image(np.concatenate([filled(each) for each in COLOURS]))
    text = encoder.encode_text([f"a {colour} dress"])[0]
    assert list(COLOURS)[int(np.argmax(gallery @ text))] == colour


def test_fake_encoder__compose_changes_the_colour_and_keeps_the_layout() -> None:
    encoder = FakeEncoder()

    def striped(colour: str, axis: int) -> np.ndarray:
        pixels = np.full((1, 32, 32, 3), 255, dtype=np.uint8)
        pixels[(slice(None),) * (1 + axis) + (slice(0, 16),)] = COLOURS[colour]
        return pixels

    combinations = [(colour, axis) for colour in ("red", "blue", "black") for axis in (0, 1)]
    gallery = encoder.encode_image(np.concatenate([striped(*each) for each in combinations]))
    red = encoder.encode_image(striped("red", 0))
    asked = encoder.compose(red, encoder.encode_text(["the same in blue"]))[0]
    assert combinations[int(np.argmax(gallery @ asked))] == ("blue", 0)
    unchanged = encoder.compose(red, encoder.encode_text(["longer sleeves"]))[0]
    assert combinations[int(np.argmax(gallery @ unchanged))] == ("red", 0)


@pytest.mark.django_db
def test_fake_checkpoint__is_live_with_partitions_and_retires_the_one_before() -> None:
    from visualsearch.tables import partitions

    first = testing.fake_checkpoint()
    second = testing.fake_checkpoint(recipe="another")
    building = testing.fake_checkpoint(live=False)
    assert Checkpoint.objects.live() == second and second.recipe == "another"
    first.refresh_from_db()
    assert (first.state, building.state) == ("retired", "building")
    assert all(partitions.exists(each) for each in (first, second, building))
