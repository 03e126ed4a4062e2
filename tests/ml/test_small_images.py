"""Networks on images of a few pixels: gradients are numbers, and the same ones every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.ml.catalogues import coloured_shapes
from visualsearch.ml import tokenizer
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.distributed import World
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.objective import Objective
from visualsearch.ml.pairs import batches
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.stepping import Step


def _leave_rubbish() -> None:
    """Freed memory full of enormous numbers: what is not initialised shows."""
    for size in (1_000, 100_000, 1_200_000):
        for _ in range(8):
            torch.full((size,), 1e30)


@pytest.mark.parametrize("size", [8, 16, 24])
def test_step__gradients_of_tiny_images_are_initialised(size: int) -> None:
    recipe = Recipe(
        name="tiny",
        summary="For tests.",
        trunk="resnet10",
        image_size=size,
        width=8,
        token_width=8,
        text_hidden=8,
    )
    catalogue = coloured_shapes(size=size)
    coded = CodedCatalogue(catalogue)
    tokens = tokenizer.train(["red bar"], vocabulary_size=300, text_length=8)
    torch.manual_seed(0)
    network = VisualEncoder(recipe, vocabulary_size=tokens.vocabulary_size, weights=None)
    network = network.to(memory_format=torch.channels_last).train()
    objective = Objective(network, tokens, coded)
    step = Step(objective, place=torch.device("cpu"), world=World())
    rng = np.random.default_rng(0)
    batch = next(batches(coded, size=16, second_views=0.0, kind_pairs=0.3, rng=rng))
    pixels = torch.from_numpy(catalogue.pixels[batch.images])
    images = network.image.normalise(pixels).contiguous(memory_format=torch.channels_last)

    def gradients() -> list[Tensor]:
        objective.zero_grad(set_to_none=True)
        _leave_rubbish()
        step(images, batch).total.backward()
        return [p.grad.clone() for p in network.image.parameters() if p.grad is not None]

    first, again = gradients(), gradients()
    assert len(first) > 10
    assert all(each.isfinite().all() and each.abs().max() < 1e6 for each in first)
    assert all(torch.allclose(a, b) for a, b in zip(first, again, strict=True))
