"""Lays vectors out on a plane so that neighbours stay neighbours: t-SNE, or principal components."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

TSNE, PCA = "t-SNE", "principal components (pip install scikit-learn for t-SNE)"


def lay_out(vectors: npt.NDArray[np.floating], *, seed: int = 0) -> tuple[Points, str]:
    """float [N, d] -> points [N, 2] in 0 … 1, and the name of the method."""
    finite: Points = np.nan_to_num(np.asarray(vectors, dtype=np.float64))
    # t-SNE of a handful of points is noise.
    if importlib.util.find_spec("sklearn") is not None and len(finite) >= 30:
        from sklearn.manifold import TSNE as Tsne
        from threadpoolctl import threadpool_limits

        perplexity = min(30.0, (len(finite) - 1) / 4)
        tsne = Tsne(perplexity=perplexity, init="pca", random_state=seed)
        # For a few hundred points threads mostly wait for each other, for minutes on a busy machine.
        with threadpool_limits(1):
            points = tsne.fit_transform(finite)
        return _to_unit(np.asarray(points, dtype=np.float64)), TSNE
    return _to_unit(_principal(finite)), PCA


def _principal(vectors: Points) -> Points:
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    points = centred @ axes[:2].T
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def _to_unit(points: Points) -> Points:
    low, high = points.min(axis=0), points.max(axis=0)
    unit: Points = (points - low) / np.maximum(high - low, 1e-12)
    return unit
