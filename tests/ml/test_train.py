"""Training from end to end on tiny coloured shapes: it learns, repeats itself and can be stopped."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import tiny
from visualsearch.exceptions import (
    NotEnoughDataError,
    QueryError,
    TrainingCancelledError,
    TrainingError,
)
from visualsearch.ml import train as training
from visualsearch.ml.data import Catalogue, split
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.manifest import Manifest, sha256_of
from visualsearch.ml.recipes import Recipe, get_recipe
from visualsearch.ml.stepping import has_bfloat16
from visualsearch.ml.train import Progress, TrainingResult, train


# Exporting takes most of a tiny run's time: the runs that look at other things do without.
@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "export_onnx", lambda network, folder: {})


QUICK = tiny(
    width=32,
    token_width=32,
    text_hidden=32,
    batch=256,
    epochs=24,
    small_first=0.0,
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return coloured_shapes(designs=6, photos=2)


@pytest.fixture(scope="module")
def trained(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    out = tmp_path_factory.mktemp("trained") / "checkpoint"
    return train(catalogue, QUICK, out=out, device="cpu")


def test_train__learns_kinds_colours_texts_and_modifications(trained: TrainingResult) -> None:
    report = trained.report
    # Chance is 6 of 27 for colour, about as much for kind, 1/16 for a title's group.
    assert report.value("similar", "kind P@10") > 0.4
    assert report.value("similar", "colour P@10") > 0.3
    assert report.value("text", "title R@1") > 0.5
    composed = report.value("composed", "colour R@1", "composed")
    others = [report.value("composed", "colour R@1", s) for s in ("image-only", "text-only")]
    assert composed > 2 * max(others)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"] / 2


def test_train__writes_a_whole_checkpoint(trained: TrainingResult) -> None:
    manifest = Manifest.load(trained.folder)
    assert sorted(manifest.files) == [
        "compose.onnx",
        "encoder.safetensors",
        "image.onnx",
        "text.onnx",
        "tokenizer.json",
    ]
    # The worker that trains and the web process that reads may be different users.
    assert {path.stat().st_mode & 0o777 for path in trained.folder.iterdir()} == {0o644}
    assert manifest.attributes["colour"] == ["Blue", "Green", "Red", "Yellow"]
    health = manifest.metrics["health"]
    assert health["finite"]
    assert health["unit_norms"]
    assert health["mean_cosine"] < 0.5
    assert min(manifest.metrics["export_cosine"].values()) >= 0.999


def test_encoder__and_its_onnx_graphs_agree(trained: TrainingResult, catalogue: Catalogue) -> None:
    encoder = TorchEncoder(trained.folder, device="cpu")
    pixels = np.asarray(catalogue.pixels[:7])
    texts = ["blue ring", "", "\ud800\x00", "in red instead of blue", "x" * 5_000, "ﷺ", "<pad>"]
    image, words = encoder.encode_image(pixels), encoder.encode_text(texts)
    composed = encoder.compose(image, words)
    assert encoder.tokenizer is not None
    inputs = {
        "image": ({"pixels": pixels}, image),
        "text": ({"tokens": encoder.tokenizer.encode(texts)}, words),
        "compose": ({"image": image, "text": words}, composed),
    }
    for name, (feed, eager) in inputs.items():
        session = onnxruntime.InferenceSession(trained.folder / f"{name}.onnx")
        exported = session.run(["vectors"], feed)[0]
        assert exported.shape == (7, 32)
        assert (exported * eager).sum(axis=1).min() > 0.999
        assert np.abs(np.linalg.norm(exported, axis=1) - 1).max() < 1e-4


def test_encoder__an_empty_batch_has_no_vectors(trained: TrainingResult) -> None:
    encoder = TorchEncoder(trained.folder, device="cpu")
    assert encoder.encode_text([]).shape == (0, 32)
    assert encoder.encode_image(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 32)


def _short(catalogue: Catalogue, out: Path, *, seed: int = 0, recipe: Recipe = QUICK) -> str:
    # Progress is part of the promise: what a caller does in between must not matter.
    result = train(
        catalogue,
        recipe,
        out=out,
        device="cpu",
        seed=seed,
        epochs=1,
        progress=lambda _: torch.rand(1).item(),
    )
    return sha256_of(result.folder / "encoder.safetensors")


@pytest.mark.usefixtures("no_export")
def test_train__same_seed_same_weights_bit_for_bit(tmp_path: Path) -> None:
    small = coloured_shapes(designs=2)
    first = _short(small, tmp_path / "a")
    np.random.seed(7)
    torch.manual_seed(7)
    assert _short(small, tmp_path / "b") == first
    assert _short(small, tmp_path / "c", seed=1) != first


def test_train__the_callback_sees_the_run_and_can_stop_it(tmp_path: Path) -> None:
    seen: list[Progress] = []

    def cancel_after_two(progress: Progress) -> None:
        seen.append(progress)
        if progress.stage == "train" and progress.done == 2:
            raise TrainingCancelledError("stopped by hand")

    with pytest.raises(TrainingCancelledError):
        train(
            coloured_shapes(), QUICK, out=tmp_path / "out", device="cpu", progress=cancel_after_two
        )
    assert [progress.stage for progress in seen] == ["prepare", "train", "train"]
    assert seen[-1].eta_s is not None
    assert seen[-1].loss is not None
    assert not list(tmp_path.iterdir())


def test_train__too_little_data(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughDataError):
        train(coloured_shapes().subset([0, 1, 2]), QUICK, out=tmp_path / "out")


def test_train__no_epochs_train_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="epochs=0"):
        train(coloured_shapes(), QUICK, out=tmp_path / "out", epochs=0)


def test_train__pixels_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="16 px"):
        train(coloured_shapes(size=16), QUICK, out=tmp_path / "out")


@pytest.mark.parametrize("missing", ["texts", "groups", "attributes", "labels"])
@pytest.mark.usefixtures("no_export")
def test_train__does_without(missing: str, tmp_path: Path) -> None:
    changes = {
        "texts": {"texts": ()},
        "groups": {"group": ""},
        "attributes": {"attributes": {}},
        "labels": {"label": ""},
    }[missing]
    catalogue = coloured_shapes()
    items = [dataclasses.replace(item, **changes) for item in catalogue.items]
    result = train(Catalogue(items, catalogue.pixels), QUICK, out=tmp_path / "out", epochs=1)
    assert np.isfinite(result.history[-1]["loss"])


@pytest.mark.parametrize(
    ("capabilities", "pays"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({}, False)]
)
def test_has_bfloat16__only_where_the_processor_has_instructions_for_it(
    capabilities: dict[str, bool], pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bfloat16(torch.device("cpu")) is pays
    assert has_bfloat16(torch.device("cuda"))


@pytest.mark.usefixtures("no_export")
def test_train__a_time_budget_ends_the_run(tmp_path: Path) -> None:
    result = train(
        coloured_shapes(), QUICK, out=tmp_path / "out", device="cpu", epochs=10_000, time_budget_s=1
    )
    assert 1 <= len(result.history) < 10_000


@pytest.mark.parametrize("loss", ["batch_classification", "soft_triplet"])
@pytest.mark.usefixtures("no_export")
def test_train__tirg_with_both_losses_of_the_paper(loss: str, tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        get_recipe("tirg"),
        trunk="resnet10",
        weights=None,
        image_size=32,
        width=16,
        token_width=16,
        text_hidden=16,
        loss=loss,
    )
    result = train(coloured_shapes(), recipe, out=tmp_path / "out", device="cpu", epochs=12)
    assert np.mean([step["loss"] for step in result.history[-3:]]) < result.history[0]["loss"]
    assert result.report.value("composed", "colour R@10", "composed") >= 0


def test_pretrained_knn__trains_nothing_and_reads_images_only(tmp_path: Path) -> None:
    from visualsearch.ml.trunks import build_trunk

    catalogue = coloured_shapes()
    torch.manual_seed(0)
    trunk, _ = build_trunk("resnet10", weights=None)
    state = {
        **trunk.state_dict(),
        "fc.weight": torch.zeros(1000, 512),
        "fc.bias": torch.zeros(1000),
    }
    torch.save(state, tmp_path / "weights.pth")
    recipe = dataclasses.replace(
        get_recipe("pretrained-knn"),
        trunk="resnet10",
        weights=str(tmp_path / "weights.pth"),
        image_size=32,
        width=512,
    )
    result = train(catalogue, recipe, out=tmp_path / "out", device="cpu")
    assert result.history == []
    encoder = TorchEncoder(result.folder, device="cpu")
    assert not encoder.manifest.reads_text  # type: ignore[union-attr]
    stored = encoder.network.image.trunk.state_dict()["conv1.weight"]
    assert torch.equal(stored, state["conv1.weight"])
    assert encoder.encode_image(np.asarray(catalogue.pixels[:2])).shape == (2, 512)
    with pytest.raises(QueryError, match="reads no text"):
        encoder.encode_text(["blue"])
    with pytest.raises(QueryError, match="composes no queries"):
        encoder.compose(np.zeros((1, 512), np.float32), np.zeros((1, 512), np.float32))
    assert {line.section for line in result.report.lines} == {"similar", "wild"}


@pytest.mark.usefixtures("no_export")
def test_holdout__neither_loop_nor_tokenizer_sees_a_held_out_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = coloured_shapes(designs=4)
    held = split(catalogue).holdout
    secret = {item.group for item in held.items}
    assert secret
    marked = [
        dataclasses.replace(item, texts=(*item.texts, "zyzzyva")) if item.group in secret else item
        for item in catalogue.items
    ]
    seen: dict[str, set[str]] = {"groups": set(), "texts": set()}
    loop, learn = training.fit_network, training.tokenizer.train

    def spied_loop(kept: Catalogue, *args: Any, **options: Any) -> Any:
        seen["groups"] |= {item.group for item in kept.items}
        return loop(kept, *args, **options)

    def spied_tokenizer(texts: Iterable[str], **options: Any) -> Any:
        texts = list(texts)
        seen["texts"] |= set(texts)
        return learn(texts, **options)

    monkeypatch.setattr(training, "fit_network", spied_loop)
    monkeypatch.setattr(training.tokenizer, "train", spied_tokenizer)
    everything = Catalogue(marked, catalogue.pixels)
    result = train(everything, QUICK, out=tmp_path / "out", device="cpu", epochs=1)
    assert seen["groups"] == {item.group for item in catalogue.items} - secret
    assert seen["texts"]
    assert "zyzzyva" not in seen["texts"]
    assert result.metrics["gallery"] == len(held.items)


def test_light_modules__load_neither_torch_nor_django() -> None:
    program = (
        "import sys, visualsearch.ml, visualsearch.ml.tokenizer, visualsearch.ml.recipes\n"
        "import visualsearch.ml.manifest, visualsearch.ml.columns, visualsearch.ml.data\n"
        "import visualsearch.ml.catalogue_folder\n"
        "print(sorted({'torch', 'django', 'celery'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
