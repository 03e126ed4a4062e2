"""Batches in the network side by side: as many as there are cores, and an end to all of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from visualsearch.upkeep import side_by_side
from visualsearch.upkeep.side_by_side import SideBySide


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": "", "DEVICE": "cpu"}
    monkeypatch.setattr(side_by_side, "available_cpus", lambda: 4)


def test_batches__are_at_work_together_and_each_has_its_share_of_the_cores() -> None:
    import torch

    before = torch.get_num_threads()
    together, seen = threading.Barrier(4, timeout=30), list[tuple[int, int]]()

    def encode(batch: int) -> None:
        together.wait()  # passes only if four are at work at once
        seen.append((batch, torch.get_num_threads()))

    with SideBySide(encode) as network:
        for batch in range(8):
            network.submit(batch)

    assert sorted(seen) == [(batch, 1) for batch in range(8)]
    assert torch.get_num_threads() == before


def test_batches__no_more_wait_than_are_at_work() -> None:
    release, begun = threading.Event(), list[int]()

    def encode(batch: int) -> None:
        begun.append(batch)
        release.wait(30)

    with SideBySide(encode) as network:
        for batch in range(4):
            network.submit(batch)
        waiting = threading.Thread(target=network.submit, args=(4,))
        waiting.start()
        waiting.join(0.2)
        held = waiting.is_alive()
        release.set()
        waiting.join(30)

    assert held
    assert sorted(begun) == [0, 1, 2, 3, 4]


def test_a_batch_that_fails__ends_the_others_and_is_told() -> None:
    def encode(batch: int) -> None:
        if batch == 1:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), SideBySide(encode) as network:
        for batch in range(20):
            network.submit(batch)


def test_nothing_to_encode__begins_no_thread() -> None:
    with SideBySide(lambda batch: None) as network:
        assert network.threads is None


@pytest.mark.parametrize("given", [{"ENCODER": "visualsearch.testing.FakeEncoder"}])
def test_an_encoder_of_the_shops_own__is_asked_by_one_thread_at_a_time(
    given: dict[str, str], settings: Any
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | given
    threads = set[str]()

    with SideBySide(lambda batch: threads.add(threading.current_thread().name)) as network:
        for batch in range(8):
            network.submit(batch)

    assert side_by_side.most() == 1
    assert len(threads) == 1
