"""The combiner against its formulas, and as the composer of a network that trains and serves."""

from __future__ import annotations

import numpy as np
import torch

from tests.ml.recipes import tiny
from visualsearch.ml.combiner import Combiner
from visualsearch.ml.encoders import VisualEncoder

WIDTH = 6


def linear(layer: object, x: np.ndarray) -> np.ndarray:
    assert isinstance(layer, torch.nn.Linear)
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def test_combiner__is_what_its_formulas_say() -> None:
    torch.manual_seed(0)
    made = Combiner(WIDTH).eval()
    image, text = torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    x = np.concatenate(
        [
            relu(linear(made.read_image[0], image.numpy())),
            relu(linear(made.read_text[0], text.numpy())),
        ],
        axis=1,
    )
    share = 1 / (1 + np.exp(-linear(made.share[1], relu(linear(made.share[0][0], x)))))
    added = linear(made.residual[1], relu(linear(made.residual[0][0], x)))
    expected = added + share * text.numpy() + (1 - share) * image.numpy()

    with torch.inference_mode():
        found = made(image, text).numpy()

    assert x.shape == (5, 8 * WIDTH)
    assert np.abs(found - expected).max() < 1e-5


def test_combiner__composes_unit_vectors_in_a_network() -> None:
    network = VisualEncoder(tiny(composer="combiner"), vocabulary_size=9, weights=None).eval()
    vectors = torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    with torch.inference_mode():
        composed = network.compose(vectors, vectors.flip(0))
    assert torch.allclose(composed.norm(dim=1), torch.ones(4), atol=1e-5)
    assert not torch.allclose(composed, vectors, atol=0.1)
