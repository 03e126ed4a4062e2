"""Hard negatives: what the network takes for each other is drawn into one batch, and nothing is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import small_trunk, tiny
from visualsearch.ml import encoders, noted_vectors, resume
from visualsearch.ml import train as training
from visualsearch.ml.cluster_queue import Queue
from visualsearch.ml.clusters import Cluster
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.hard_negatives import SAME, Nearest
from visualsearch.ml.manifest import sha256_of
from visualsearch.ml.noted_vectors import MIN_STEPS, NotedVectors
from visualsearch.ml.train import Progress, train


def on_a_circle(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_nearest__the_nearest_come_first_and_nothing_that_may_be_right() -> None:
    twin = float(np.degrees(np.arccos(SAME))) - 2
    vectors = on_a_circle(0, twin, 40, 25, 30, 170)
    titles = np.array([0, 1, 2, 3, 0, 5])  # the fifth has the title of the first
    (found,) = Nearest(vectors, titles).of([0])
    assert found[:3] == [3, 2, 5]
    assert 4 not in found and 0 not in found
    assert found[-1] == 1, "a photo that looks like the same product is the last to be drawn"


def test_nearest__products_without_a_title_are_no_namesakes() -> None:
    (found,) = Nearest(on_a_circle(0, 30, 60), np.array([-1, -1, -1])).of([0])
    assert found == [1, 2]


def test_queue__hands_out_every_product_once_and_neighbours_together() -> None:
    # Ten rays of ten products each, 30 degrees apart; within a ray they differ by almost nothing.
    places = np.repeat(np.arange(10) * 30.0, 10)
    vectors = functional.normalize(
        torch.cat([on_a_circle(*places), 0.6 * torch.randn(100, 20).abs()], dim=1), dim=1
    )
    nearest = Nearest(vectors, np.arange(100))
    rng = np.random.default_rng(0)

    def refill() -> list[Cluster]:
        return [Cluster((int(i),), "kind") for i in rng.permutation(100)]

    def shares(queue: Queue) -> tuple[float, list[int]]:
        """How near the products of a batch are to each other, and all that were handed out."""
        drawn, near = [], []
        for _ in range(4):
            batch = [i for cluster in queue.take(25) for i in cluster.members]
            assert len(batch) == 25
            cosines = vectors[batch] @ vectors[batch].T
            near.append(float(cosines.sort(dim=1).values[:, -2].mean()))
            drawn += batch
        return near[0], drawn

    plain, all_plain = shares(Queue(refill))
    hard, all_hard = shares(Queue(refill, hard_negatives=1.0, nearest=nearest))
    assert sorted(all_plain) == sorted(all_hard) == list(range(100))
    assert hard > plain + 0.02


def test_queue__without_neighbours_yet_it_is_the_plain_one() -> None:
    clusters = [Cluster((i, i + 1), "group") for i in range(0, 20, 2)]
    plain = Queue(lambda: list(clusters)).take(9)
    early = Queue(lambda: list(clusters), hard_negatives=0.5, nearest=None).take(9)
    assert plain == early
    assert [len(cluster.members) for cluster in plain] == [2, 2, 2, 2, 1]


def test_noted_vectors__a_pass_is_drawn_by_the_end_of_the_one_before_its_last() -> None:
    coded = CodedCatalogue(coloured_shapes(designs=2))
    noted = NotedVectors(coded, width=2, steps_a_pass=MIN_STEPS)
    everything = np.arange(32)
    for step in range(1, 3 * MIN_STEPS + 1):
        noted.note(everything, on_a_circle(*([float(step)] * 32)), step=step)
    assert noted.nearest(0) is None and noted.nearest(1) is None
    for number in (3, 4):
        found = noted.nearest(number)
        assert found is not None
        expected = on_a_circle(float((number - 1) * MIN_STEPS))[0]
        assert torch.allclose(found.vectors[0], expected, atol=1e-3)
    assert not NotedVectors(coded, width=2, steps_a_pass=MIN_STEPS - 1).used
    other = NotedVectors(coded, width=2, steps_a_pass=MIN_STEPS)
    other.restore({name: value.clone() for name, value in noted.state().items()})
    again, before = other.nearest(4), noted.nearest(4)
    assert again is not None and before is not None
    assert torch.equal(again.vectors, before.vectors)


class Killed(Exception):
    pass


def test_train__with_hard_negatives_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "export_onnx", lambda network, folder: {})
    monkeypatch.setattr(encoders, "build_trunk", small_trunk)
    monkeypatch.setattr(resume, "MAX_SHARE", 1e9)
    asked: list[int] = []
    usual = noted_vectors.NotedVectors.nearest

    def noting(self: NotedVectors, number: int) -> Nearest | None:
        found = usual(self, number)
        asked.append(number if found is not None else -1)
        return found

    monkeypatch.setattr(noted_vectors.NotedVectors, "nearest", noting)
    recipe = dataclasses.replace(tiny(epochs=5), hard_negatives=0.5, small_first=0.0)
    catalogue = coloured_shapes(designs=16)

    def run(name: str, fail: object = None, states: Path | None = None) -> str:
        def tell(progress: Progress) -> None:
            if progress.stage == "train" and progress.done == fail:
                raise Killed

        out = tmp_path / name
        options = {"device": "cpu", "seed": 3, "progress": tell, "save_every_s": 0}
        train(catalogue, recipe, out=out, resume=states, **options)  # type: ignore[arg-type]
        return sha256_of(out / "encoder.safetensors")

    whole = run("whole")
    assert max(asked) >= 3, "it never came to hard negatives"
    plain = dataclasses.replace(recipe, hard_negatives=0.0)
    recipe, mined = plain, recipe
    assert run("plain") != whole
    recipe = mined
    states = tmp_path / "states"
    with pytest.raises(Killed):
        run("out", fail=54, states=states)
    assert run("out", states=states) == whole
