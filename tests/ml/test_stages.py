"""A network is trained in one stage or two, and its features are read once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import small_trunk, tiny
from visualsearch.ml import checkpoints, encoders, frozen
from visualsearch.ml import train as training
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.projection import Projection
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.train import train


@pytest.fixture(autouse=True)
def _small_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "build_trunk", small_trunk)
    monkeypatch.setattr(training, "export_onnx", lambda network, folder: {})  # most of the time


def two_stages(**changes: object) -> Recipe:
    values = dict(gradients=True, colours=True, text="conv", frozen=False, head_epochs=2)
    values |= dict(head_batch=16, head_hidden=8, variations=1, wild_variations=1)
    return tiny(**{**values, **changes})


def test_two_stages__the_trunk_learns_and_then_the_heads(tmp_path: Path) -> None:
    result = train(coloured_shapes(designs=3), two_stages(), out=tmp_path / "c", device="cpu")
    stages = [bool(entry) for entry in result.history]
    trunk_alone = train(
        coloured_shapes(designs=3), two_stages(head_epochs=0), out=tmp_path / "d", device="cpu"
    )
    assert len(stages) > len(trunk_alone.history)
    # The first stage of both is the same training; what follows is the heads'.
    encoder = TorchEncoder(tmp_path / "c", device="cpu")
    assert encoder.network.image.project.mean.abs().sum() > 0  # standardised by `fit`


def test_frozen__the_trunk_keeps_its_weights_and_learns_no_statistics(tmp_path: Path) -> None:
    before: dict[str, torch.Tensor] = {}

    def remembered(name: str, *, weights: str | None) -> tuple[nn.Module, int]:
        torch.manual_seed(7)
        trunk, features = small_trunk(name, weights=weights)
        before.update({key: value.clone() for key, value in trunk.state_dict().items()})
        return trunk, features

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "build_trunk", remembered)
        train(
            coloured_shapes(designs=3),
            two_stages(frozen=True, head_epochs=0),
            out=tmp_path / "c",
            device="cpu",
        )
    after = checkpoints.load(tmp_path / "c")[0].image.trunk.state_dict()
    assert before
    for name, value in before.items():
        assert torch.equal(after[name], value), name


def test_frozen__features_are_read_once_for_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    forward = frozen.Features.forward

    def counted(self: frozen.Features, pixels: torch.Tensor) -> torch.Tensor:
        read.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(frozen.Features, "forward", counted)
    catalogue, recipe = coloured_shapes(designs=3), two_stages(frozen=True, head_epochs=0)
    options = {"device": "cpu", "features": tmp_path / "features"}
    train(catalogue, recipe, out=tmp_path / "c", **options)  # type: ignore[arg-type]
    first = sum(read)
    train(catalogue, dataclasses.replace(recipe, lr=1e-3), out=tmp_path / "d", **options)  # type: ignore[arg-type]
    assert (
        first >= 3 * len(catalogue.items) * 0.7
    )  # three views of every photo that is learned from
    assert sum(read) == first


def test_heads__learned_from_features_give_the_same_vectors_from_pixels() -> None:
    torch.manual_seed(0)
    catalogue = coloured_shapes(designs=2)
    recipe = two_stages(frozen=True, head_epochs=0, average=0.0)
    network = encoders.VisualEncoder(recipe, vocabulary_size=10, weights=None).eval()
    pixels = torch.from_numpy(catalogue.pixels)
    rows = frozen.Features(network.image).eval()(pixels)
    heads = frozen.Heads(network.image)
    heads.fit(rows)
    assert torch.allclose(heads(rows), network.encode_image(pixels), atol=1e-5)


def test_fit__lets_each_source_of_features_count_alike() -> None:
    rows = torch.cat([torch.randn(200, 90) * 5 + 3, torch.randn(200, 10) * 0.01], dim=1)
    projection = Projection(100, 4)
    projection.fit(rows, blocks=[90, 10])
    standardised = (rows - projection.mean) * projection.scale
    norms = [part.square().sum(dim=1).mean().sqrt() for part in standardised.split([90, 10], 1)]
    assert torch.allclose(norms[0], norms[1], rtol=1e-3)
