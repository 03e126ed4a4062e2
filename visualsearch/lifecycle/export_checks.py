"""Whether the exported encoder says what the network says on real photos, and how long it takes."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from visualsearch.onnx_encoder import Pixels, Vectors

PHOTOS = 256
NEIGHBOURS = 10
ROUNDS = 15
NOISE = 1.5
"""Median over minimum of the times; above this the machine was too busy to measure on."""


class ImageEncoder(Protocol):
    def encode_image(self, pixels: Pixels) -> Vectors: ...


def agreement(network: Vectors, exported: Vectors) -> dict[str, float]:
    """Two encoders' unit vectors [N, d] of the same photos: how nearly they say the same.

    `cosine`: the smallest of one photo's two vectors. `overlap`: the share of the ten nearest
    photos by the one that are among the ten nearest by the other, on average.
    """
    network, exported = np.asarray(network, np.float64), np.asarray(exported, np.float64)
    if not (np.isfinite(network).all() and np.isfinite(exported).all()):
        return {"cosine": 0.0, "overlap": 0.0}
    cosine = float((network * exported).sum(axis=1).min())
    k = min(NEIGHBOURS, len(network) - 1)
    if k < 1:
        return {"cosine": round(cosine, 6)}
    mine, theirs = _nearest(network, k), _nearest(exported, k)
    shared = [len(set(a) & set(b)) for a, b in zip(mine, theirs, strict=True)]
    return {"cosine": round(cosine, 6), "overlap": round(float(np.mean(shared)) / k, 4)}


def latency_ratio(
    encoder: ImageEncoder, live: ImageEncoder, photo: Pixels, *, rounds: int = ROUNDS
) -> float | None:
    """How many times as long as `live` the encoder takes for one photo; None if it is too noisy.

    In turns, so that whatever else the machine does hits both; the quickest of each counts.
    """
    encoder.encode_image(photo), live.encode_image(photo)  # loads the graphs
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for each, spent in zip((encoder, live), times, strict=True):
            started = time.perf_counter()
            each.encode_image(photo)
            spent.append(time.perf_counter() - started)
    if any(float(np.median(spent)) > NOISE * min(spent) for spent in times):
        return None
    return round(min(times[0]) / min(times[1]), 3)


def _nearest(vectors: np.ndarray, k: int) -> list[list[int]]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest: list[list[int]] = np.argsort(-scores, axis=1, kind="stable")[:, :k].tolist()
    return nearest
