"""Batches are a function of seed and step, and are prepared ahead without changing anything."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.ml.catalogues import coloured_shapes
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.feeding import AHEAD, Feeder
from visualsearch.ml.pairs import Batch, batches
from visualsearch.ml.stream import Stream, step_seed


def _stream(seed: int = 0, steps_a_pass: int = 5) -> Stream:
    coded = CodedCatalogue(coloured_shapes(designs=3))
    return Stream(
        lambda rng, _: batches(coded, size=10, second_views=0.0, kind_pairs=0.3, rng=rng),
        seed=seed,
        steps_a_pass=steps_a_pass,
    )


def _texts(stream: Stream, *, after: int, count: int) -> list[list[str]]:
    return [batch.texts for batch in itertools.islice(stream.after(after), count)]


@pytest.mark.parametrize("step", [1, 4, 5, 6, 11])
def test_stream__goes_on_at_any_step_as_if_it_had_never_stopped(step: int) -> None:
    whole = _texts(_stream(), after=0, count=16)
    assert _texts(_stream(), after=step, count=16 - step) == whole[step:]


def test_stream__seeds_and_passes_differ() -> None:
    assert _texts(_stream(1), after=0, count=1) != _texts(_stream(0), after=0, count=1)
    assert _texts(_stream(), after=5, count=1) != _texts(_stream(), after=0, count=1)


def test_stream__a_pass_shows_every_product() -> None:
    coded = CodedCatalogue(coloured_shapes(designs=3))
    stream = Stream(
        lambda rng, _: batches(coded, size=16, second_views=0.0, kind_pairs=0.0, rng=rng),
        seed=0,
        steps_a_pass=3,
    )
    seen = np.concatenate([batch.products for batch in itertools.islice(stream.after(3), 3)])
    assert sorted(seen) == list(range(48))


def test_stream__tells_the_number_of_the_pass_to_what_draws() -> None:
    told: list[int] = []
    coded = CodedCatalogue(coloured_shapes(designs=3))

    def draw(rng: np.random.Generator, number: int) -> Iterator[Batch]:
        told.append(number)
        return batches(coded, size=16, second_views=0.0, kind_pairs=0.0, rng=rng)

    list(itertools.islice(Stream(draw, seed=0, steps_a_pass=3).after(4), 6))
    assert told == [1, 2, 3]


def test_step_seed__differs_by_step_seed_and_process_and_fits_a_generator() -> None:
    seeds = {
        step_seed(seed, step, rank=rank) for seed in (0, 1) for step in range(50) for rank in (0, 1)
    }
    assert len(seeds) == 200
    for seed in seeds:
        torch.Generator().manual_seed(seed)


def _prepare(step: int, batch: Batch) -> torch.Tensor:
    return torch.tensor([step])


def test_feeder__gives_every_batch_in_order_with_its_step() -> None:
    with Feeder(_stream().after(3), _prepare, first=3) as feeder:
        fed = [next(feeder) for _ in range(6)]
    assert [each.step for each in fed] == [3, 4, 5, 6, 7, 8]
    assert [int(each.images) for each in fed] == [each.step for each in fed]
    assert [each.batch.texts for each in fed] == _texts(_stream(), after=3, count=6)


def test_feeder__prepares_a_few_ahead_in_another_thread_and_stops_with_the_block() -> None:
    prepared: list[str] = []

    def prepare(step: int, batch: Batch) -> torch.Tensor:
        prepared.append(threading.current_thread().name)
        return torch.zeros(1)

    with Feeder(_stream().after(0), prepare, first=0) as feeder:
        next(feeder)
        deadline = time.monotonic() + 10
        while len(prepared) < 1 + AHEAD and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    # Taken, waiting, and one more that waits for room.
    assert 1 + AHEAD <= len(prepared) <= 2 + AHEAD
    assert set(prepared) == {"feeder"}
    assert "feeder" not in [thread.name for thread in threading.enumerate()]


def test_feeder__what_goes_wrong_is_raised_where_the_batch_is_wanted() -> None:
    def prepare(step: int, batch: Batch) -> torch.Tensor:
        if step == 1:
            raise ZeroDivisionError("of its own")
        return torch.zeros(1)

    with Feeder(_stream().after(0), prepare, first=0) as feeder:
        next(feeder)
        with pytest.raises(ZeroDivisionError, match="of its own"):
            next(feeder)
