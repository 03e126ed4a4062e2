"""Mines a batch's triplets: which ones the triplet loss learns from, and how hard they all are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visualsearch.exceptions import TrainingError

EASY, SEMIHARD, HARD = "easy", "semihard", "hard"


class Census:
    """Counts the triplets of one step by hardness, and draws for it.

    easy      d(a, n) > d(a, p) + margin      the loss is 0
    semihard  d(a, p) < d(a, n) ≤ d(a, p) + margin
    hard      d(a, n) ≤ d(a, p)               the negative lies closer than the positive

    `seed` belongs to the batch and not to the run, so that a resumed run draws the same.
    """

    def __init__(self, *, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.counts = {EASY: 0, SEMIHARD: 0, HARD: 0}

    def count(
        self, distances: Tensor, *, positives: Tensor, candidates: Tensor, margin: float
    ) -> None:
        """Adds the triplets (anchor i, its positive, every candidate of row i).

        distances [A, R] from anchors to references; positives int64 [A]; candidates bool [A, R].
        """
        slack = distances - distances.gather(1, positives[:, None])
        hard = int((candidates & (slack <= 0)).sum())
        violating = int((candidates & (slack <= margin)).sum())
        self.counts[HARD] += hard
        self.counts[SEMIHARD] += violating - hard
        self.counts[EASY] += int(candidates.sum()) - violating

    def shares(self) -> dict[str, float]:
        """Easy, semihard and hard as shares of all; empty if there was no triplet."""
        total = sum(self.counts.values())
        return {name: count / total for name, count in self.counts.items()} if total else {}


class TripletLoss:
    """Mean of max(d(a, p) + margin − d(a, n), 0) over mined triplets, d euclidean on unit vectors.

    Loss, distance and the miner of ``semihard``, ``hard`` and ``all`` (those that violate the
    margin) are pytorch-metric-learning's. Two choices are made here:

    - ``easy`` is the farthest negative of each anchor. The library's easy triplets keep the margin
      already, so their loss is 0 and nothing would be learned from them.
    - ``random`` is one negative an anchor. The library samples positives as well and takes its
      negatives from labels alone.

    The library knows what is right by one label a row. A text is right for any number of products,
    so its triplets with a false negative are dropped afterwards.
    """

    def __init__(self, *, margin: float, mining: str) -> None:
        library = _library()
        self.margin = margin
        self.mining = mining
        # The vectors come normalised; the library would do it once more.
        self.distance = library.distances.LpDistance(p=2, normalize_embeddings=False)
        self.loss = library.losses.TripletMarginLoss(
            margin=margin, distance=self.distance, reducer=library.reducers.MeanReducer()
        )
        self.miner = None
        if mining in ("semihard", "hard", "all"):
            self.miner = library.miners.TripletMarginMiner(
                margin=margin, type_of_triplets=mining, distance=self.distance
            )

    def __call__(
        self,
        anchors: Tensor,
        references: Tensor,
        *,
        positives: Tensor,
        ignored: Tensor,
        census: Census,
        negatives: Tensor | None = None,
    ) -> Tensor:
        """Loss of anchors [A, d], unit, whose positives and negatives are rows of references [R, d].

        positives int64 [A]; ignored bool [A, R]: right as well, hence no negatives; negatives
        int64 [A]: chosen already, instead of being mined. All valid triplets go to `census`.
        """
        rows = torch.arange(len(anchors), device=anchors.device)
        candidates = ~ignored
        candidates[rows, positives] = False
        with torch.no_grad():
            distances = self.distance(anchors.detach(), references.detach())
            census.count(distances, positives=positives, candidates=candidates, margin=self.margin)
            if negatives is not None:
                triplets = rows, positives, negatives
            elif self.miner is not None:
                found = self.miner(
                    anchors.detach(),
                    positives,
                    ref_emb=references.detach(),
                    ref_labels=torch.arange(len(references), device=anchors.device),
                )
                kept = candidates[found[0], found[2]]
                triplets = found[0][kept], found[1][kept], found[2][kept]
            else:
                triplets = self._one_each(distances, candidates, positives, census)
        loss: Tensor = self.loss(anchors, None, triplets, references, None)
        return loss

    def _one_each(
        self, distances: Tensor, candidates: Tensor, positives: Tensor, census: Census
    ) -> tuple[Tensor, Tensor, Tensor]:
        rank = distances
        if self.mining == "random":
            drawn = torch.rand(distances.shape, generator=census.generator)
            rank = drawn.to(distances.device)
        rows = candidates.any(dim=1).nonzero().squeeze(1)
        chosen = rank.masked_fill(~candidates, -1.0)[rows].argmax(dim=1)
        return rows, positives[rows], chosen


def _library() -> Any:
    try:
        import pytorch_metric_learning
        from pytorch_metric_learning import distances, losses, miners, reducers  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            f"The triplet loss needs pytorch-metric-learning ({error}): "
            'pip install "django-visualsearch[metric-learning]".'
        ) from error
    return pytorch_metric_learning
