"""The published systems as recipes: each trains, exports and is judged by the same code."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from tests.ml.catalogues import coloured_shapes
from visualsearch.exceptions import NotEnoughDataError, TrainingError
from visualsearch.ml import encoders
from visualsearch.ml import train as training
from visualsearch.ml.data import Catalogue
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.recipes import Recipe, get_recipe
from visualsearch.ml.train import train

TINY: dict[str, dict[str, Any]] = {
    "triplet-bigru": {"width": 32, "lr": 6e-3},
    "triplet-gru": {"width": 32, "lr": 2e-2},
    # Designs of one kind are drawn alike, so that negatives in class cannot be told apart.
    "siamese": {"width": 64, "lr": 1e-2, "in_class_negatives": 0.2, "wild_views": 0.0},
    "tirg": {"width": 32, "lr": 0.02},
}


def tiny(name: str, **fields: Any) -> Recipe:
    """The recipe with a small trunk from scratch at 32 px."""
    small: dict[str, Any] = {
        "trunk": "resnet10",
        "weights": None,
        "trunk_lr": 1.0,
        "image_size": 32,
        "validation": 0.0,
    }
    if get_recipe(name).text != "none":
        small |= {"text_length": 16, "token_width": 16, "text_hidden": 16, "vocabulary_size": 300}
    return dataclasses.replace(get_recipe(name), **small | TINY[name] | fields)


class SmallTrunk(nn.Module):
    """Two convolutions and a global average, with torchvision's name for it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        )
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.avgpool(self.features(images)).flatten(1)


@pytest.fixture(autouse=True)
def _small_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "build_trunk", lambda name, *, weights: (SmallTrunk(), 32))


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return coloured_shapes(designs=3, photos=2)


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "export_onnx", lambda network, folder: {})


@pytest.mark.parametrize("name", TINY)
def test_recipe__trains_exports_and_is_judged(
    name: str, catalogue: Catalogue, tmp_path: Path
) -> None:
    result = train(catalogue, tiny(name), out=tmp_path / "out", device="cpu", epochs=30)
    losses = [step["loss"] for step in result.history]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    assert result.metrics["health"]["unit_norms"]
    reads = get_recipe(name).text != "none"
    sections = {line.section for line in result.report.lines}
    assert ({"similar", "text", "composed"} if reads else {"similar"}) <= sections
    assert ("text" in sections) is reads
    encoder = TorchEncoder(result.folder, device="cpu")
    pixels = np.asarray(catalogue.pixels[:5])
    vectors = encoder.encode_image(pixels)
    session = onnxruntime.InferenceSession(result.folder / "image.onnx")
    exported = session.run(["vectors"], {"pixels": pixels})[0]
    assert exported.shape == (5, TINY[name]["width"])
    assert (exported * vectors).sum(axis=1).min() > 0.999
    if reads:
        composed = encoder.compose(vectors[:2], encoder.encode_text(["in red", "in blue and old"]))
        assert np.abs(np.linalg.norm(composed, axis=1) - 1).max() < 1e-4


@pytest.mark.parametrize("mining", ["random", "easy", "semihard", "hard", "all"])
@pytest.mark.usefixtures("no_export")
def test_mining__every_kind_learns(mining: str, catalogue: Catalogue, tmp_path: Path) -> None:
    recipe = tiny("triplet-bigru", mining=mining)
    result = train(catalogue, recipe, out=tmp_path / "out", device="cpu", epochs=2)
    assert all(np.isfinite(step["loss"]) for step in result.history)
    assert any(step["loss"] > 0 for step in result.history)


@pytest.mark.usefixtures("no_export")
def test_siamese__needs_no_texts(catalogue: Catalogue, tmp_path: Path) -> None:
    items = [dataclasses.replace(item, texts=(), attributes={}) for item in catalogue.items]
    silent = Catalogue(items, catalogue.pixels)
    result = train(silent, tiny("siamese"), out=tmp_path / "out", device="cpu", epochs=1)
    assert np.isfinite(result.history[-1]["loss"])
    with pytest.raises(NotEnoughDataError, match="text or an attribute"):
        train(silent, tiny("triplet-gru"), out=tmp_path / "no", device="cpu", epochs=1)


@pytest.mark.usefixtures("no_export")
def test_siamese__one_design_has_nothing_to_tell_apart(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    items = [dataclasses.replace(item, group="everything") for item in catalogue.items]
    with pytest.raises(NotEnoughDataError, match="group_field"):
        train(
            Catalogue(items, catalogue.pixels), tiny("siamese"), out=tmp_path / "out", device="cpu"
        )


@pytest.mark.usefixtures("no_export")
def test_clusters__train_without_texts_too(catalogue: Catalogue, tmp_path: Path) -> None:
    recipe = tiny(
        "siamese", sampler="clusters", mining="semihard", second_views=0.5, wild_views=1.0
    )
    result = train(catalogue, recipe, out=tmp_path / "out", device="cpu", epochs=2)
    assert {"loss", "image"} <= set(result.history[-1])
    assert np.isfinite(result.history[-1]["loss"])


@pytest.mark.usefixtures("no_export")
def test_siamese__the_query_is_shown_as_a_phone_photo(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visualsearch.ml import loop

    shown: list[int] = []

    def spy(pixels: torch.Tensor, **_: Any) -> torch.Tensor:
        shown.append(len(pixels))
        return pixels

    monkeypatch.setattr(loop, "wild", spy)
    train(catalogue, tiny("siamese", wild_views=1.0), out=tmp_path / "a", device="cpu", epochs=1)
    # 29 products are trained on: every query of 9 triplets.
    assert set(shown) == {9}
    shown.clear()
    train(catalogue, tiny("siamese", wild_views=0.0), out=tmp_path / "b", device="cpu", epochs=1)
    assert shown == []


def test_triplet__without_the_library_says_what_to_install(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(TrainingError, match=r"pip install .*\[metric-learning\]"):
        train(catalogue, tiny("triplet-gru"), out=tmp_path / "out", device="cpu", epochs=1)
    assert not (tmp_path / "out").exists()
