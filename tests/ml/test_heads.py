"""Heads learn on cached features what the whole network would answer with."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import tiny
from visualsearch.ml import encoders
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.features import cached_features, pixel_hashes
from visualsearch.ml.frozen import Features, Heads, features_key
from visualsearch.ml.heads import HeadLoop, fit_heads, standing_in
from visualsearch.ml.tokenizer import train as train_tokenizer

CPU = torch.device("cpu")


def network(**changes: object) -> VisualEncoder:
    torch.manual_seed(0)
    recipe = tiny(frozen=True, head_hidden=8, small_first=0.0, **changes)
    return VisualEncoder(recipe, vocabulary_size=300, weights=None).eval()


@pytest.mark.parametrize("thumbnail", [0, 8])
def test_heads__of_features_are_the_vectors_of_pixels(thumbnail: int) -> None:
    made = network(thumbnail=thumbnail)
    pixels = torch.from_numpy(coloured_shapes().pixels)
    with torch.inference_mode():
        rows = Features(made.image)(pixels)
        assert torch.allclose(Heads(made.image)(rows), made.encode_image(pixels), atol=1e-5)


def test_features__of_a_view_are_varied_and_the_same_each_time() -> None:
    made = network()
    pixels = torch.from_numpy(coloured_shapes().pixels)
    with torch.inference_mode():
        plain, first, again, other = (
            Features(made.image, view=view)(pixels) for view in (0, 1, 1, 2)
        )
    assert torch.equal(first, again)
    assert not torch.allclose(first, plain) and not torch.allclose(first, other)


def test_features_key__changes_with_the_weights_and_nothing_else_that_learns() -> None:
    made = network()
    options = {"trunk": "resnet10", "image_size": 32}
    key = features_key(made.image, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        made.image.project.linear.weight += 1
    assert features_key(made.image, **options) == key  # type: ignore[arg-type]
    assert features_key(made.image, **options, view=1) != key  # type: ignore[arg-type]
    with torch.no_grad():
        next(made.image.trunk.parameters()).view(-1)[0] += 1
    assert features_key(made.image, **options) != key  # type: ignore[arg-type]


def test_fit_heads__learns_from_rows_alone_and_leaves_the_trunk(tmp_path: Path) -> None:
    catalogue = coloured_shapes(designs=3)
    made = network(epochs=30)
    trunk = {name: value.clone() for name, value in made.image.trunk.state_dict().items()}
    texts = [text for item in catalogue.items for text in item.texts]
    tokens = train_tokenizer(texts, vocabulary_size=300, text_length=16)
    views = [
        cached_features(
            Features(made.image, view=view),
            features_key(made.image, trunk="resnet10", image_size=32, view=view),
            catalogue.pixels,
            pixel_hashes(catalogue.pixels),
            tmp_path,
            device=CPU,
        )
        for view in (0, 1)
    ]
    loop = fit_heads(made, views, catalogue, tokens, place=CPU, seed=0, budget_s=None)
    losses = [entry["loss"] for entry in loop.history]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:3])
    assert isinstance(made.image, encoders.ImageEncoder) and not made.training
    for name, value in made.image.trunk.state_dict().items():
        assert torch.equal(value, trunk[name]), name
    with torch.inference_mode():
        vectors = made.encode_image(torch.from_numpy(catalogue.pixels))
        titles = sorted({item.texts[0] for item in catalogue.items})
        asked = made.encode_text(torch.from_numpy(tokens.encode(titles)))
    found = [catalogue.items[i].texts[0] for i in (asked @ vectors.T).argmax(dim=1).tolist()]
    right = np.mean([title == other for title, other in zip(titles, found, strict=True)])
    assert right > 0.5  # of 16 titles


def test_standing_in__the_image_encoder_comes_back_after_an_error() -> None:
    made = network()
    image = made.image
    with pytest.raises(ValueError, match="stop"), standing_in(made):
        assert isinstance(made.image, Heads)
        raise ValueError("stop")
    assert made.image is image


def test_fit_heads__other_views_are_shown_only_where_a_product_comes_again() -> None:
    assert _shown(second_views=0.25) == {(False, 0), (True, 1), (True, 2)}


def test_fit_heads__texts_are_learned_from_phone_like_views_where_the_recipe_says_so() -> None:
    shown = _shown(second_views=0.25, wild_photos=0.5, wild_variations=1)
    assert shown == {(False, 0), (False, 2), (True, 1), (True, 2)}


def _shown(**fields: Any) -> set[tuple[bool, int]]:
    """Whether a photo is a product's second one, and which of three views of it is shown."""
    catalogue = coloured_shapes(designs=3)
    made = network(**fields)
    tokens = train_tokenizer(
        [text for item in catalogue.items for text in item.texts],
        vocabulary_size=300,
        text_length=16,
    )
    width = sum(made.image.blocks)
    plain = np.zeros((len(catalogue.pixels), width), np.float16)
    with standing_in(made):
        loop = HeadLoop(
            catalogue, made, tokens, [plain, plain + 1, plain + 2], place=CPU, seed=0, budget_s=None
        )
        shown: list[tuple[bool, int]] = []
        for step, batch in enumerate(itertools.islice(loop.stream.after(0), 8)):
            rows = loop.prepare(step, batch)[:, 0].tolist()
            fresh = len(batch.images) - len(batch.repeats)
            shown += [(row >= fresh, int(view)) for row, view in enumerate(rows)]
    return set(shown)
