"""Measures a network after each epoch on products set aside from training: is it still learning."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import torch

from visualsearch.ml import metrics
from visualsearch.ml.coding import MISSING, CodedCatalogue
from visualsearch.ml.data import Catalogue, Split, split
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.precision import has_bfloat16
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

SEED = 1
"""Of the split: independent of the one that holds products out for the final judgement."""
MAX_PRODUCTS = 500
MIN_PRODUCTS = 20
"""Of fewer the figures are chance, and the catalogue needs them to learn from."""
AT_A_TIME = 128
R1, R10, MRR = "validation R@1", "validation R@10", "validation MRR"


def set_aside(catalogue: Catalogue, recipe: Recipe) -> tuple[Catalogue, Catalogue | None]:
    """The products to learn from, and `recipe.validation` of them by group, at most 500.

    None, and all products to learn from, where that would be too few to say anything.
    """
    count = len(catalogue.items)
    share = min(recipe.validation, MAX_PRODUCTS / max(1, count))
    parts: Split | None = None
    if recipe.optimizer != "none" and share * count >= MIN_PRODUCTS:
        parts = split(catalogue, holdout=share, seed=SEED)
    if parts is None or len(parts.holdout.items) < MIN_PRODUCTS:
        if recipe.patience:
            logger.warning(
                "%d products are too few to set some aside: patience=%d has no effect.",
                count,
                recipe.patience,
            )
        return catalogue, None
    return parts.train, parts.holdout


class Validation:
    """A small gallery and its queries: titles to photos, or photos to photos of the same design."""

    def __init__(self, catalogue: Catalogue) -> None:
        coded = CodedCatalogue(catalogue)
        self.pixels = np.asarray(catalogue.pixels[[item.images[0] for item in catalogue.items]])
        self.titles = [item.texts[0] if item.texts else "" for item in catalogue.items]
        self._titled = coded.codes[:, coded.title_column]
        groups, kinds = coded.codes[:, coded.group_column], coded.codes[:, 0]
        # Products without variants are asked for others of their kind.
        self._kin = groups if (np.bincount(groups[groups != MISSING]) > 1).any() else kinds

    @torch.no_grad()
    def measure(
        self, network: VisualEncoder, tokens: Tokenizer | None, *, place: torch.device
    ) -> dict[str, float]:
        """Recall at 1 and 10, and the mean reciprocal rank; empty if there is nothing to ask."""
        was_training = network.training
        network.eval()
        images = self._encode(network, place=place)
        reads = tokens is not None and network.text is not None
        codes = self._titled if reads else self._kin
        asked = np.flatnonzero(codes != MISSING)
        right = codes[asked][:, None] == codes[None, :]
        if reads:
            assert tokens is not None
            texts = torch.from_numpy(tokens.encode([self.titles[i] for i in asked])).to(place)
            queries = torch.cat([network.encode_text(part) for part in texts.split(AT_A_TIME)])
            scores, excluded = queries.cpu().numpy() @ images.T, None
        else:
            excluded = asked[:, None] == np.arange(len(codes))[None, :]
            answered = (right & ~excluded).any(axis=1)
            asked, right, excluded = asked[answered], right[answered], excluded[answered]
            scores = images[asked] @ images.T
        network.train(was_training)
        if not len(asked):
            return {}
        ranks = metrics.first_ranks(scores, right, excluded)
        return {
            R1: float(metrics.hits_at(ranks, 1).mean()),
            R10: float(metrics.hits_at(ranks, 10).mean()),
            MRR: float(metrics.reciprocal(ranks).mean()),
        }

    def _encode(self, network: VisualEncoder, *, place: torch.device) -> npt.NDArray[np.float32]:
        found = []
        with torch.autocast(place.type, torch.bfloat16, enabled=has_bfloat16(place)):
            for part in torch.from_numpy(self.pixels).split(AT_A_TIME):
                found.append(network.encode_image(part.to(place)).float().cpu().numpy())
        return np.concatenate(found)
