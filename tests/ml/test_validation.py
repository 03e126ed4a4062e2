"""What is measured after each epoch, on whom, and what is done with it: early stop, mining shares."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import TINY, small_trunk, tiny
from visualsearch.ml import encoders
from visualsearch.ml import train as training
from visualsearch.ml.data import Catalogue, split
from visualsearch.ml.distributed import World
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.epochs import Epochs
from visualsearch.ml.train import Progress, train
from visualsearch.ml.validation import MRR, R1, R10, Validation, set_aside


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "build_trunk", small_trunk)
    monkeypatch.setattr(training, "export_onnx", lambda network, folder: {})


def test_set_aside__takes_whole_groups_of_the_training_side_only() -> None:
    whole = coloured_shapes(designs=24)
    kept = split(whole).train
    learned, validation = set_aside(kept, tiny(validation=0.3))

    assert validation is not None
    groups = [{item.group for item in part.items} for part in (learned, validation)]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {item.group for item in kept.items}
    assert not groups[1] & {item.group for item in split(whole).holdout.items}
    again = set_aside(kept, tiny(validation=0.3))[1]
    assert again is not None
    assert [item.id for item in again.items] == [item.id for item in validation.items]


def test_set_aside__a_small_catalogue_keeps_all_it_has(caplog: pytest.LogCaptureFixture) -> None:
    catalogue = coloured_shapes()
    assert set_aside(catalogue, TINY) == (catalogue, None)
    assert caplog.text == ""
    assert set_aside(catalogue, tiny(patience=2))[1] is None
    assert "patience=2 has no effect" in caplog.text


def test_set_aside__at_most_five_hundred_products() -> None:
    items = coloured_shapes(designs=1).items
    many = [
        dataclasses.replace(items[i % len(items)], id=str(i), group=str(i)) for i in range(20_000)
    ]
    validation = set_aside(Catalogue(many, coloured_shapes(designs=1).pixels), TINY)[1]
    assert validation is not None
    assert 400 < len(validation.items) < 600


def _network() -> VisualEncoder:
    torch.manual_seed(0)
    return VisualEncoder(tiny(text="none", composer="none"), vocabulary_size=0, weights=None)


def test_validation__a_network_without_text_is_asked_by_photo() -> None:
    catalogue = coloured_shapes(designs=3)
    network = _network().train()
    figures = Validation(catalogue).measure(network, None, place=torch.device("cpu"))

    assert figures.keys() == {R1, R10, MRR}
    assert 0 < figures[R1] <= figures[MRR] <= 1
    assert figures[R1] <= figures[R10] <= 1
    assert network.training, "it goes on learning"


def test_validation__nothing_to_ask_gives_no_figures() -> None:
    items = [
        dataclasses.replace(item, group="", label="", texts=())
        for item in coloured_shapes(designs=1).items
    ]
    catalogue = Catalogue(items, coloured_shapes(designs=1).pixels)
    assert Validation(catalogue).measure(_network(), None, place=torch.device("cpu")) == {}


class _Scripted(Validation):
    """Says what it is told to, epoch by epoch."""

    def __init__(self, figures: list[float]) -> None:
        self.figures = figures

    def measure(self, *_: object, **__: object) -> dict[str, float]:
        return {MRR: self.figures.pop(0)}


def _epochs(figures: list[float], *, patience: int) -> Epochs:
    return Epochs(
        10,
        validation=_Scripted(figures),
        patience=patience,
        tokens=None,
        place=torch.device("cpu"),
        world=World(),
    )


def test_epochs__stop_when_validation_has_not_improved_and_keep_the_best() -> None:
    epochs, network = _epochs([0.1, 0.3, 0.2, 0.3, 0.9], patience=2), _network()
    weight = network.image.project.weight
    for number in range(4):
        with torch.no_grad():
            weight.fill_(number)  # type: ignore[operator, union-attr]
        assert not epochs.stopped_early
        epochs.end(network)
    assert epochs.stopped_early, "equal is no better"
    assert epochs.best_weights is not None
    assert float(epochs.best_weights["image.project.weight"][0, 0]) == 1.0


def test_epochs__without_patience_nothing_stops_and_nothing_is_copied() -> None:
    epochs = _epochs([0.3, 0.2, 0.1, 0.1], patience=0)
    for _ in range(4):
        epochs.end(_network())
    assert not epochs.stopped_early
    assert epochs.best_weights is None


def test_epochs__mean_loss_and_mean_shares_of_the_steps_that_mined() -> None:
    epochs = _epochs([0.5, 0.5], patience=0)
    epochs.add(1.0, {"easy": 0.5, "hard": 0.5})
    epochs.add(2.0, {"easy": 1.0, "hard": 0.0})
    epochs.add(3.0, {})
    epochs.end(_network())
    epochs.add(7.0, {})
    epochs.end(_network())

    assert [told["loss"] for told in epochs.told] == [2.0, 7.0]
    assert epochs.mining == [{"easy": 0.75, "hard": 0.25}]


def test_train__reports_recall_and_shares_by_epoch(tmp_path: Path) -> None:
    seen: list[Progress] = []
    recipe = tiny(epochs=3, validation=0.3, loss="triplet", mining="semihard", composer="sum")
    recipe = dataclasses.replace(recipe, composed_weight=0.0)
    catalogue = coloured_shapes(designs=8)
    result = train(catalogue, recipe, out=tmp_path / "out", device="cpu", progress=seen.append)

    told = result.metrics["epochs"]
    assert [epoch["epoch"] for epoch in told] == [1, 2, 3]
    assert all({"loss", R1, R10, MRR} <= epoch.keys() for epoch in told)
    assert result.metrics["validation_products"] >= 20
    assert len(result.metrics["mining"]) == 3
    for shares in result.metrics["mining"]:
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-3)
    assert {R10, "semihard"} <= seen[-4].metrics.keys()


def test_train__keeps_the_best_epoch_of_an_early_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(Validation, "measure", lambda *_, **__: {MRR: next(figures)})
    recipe = tiny(epochs=6, validation=0.3, patience=2)
    catalogue = coloured_shapes(designs=8)
    stopped = train(catalogue, recipe, out=tmp_path / "a", device="cpu")

    assert len(stopped.metrics["epochs"]) == 4
    steps = len(stopped.history) // 4
    figures = iter([0.1, 0.5])
    with pytest.raises(StopIteration):  # the same run, seen after its second epoch

        def leave(progress: Progress) -> None:
            if progress.stage == "train" and progress.done == 2 * steps:
                raise StopIteration

        train(
            catalogue,
            recipe,
            out=tmp_path / "b",
            device="cpu",
            progress=leave,
            resume=tmp_path / "states",
            save_every_s=0,
        )
    from safetensors.torch import load_file

    saved = load_file(stopped.folder / "encoder.safetensors")
    second = load_file(tmp_path / "states" / "state.safetensors")
    name = "image.trunk.0.weight"
    assert torch.equal(saved[name], second.get(f"best/{name}", saved[name]))
    assert len(stopped.history) == 4 * steps
