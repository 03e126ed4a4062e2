"""Trains what follows a frozen trunk, on cached features: seconds to minutes without a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visualsearch.ml.data import Catalogue
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.frozen import Heads
from visualsearch.ml.loop import Loop, ProgressCallback
from visualsearch.ml.pairs import Batch
from visualsearch.ml.stream import step_seed
from visualsearch.ml.tokenizer import Tokenizer

Rows = npt.NDArray[np.floating[Any]]
AT_A_TIME = 4_096
"""Rows looked at to standardise; more change nothing."""


def fit_heads(
    network: VisualEncoder,
    features: Rows | Sequence[Rows],
    catalogue: Catalogue,
    tokens: Tokenizer | None,
    *,
    place: torch.device,
    seed: int,
    report: ProgressCallback = lambda _: None,
    **options: Any,
) -> HeadLoop:
    """Trains `network`'s projections, text encoder and composer by its recipe; its trunk is left out.

    features: [N, F], a row for each row of the catalogue's pixels, as `frozen.Features` gives; or
    several such arrays, the first of the photos themselves, the others of other views of them, the
    recipe's `wild_variations` last. A step takes one of those at random where it shows a product a
    second time, and a phone-like one for its share of `wild_photos`. `catalogue` names the products
    to learn from.
    `options` are those of Loop. Afterwards the network is in eval mode, and gives the vectors of
    photos from pixels as before. The loop's `history` has the losses.
    """
    views = [features] if isinstance(features, np.ndarray) else list(features)
    with standing_in(network) as heads:
        rows = np.unique([row for item in catalogue.items for row in item.images])
        some = np.random.default_rng(seed).permutation(rows)[:AT_A_TIME]
        heads.fit(torch.from_numpy(np.asarray(views[0][np.sort(some)], dtype=np.float32)).to(place))
        loop = HeadLoop(catalogue, network, tokens, views, place=place, seed=seed, **options)
        loop.run(report)
    network.eval()
    return loop


@contextlib.contextmanager
def standing_in(network: VisualEncoder) -> Iterator[Heads]:
    """Puts the heads in the image encoder's place, so that nothing of the trunk is touched."""
    image = network.image
    heads = Heads(image)
    network.image = heads  # type: ignore[assignment]
    try:
        yield heads
    finally:
        network.image = image


class HeadLoop(Loop):
    """The training loop on rows of features instead of photos."""

    def __init__(
        self,
        catalogue: Catalogue,
        network: VisualEncoder,
        tokens: Tokenizer | None,
        views: Sequence[Rows],
        *,
        validation: Catalogue | None = None,
        stop: Callable[[], BaseException | None] = lambda: None,
        **options: Any,
    ) -> None:
        self.views = views
        rows: Any = views[0]
        if validation is not None:
            # Looked up like pixels, and read by the heads like pixels by the whole encoder.
            validation = Catalogue(validation.items, rows)
        super().__init__(
            Catalogue(catalogue.items, rows, catalogue.triplets, catalogue.apart),
            network,
            tokens,
            validation=validation,
            stop=stop,
            **options,
        )

    def prepare(self, step: int, batch: Batch) -> Tensor:
        """This process's rows of a batch, float [b, F]."""
        images = batch.images[self.world.part(len(batch.images))]
        drawn = np.random.default_rng(step_seed(self.seed, step, rank=1 + self.world.rank))
        view = np.zeros(len(images), dtype=np.int64)
        if len(self.views) > 1:
            # The photos themselves say what is near what; other views only that they are the same,
            # unless the recipe has phone-like ones say it, too.
            mine = self.world.part(len(batch.images))
            again = np.arange(len(batch.images))[mine] >= len(batch.images) - len(batch.repeats)
            view[again] = drawn.integers(1, len(self.views), size=int(again.sum()))
            phone = batch.wild[mine] & ~again
            first = len(self.views) - self.recipe.wild_variations
            if phone.any() and first < len(self.views):
                view[phone] = drawn.integers(first, len(self.views), size=int(phone.sum()))
        rows = np.empty((len(images), self.views[0].shape[1]), np.float32)
        for number, features in enumerate(self.views):
            rows[view == number] = features[images[view == number]]
        return torch.from_numpy(rows).to(self.place)
