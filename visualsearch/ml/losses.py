"""The objectives: contrastive with false negatives masked, and the two losses of TIRG."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# exp of it is the largest scale that CLIP allows (Radford et al., 2021).
MAX_LOG_SCALE = 4.6052


def contrastive(
    queries: Tensor,
    targets: Tensor,
    *,
    log_scale: Tensor,
    positives: Tensor,
    ignored: Tensor,
    symmetric: bool = True,
) -> Tensor:
    """InfoNCE of unit vectors, over rows and, if `symmetric`, over columns as well.

    queries [Q, d], targets [T, d]; positives int64 [Q]: the target of each query;
    ignored bool [Q, T]: pairs that are right as well and therefore no negatives.
    """
    logits = queries @ targets.T * log_scale.clamp(max=MAX_LOG_SCALE).exp()
    rows = torch.arange(len(queries), device=queries.device)
    hidden = ignored.clone()
    hidden[rows, positives] = False
    logits = logits.masked_fill(hidden, float("-inf"))
    loss = functional.cross_entropy(logits, positives)
    if not symmetric:
        return loss
    # Each target that some query asks for must find that query among all of them.
    columns = logits.T[positives]  # [Q, Q']: the row of query i holds what its target scores
    same_target = positives[:, None] == positives[None, :]
    same_target[rows, rows] = False
    columns = columns.masked_fill(same_target, float("-inf"))
    return (loss + functional.cross_entropy(columns, rows)) / 2


def neighbourhood(vectors: Tensor, agreement: Tensor, *, log_scale: Tensor) -> Tensor:
    """Cross-entropy between each image's neighbours as they are and as the labels want them.

    vectors: unit [B, d]; agreement [B, B]: how much two products have in common, as logits of the
    wanted distribution over the others (supervised contrast, Khosla et al., 2020, with degrees
    instead of one class).
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    logits = vectors @ vectors.T * log_scale.clamp(max=MAX_LOG_SCALE).exp()
    wanted = agreement.masked_fill(itself, float("-inf")).softmax(dim=1)
    found = logits.masked_fill(itself, -1e4).log_softmax(dim=1)
    # The entropy of what is wanted is subtracted: a perfect neighbourhood has loss 0.
    entropy = torch.special.entr(wanted).sum(dim=1).mean()
    return -(wanted * found).sum(dim=1).mean() - entropy


def batch_classification(queries: Tensor, targets: Tensor, *, scale: Tensor) -> Tensor:
    """TIRG's softmax over the batch: query i must find target i; both are scaled by s.

    queries, targets: unit [B, d]. Every other target of the batch is a negative.
    """
    logits = (scale * queries) @ (scale * targets).T
    return functional.cross_entropy(logits, torch.arange(len(queries), device=queries.device))


def soft_triplet(queries: Tensor, targets: Tensor, *, scale: Tensor, negatives: Tensor) -> Tensor:
    """TIRG's soft triplet: mean log(1 + exp(‖a − p‖² − ‖a − n‖²)) on vectors scaled by s.

    queries, targets: unit [B, d]; negatives int64 [B, k]: rows of `targets`, k ≤ 3 per anchor.
    """
    anchors, others = scale * queries, scale * targets
    positive = (anchors - others).square().sum(dim=1, keepdim=True)  # [B, 1]
    negative = (anchors[:, None] - others[negatives]).square().sum(dim=2)  # [B, k]
    return functional.softplus(positive - negative).mean()


def attribute_classification(logits: list[Tensor], codes: Tensor) -> Tensor:
    """Mean cross-entropy over attributes; codes int64 [B, A], −1 where a value is missing."""
    losses = [
        functional.cross_entropy(scores, codes[:, column], ignore_index=-1)
        for column, scores in enumerate(logits)
        if bool((codes[:, column] >= 0).any())
    ]
    return torch.stack(losses).mean() if losses else codes.new_zeros((), dtype=torch.float32)
