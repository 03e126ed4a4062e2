"""The moving average of a network's weights: how fast it follows, what it holds, what is kept of it."""

from __future__ import annotations

import itertools

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import small_trunk, tiny
from visualsearch.ml import encoders
from visualsearch.ml import train as training
from visualsearch.ml.averaging import Average
from visualsearch.ml.loop import Loop
from visualsearch.ml.train import train


def _network(value: float) -> nn.Module:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    with torch.no_grad():
        network[0].weight.fill_(value)  # type: ignore[operator, union-attr]
        network[1].running_mean.fill_(value)  # type: ignore[operator, union-attr]
    return network


def _held(average: Average) -> tuple[float, float]:
    state = average.network.state_dict()
    return float(state["0.weight"]), float(state["1.running_mean"])


def test_average__follows_the_weights_and_the_statistics_of_norms() -> None:
    average = Average(_network(0.0), decay=0.5)
    average.update(_network(10.0))
    assert _held(average) == (10.0, 10.0), "the random start counts for nothing"

    average.update(_network(20.0))  # decay (1 + 1) / (10 + 1)
    expected = 10 * 2 / 11 + 20 * 9 / 11
    assert _held(average) == pytest.approx((expected, expected))


def test_average__its_decay_grows_to_what_was_asked() -> None:
    average = Average(_network(0.0), decay=0.5)
    average.update(_network(0.0))
    followed = []
    for _ in range(20):
        before = _held(average)[0]
        average.update(_network(before + 1.0))
        followed.append(_held(average)[0] - before)  # 1 − decay
    assert followed[0] == pytest.approx(9 / 11, abs=1e-5)
    assert all(later <= earlier + 1e-5 for earlier, later in itertools.pairwise(followed))
    assert followed[-1] == pytest.approx(0.5, abs=1e-4)


def test_average__counters_are_taken_over_not_averaged() -> None:
    average, network = Average(_network(0.0), decay=0.9), _network(1.0)
    for count in (3, 8):
        network[1].num_batches_tracked.fill_(count)  # type: ignore[index, operator, union-attr]
        average.update(network)
        assert int(average.network.state_dict()["1.num_batches_tracked"]) == count


def test_train__what_is_saved_is_the_average(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "build_trunk", small_trunk)
    monkeypatch.setattr(training, "export_onnx", lambda network, folder: {})
    seen: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []
    run = Loop.run

    def spied(loop: Loop, report: object) -> object:
        take = loop.take

        def noting(fed: object) -> None:
            take(fed)  # type: ignore[arg-type]
            assert loop.average is not None
            raw, averaged = loop.network.state_dict(), loop.average.network.state_dict()
            seen.append(({k: v.clone() for k, v in raw.items()}, dict(averaged)))

        loop.take = noting  # type: ignore[method-assign, assignment]
        return run(loop, report)  # type: ignore[arg-type]

    monkeypatch.setattr(Loop, "run", spied)
    result = train(coloured_shapes(), tiny(average=0.99), out=f"{tmp_path}/out", device="cpu")
    saved = load_file(result.folder / "encoder.safetensors")
    raw, averaged = seen[-1]
    name = "image.trunk.0.weight"
    assert torch.equal(saved[name], averaged[name])
    assert not torch.allclose(saved[name], raw[name], atol=1e-6)
    statistics = "image.trunk.1.running_mean"
    assert torch.equal(saved[statistics], averaged[statistics])
