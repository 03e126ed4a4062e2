"""Reads a sentence's subword tokens into one vector of the image space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from visualsearch.ml.recipes import Recipe
from visualsearch.ml.tokenizer import PADDING


class TextEncoder(nn.Module):
    """Embedding, a recurrent layer, its state at the last token, a projection.

    As TIRG's (LSTM), or with a GRU. The state is read at the last token rather than at the end of
    the padding, so a text's vector does not depend on the padded length.
    """

    def __init__(self, recipe: Recipe, *, vocabulary_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary_size, recipe.token_width, padding_idx=PADDING)
        nn.init.normal_(self.tokens.weight, std=0.1)
        layer = nn.LSTM if recipe.text == "lstm" else nn.GRU
        self.recurrent = layer(recipe.token_width, recipe.text_hidden, batch_first=True)
        # The mean of the tokens beside the last state: short queries are bags of words.
        self.project = nn.Linear(recipe.text_hidden + recipe.token_width, recipe.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [B, L], padded with 0 -> unit float [B, width]."""
        embedded = self.tokens(tokens)  # [B, L, token_width]
        states, _ = self.recurrent(embedded)  # [B, L, hidden]
        present = (tokens != PADDING).unsqueeze(2).to(embedded.dtype)  # [B, L, 1]
        lengths = present.sum(dim=1)  # [B, 1]
        last = (lengths - 1).clamp(min=0).long().unsqueeze(2).expand(-1, 1, states.shape[2])
        final = states.gather(1, last).squeeze(1)  # [B, hidden]
        mean = (embedded * present).sum(dim=1) / lengths.clamp(min=1)
        return functional.normalize(self.project(torch.cat([final, mean], dim=1)).float(), dim=1)
