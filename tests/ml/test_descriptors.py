"""Descriptors know outlines and colours without any training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.ml.catalogues import COLOURS, KINDS, draw
from visualsearch.ml.descriptors import ColourHistogram, Descriptor, OrientedGradients, to_lab
from visualsearch.ml.normalisation import MEAN, STD


def normalised(*images: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def shapes(seed: int) -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        (kind, name): draw(kind, colour, size=64, rng=rng)
        for kind in KINDS
        for name, colour in COLOURS.items()
    }


def nearest(descriptor: Descriptor, queries: Tensor, gallery: Tensor) -> list[int]:
    found = descriptor(queries) @ descriptor(gallery).T
    return found.argmax(dim=1).tolist()


def test_oriented_gradients__find_the_outline_whatever_its_colour() -> None:
    gallery, queries = shapes(0), shapes(1)
    names = list(gallery)
    descriptor = OrientedGradients()
    for place, (kind, colour) in enumerate(queries):
        others = [name for name in names if name[1] != colour]
        query = normalised(list(queries.values())[place])
        best = nearest(descriptor, query, normalised(*(gallery[name] for name in others)))[0]
        assert others[best][0] == kind


def test_colour_histogram__finds_the_colour_whatever_the_outline() -> None:
    gallery, queries = shapes(0), shapes(1)
    names = list(gallery)
    descriptor = ColourHistogram()
    for place, (kind, colour) in enumerate(queries):
        others = [name for name in names if name[0] != kind]
        query = normalised(list(queries.values())[place])
        best = nearest(descriptor, query, normalised(*(gallery[name] for name in others)))[0]
        assert others[best][1] == colour


@pytest.mark.parametrize("descriptor", [OrientedGradients(), ColourHistogram()])
def test_descriptor__gives_its_number_of_finite_features_at_any_size(
    descriptor: Descriptor,
) -> None:
    for size in (24, 64, 160):
        for image in (
            torch.zeros(1, 3, size, size),
            (1 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
            + torch.zeros(1, 1, size, size),
        ):
            features = descriptor(image)
            assert features.shape == (1, descriptor.features)
            assert features.dtype == torch.float32
            assert bool(features.isfinite().all())


def test_descriptor__is_computed_in_float32_inside_autocast() -> None:
    image = normalised(next(iter(shapes(0).values())))
    for descriptor in (OrientedGradients(), ColourHistogram()):
        with torch.autocast("cpu", torch.bfloat16):
            inside = descriptor(image)
        assert torch.equal(inside, descriptor(image))


def test_colour_histogram__shares_add_up_to_one_less_the_missing_pixel() -> None:
    rgb = torch.rand(3, 3, 16, 16) * 0.5  # dark: no pixel counts as background
    shares = ColourHistogram().describe(rgb).square().sum(dim=1)
    assert shares == pytest.approx([256 / 257] * 3, abs=1e-3)


def test_to_lab__agrees_with_published_values() -> None:
    # D65, as of the calculators of CIE 15: white, red, green, blue, mid grey.
    rgb = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    lab = to_lab(rgb[:, :, None, None]).flatten(1)
    expected = torch.tensor(
        [
            [100, 0, 0],
            [53.24, 80.09, 67.20],
            [87.73, -86.18, 83.18],
            [32.30, 79.19, -107.86],
            [53.39, 0, 0],
        ]
    )
    assert torch.allclose(lab, expected, atol=0.15)
