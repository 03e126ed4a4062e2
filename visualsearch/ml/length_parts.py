"""Texts through an encoder in parts of similar length, so that short ones are not padded to long ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visualsearch.ml.tokenizer import PADDING

LENGTHS = (6, 12, 20)
"""Tokens; each part is padded to its longest text."""
SMALLEST = 32
"""Texts; smaller parts are joined with the next: a pass costs something by itself."""


def encode_in_parts(
    encode: Callable[[Tensor], Tensor], tokens: npt.NDArray[np.int64], *, device: torch.device
) -> Tensor:
    """int64 [T, L], padded at the end -> [T, width], as `encode` gives all of them in one go.

    A text's vector must not depend on its padding. On GPUs it is one part: they would wait for each.
    """
    lengths = _lengths(tokens)
    order = np.argsort(lengths, kind="stable")
    bounds = [0]
    if device.type == "cpu":
        ends = np.searchsorted(lengths[order], LENGTHS, side="right").tolist()
        for end in ends:
            if end - bounds[-1] >= SMALLEST and len(tokens) - end >= SMALLEST:
                bounds.append(end)
    bounds.append(len(tokens))
    parts = []
    for start, end in itertools.pairwise(bounds):
        rows = order[start:end]
        longest = max(1, int(lengths[rows].max(initial=1)))
        part = np.ascontiguousarray(tokens[rows, :longest])
        parts.append(encode(torch.from_numpy(part).to(device)))
    back = torch.from_numpy(np.argsort(order, kind="stable")).to(device)
    return torch.cat(parts)[back]


def _lengths(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 [T]: tokens of each text without its padding."""
    present = tokens != PADDING
    lengths: npt.NDArray[np.int64] = (present * np.arange(1, tokens.shape[1] + 1)).max(
        axis=1, initial=0
    )
    return lengths
