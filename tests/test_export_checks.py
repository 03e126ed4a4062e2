"""Exported and eager encoders are compared on photos, and timed in turns."""

from __future__ import annotations

import time

import numpy as np
import pytest

from visualsearch.lifecycle import export_checks

PHOTO = np.zeros((1, 8, 8, 3), np.uint8)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0).standard_normal((60, 16)))


def test_agreement__the_same_vectors_agree_fully(vectors: np.ndarray) -> None:
    assert export_checks.agreement(vectors, vectors) == {"cosine": 1.0, "overlap": 1.0}


def test_agreement__one_photo_that_differs_is_seen(vectors: np.ndarray) -> None:
    other = vectors.copy()
    other[3] = -other[3]
    found = export_checks.agreement(vectors, other)
    assert found["cosine"] == pytest.approx(-1.0)
    assert found["overlap"] < 1.0


def test_agreement__other_neighbours_are_seen_though_each_vector_is_near(
    vectors: np.ndarray,
) -> None:
    near = unit(np.ones(16) * 40 + vectors)
    blurred = unit(np.ones(16) * 40 + np.random.default_rng(1).permutation(vectors))
    found = export_checks.agreement(near, blurred)
    assert found["cosine"] > 0.999
    assert found["overlap"] < 0.5


def test_agreement__no_number_agrees_with_nothing(vectors: np.ndarray) -> None:
    broken = vectors.copy()
    broken[0, 0] = np.nan
    assert export_checks.agreement(vectors, broken) == {"cosine": 0.0, "overlap": 0.0}


def test_agreement__a_single_photo_has_no_neighbours(vectors: np.ndarray) -> None:
    assert export_checks.agreement(vectors[:1], vectors[:1]) == {"cosine": 1.0}


class Sleeper:
    """Takes so many seconds by a clock that the test turns."""

    def __init__(self, clock: list[float], *seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.calls = 0

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        self.clock[0] += self.seconds[self.calls % len(self.seconds)]
        self.calls += 1
        return np.zeros((1, 4), np.float32)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_latency_ratio__is_of_the_quickest_of_each(clock: list[float]) -> None:
    slow, quick = Sleeper(clock, 0.03, 0.035), Sleeper(clock, 0.02)
    assert export_checks.latency_ratio(slow, quick, PHOTO) == pytest.approx(1.5)


def test_latency_ratio__a_busy_machine_measures_nothing(clock: list[float]) -> None:
    restless = Sleeper(clock, 0.02, 0.05, 0.09)
    assert export_checks.latency_ratio(restless, Sleeper(clock, 0.02), PHOTO) is None
