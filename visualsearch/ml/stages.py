"""Trains a network in one stage or two: the trunk with everything, then heads on its features."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from visualsearch.ml.data import Catalogue
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.features import Rows, cached_features, pixel_hashes
from visualsearch.ml.frozen import Features, features_key
from visualsearch.ml.heads import fit_heads
from visualsearch.ml.loop import Loop, Progress, ProgressCallback
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.tokenizer import Tokenizer


def fit_network(
    catalogue: Catalogue,
    network: VisualEncoder,
    tokens: Tokenizer | None,
    *,
    report: ProgressCallback,
    features: Path | None = None,
    **options: Any,
) -> Loop:
    """Trains `network` as its recipe says; the last stage's loop, whose `history` has the losses.

    A frozen trunk's features are read once and the heads learn from them; they are kept in the
    folder `features`, where there is one, for the next run. A trunk that learns does so with heads
    of its own, and where the recipe has `head_epochs` they are thrown away and new ones are trained
    on what the trunk has become, descriptors beside it: heads see a hundred times as many examples
    a second as the trunk does. `options` are those of Loop.
    """
    recipe = network.recipe
    if recipe.frozen:
        return _heads(catalogue, network, tokens, recipe, report, features, options)
    if not recipe.head_epochs:
        loop = Loop(catalogue, network, tokens, **options)
        loop.run(report)
        return loop
    early = _trunk_alone(network, tokens, recipe)
    loop = Loop(catalogue, early, tokens, **options)
    loop.run(report)
    network.image.trunk.load_state_dict(early.image.trunk.state_dict())
    for mine, theirs in ((network.text, early.text), (network.composer, early.composer)):
        if mine is not None and theirs is not None:
            mine.load_state_dict(theirs.state_dict())
    learner = dataclasses.replace(
        recipe,
        frozen=True,
        epochs=recipe.head_epochs,
        batch=recipe.head_batch,
        min_steps=recipe.min_steps // 2,
        small_first=0.0,
        wild_views=0.0,
    )
    # What the trunk's stage was saved to, and how long it may take, are not the heads' business.
    rest = {**options, "states": None, "budget_s": None}
    heads = _heads(catalogue, network, tokens, learner, report, None, rest)
    heads.history[:0] = loop.history
    heads.epochs.told[:0] = loop.epochs.told
    return heads


def _trunk_alone(network: VisualEncoder, tokens: Tokenizer | None, recipe: Recipe) -> VisualEncoder:
    """A network of the same trunk without descriptors, which would spare it the learning."""
    early = dataclasses.replace(
        recipe, gradients=False, colours=False, head_hidden=0, head_epochs=0, name=recipe.name
    )
    place = next(network.parameters()).device
    alone = VisualEncoder(
        early, vocabulary_size=tokens.vocabulary_size if tokens else 0, weights=None
    ).to(place)
    alone.image.trunk.load_state_dict(network.image.trunk.state_dict())
    return alone.to(memory_format=torch.channels_last)


def _heads(
    catalogue: Catalogue,
    network: VisualEncoder,
    tokens: Tokenizer | None,
    recipe: Recipe,
    report: ProgressCallback,
    features: Path | None,
    options: dict[str, Any],
) -> Loop:
    own = network.recipe
    network.recipe = recipe
    validation: Catalogue | None = options.get("validation")
    shown = [*catalogue.items, *(validation.items if validation is not None else ())]
    used = np.unique([row for item in shown for row in item.images])
    try:
        with tempfile.TemporaryDirectory(prefix="features-") as temporary:
            folder = features if features is not None else Path(temporary)
            views = list(_views(catalogue, network, used, folder, report, options["place"]))
            return fit_heads(network, views, catalogue, tokens, report=report, **options)
    finally:
        network.recipe = own


class _Chosen:
    """Some rows of an array that may be larger than memory, read as they are asked for."""

    def __init__(self, array: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> None:
        self.array, self.rows = array, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Any) -> npt.NDArray[np.uint8]:
        picked: npt.NDArray[np.uint8] = self.array[self.rows[chosen]]
        return picked


def _views(
    catalogue: Catalogue,
    network: VisualEncoder,
    used: npt.NDArray[np.int64],
    folder: Path,
    report: ProgressCallback,
    place: torch.device,
) -> Iterator[Rows]:
    """For each view of the photos the features of all rows of the catalogue's pixels, [N, F]."""
    recipe = network.recipe
    pixels = _Chosen(catalogue.pixels, used)
    hashes = pixel_hashes(pixels)  # type: ignore[arg-type]
    wanted = [(view, False) for view in range(1 + recipe.variations)]
    wanted += [(view, True) for view in range(1, 1 + recipe.wild_variations)]
    for number, (view, is_wild) in enumerate(wanted):

        def progress(done: int, total: int, number: int = number) -> None:
            every = len(wanted) * total
            report(
                Progress(
                    stage="features", epoch=0, epochs=0, done=number * total + done, total=every
                )
            )

        reader = Features(network.image, view=view, is_wild=is_wild)
        key = features_key(
            network.image,
            trunk=recipe.trunk,
            image_size=recipe.image_size,
            view=view,
            is_wild=is_wild,
        )
        rows = cached_features(
            reader,
            key,
            pixels,  # type: ignore[arg-type]
            hashes,
            folder,
            device=place,
            progress=progress,
        )
        whole = np.zeros((len(catalogue.pixels), rows.shape[1]), np.float16)
        whole[used] = rows
        yield whole
