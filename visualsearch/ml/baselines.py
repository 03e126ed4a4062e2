"""What any encoder must beat: raw pixels and a colour histogram, nothing learned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def raw_pixels(pixels: npt.NDArray[np.uint8], *, components: int = 64) -> Vectors:
    """uint8 [N, S, S, 3] -> 24 x 32 pixels, PCA to `components`: unit float32 [N, c]."""
    small = np.stack([_resize(image, rows=32, columns=24) for image in pixels])
    flat = small.reshape(len(small), -1) / 255.0
    centred = flat - flat.mean(axis=0)
    # Eigenvectors of the smaller product: 2,304 values an image; much faster than an SVD.
    sample = centred[:4_000]
    if len(sample) > sample.shape[1]:
        _, axes = np.linalg.eigh(sample.T @ sample)
    else:
        values, vectors = np.linalg.eigh(sample @ sample.T)
        axes = (sample.T @ vectors) / np.sqrt(np.maximum(values, 1e-9))
    return _unit(centred @ axes[:, ::-1][:, :components])


def colour_histogram(pixels: npt.NDArray[np.uint8], *, bins: int = 6) -> Vectors:
    """uint8 [N, S, S, 3] -> joint RGB histogram without the white ground: unit float32 [N, b³]."""
    rows = []
    for image in pixels:
        colours = image.reshape(-1, 3)
        colours = colours[colours.min(axis=1) <= 240]
        steps = (colours.astype(np.int64) * bins) // 256
        index = (steps[:, 0] * bins + steps[:, 1]) * bins + steps[:, 2]
        rows.append(np.bincount(index, minlength=bins**3))
    # Square roots, so that the cosine is the Bhattacharyya coefficient.
    return _unit(np.sqrt(np.array(rows, dtype=np.float64)))


def _resize(image: npt.NDArray[np.uint8], *, rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Mean over boxes; the middle three quarters of the width, since letter-boxes are square."""
    size = image.shape[0]
    margin = size // 8
    inner = image[:, margin : size - margin].astype(np.float32)
    ys = np.linspace(0, inner.shape[0], rows + 1).astype(int)[:-1]
    xs = np.linspace(0, inner.shape[1], columns + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(inner, ys, axis=0), xs, axis=1)
    # A photo of fewer pixels than boxes: reduceat repeats them.
    heights = np.maximum(np.diff([*ys, inner.shape[0]]), 1)
    widths = np.maximum(np.diff([*xs, inner.shape[1]]), 1)
    areas = heights[:, None] * widths[None, :]
    mean: npt.NDArray[np.float32] = sums / areas[:, :, None]
    return mean


def _unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
