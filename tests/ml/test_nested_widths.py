"""The beginnings of vectors are vectors, where a recipe asks for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import small_trunk, tiny
from visualsearch.exceptions import TrainingError
from visualsearch.ml import encoders, losses
from visualsearch.ml import train as training
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.objective import Objective, nested_widths
from visualsearch.ml.recipes import get_recipe, override
from visualsearch.ml.train import train


def test_nested_widths__double_up_to_the_whole() -> None:
    assert nested_widths(0, 256) == []
    assert nested_widths(64, 256) == [64, 128]
    assert nested_widths(32, 256) == [32, 64, 128]
    assert nested_widths(96, 256) == [96, 192]


def test_nested__the_loss_is_the_mean_over_widths() -> None:
    recipe = tiny(nested_from=4)  # of 16
    network = VisualEncoder(recipe, vocabulary_size=300, weights=None)
    objective = Objective(network, None, CodedCatalogue(coloured_shapes()))
    queries, targets = (functional.normalize(torch.randn(6, 16), dim=1) for _ in range(2))
    places, none = torch.arange(6), torch.zeros(6, 6, dtype=torch.bool)
    options = {"log_scale": objective.log_scale, "positives": places, "ignored": none}
    shortened = [
        [functional.normalize(each[:, :width], dim=1) for each in (queries, targets)]
        for width in (16, 4, 8)
    ]
    each = [losses.contrastive(*pair, **options) for pair in shortened]
    found = objective._contrastive(queries, targets, places, none, objective.log_scale)
    assert torch.allclose(found, torch.stack(each).mean())


def test_nested__the_first_numbers_find_more_than_those_of_an_encoder_that_was_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "export_onnx", lambda network, folder: {})
    monkeypatch.setattr(encoders, "build_trunk", small_trunk)
    catalogue = coloured_shapes(designs=4)
    recipe = dataclasses.replace(tiny(epochs=30, small_first=0.0), neighbour_weight=0.0)

    titles = sorted({item.texts[0] for item in catalogue.items})

    def found_by_four(name: str, **fields: int) -> float:
        """The share of titles whose nearest photo, by four numbers of 16, is of that title."""
        chosen = dataclasses.replace(recipe, **fields)
        train(catalogue, chosen, out=tmp_path / name, device="cpu", seed=1)
        encoder = TorchEncoder(tmp_path / name)
        photos, asked = encoder.encode_image(catalogue.pixels), encoder.encode_text(titles)
        photos, asked = (
            each[:, :4] / np.linalg.norm(each[:, :4], axis=1, keepdims=True)
            for each in (photos, asked)
        )
        nearest = (asked @ photos.T).argmax(axis=1)
        right = [
            catalogue.items[i].texts[0] == title for i, title in zip(nearest, titles, strict=True)
        ]
        return float(np.mean(right))

    assert found_by_four("nested", nested_from=4) > found_by_four("plain") + 0.2


@pytest.mark.parametrize(
    ("name", "fields", "fix"),
    [
        ("default", {"nested_from": "256"}, "nested_from=64"),
        ("default", {"nested_from": "-1"}, "nested_from=64"),
        ("triplet-bigru", {"nested_from": "64"}, "nested_from=0, or loss=contrastive"),
    ],
)
def test_nested__what_cannot_be_is_refused_with_its_fix(
    name: str, fields: dict[str, str], fix: str
) -> None:
    with pytest.raises(TrainingError, match=fix):
        override(get_recipe(name), fields)
