"""Reads a sentence's subword tokens into one vector of the image space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from visualsearch.ml.recipes import Recipe
from visualsearch.ml.tokenizer import PADDING


class TextEncoder(nn.Module):
    """Embedding, a recurrent layer (GRU, LSTM, GRU in both directions), pooling, a projection.

    Pooled over the tokens as the recipe says: the state at the last token, as TIRG's; beside it the
    mean of the embeddings; or the largest of the states. Never over the padding, so that a text's
    vector does not depend on the padded length.
    """

    def __init__(self, recipe: Recipe, *, vocabulary_size: int) -> None:
        super().__init__()
        self.pool = recipe.text_pool
        self.tokens = nn.Embedding(vocabulary_size, recipe.token_width, padding_idx=PADDING)
        self.vocabulary_size = vocabulary_size
        nn.init.normal_(self.tokens.weight, std=0.1)
        layer = nn.LSTM if recipe.text == "lstm" else nn.GRU
        self.recurrent = layer(recipe.token_width, recipe.text_hidden, batch_first=True)
        features = recipe.text_hidden
        self.backward_recurrent: nn.GRU | None = None
        if recipe.text == "bigru":
            # A layer of its own rather than bidirectional=True, which would start in the padding.
            self.backward_recurrent = nn.GRU(
                recipe.token_width, recipe.text_hidden, batch_first=True
            )
            features *= 2
        if self.pool == "last+mean":
            # The mean of the tokens beside the last state: short queries are bags of words.
            features += recipe.token_width
        self.project = nn.Linear(features, recipe.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [B, L], padded with 0 -> unit float [B, width]."""
        embedded = self.tokens(tokens)  # [B, L, token_width]
        present = (tokens != PADDING).unsqueeze(2)  # [B, L, 1]
        lengths = present.sum(dim=1)  # [B, 1]
        directions = [self.recurrent(embedded)[0]]  # [B, L, hidden]
        if self.backward_recurrent is not None:
            # The last token first; what is beyond the first is cut off by `present` all the same.
            places = torch.arange(tokens.shape[1], device=tokens.device)[None, :]
            turned = (lengths - 1 - places).clamp(min=0).unsqueeze(2)  # [B, L, 1]
            reading = embedded.gather(1, turned.expand(-1, -1, embedded.shape[2]))
            directions.append(self.backward_recurrent(reading)[0])
        pooled = [self._pool(states, lengths) for states in directions]
        if self.pool == "last+mean":
            weights = present.to(embedded.dtype)
            pooled.append((embedded * weights).sum(dim=1) / lengths.clamp(min=1))
        return functional.normalize(self.project(torch.cat(pooled, dim=1)).float(), dim=1)

    def _pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """States [B, L, hidden] in reading order -> [B, hidden]."""
        if self.pool == "max":
            # Of a text without tokens, what the layer makes of one padding.
            places = torch.arange(states.shape[1], device=states.device)[None, :, None]
            seen = places < lengths.clamp(min=1).unsqueeze(2)  # [B, L, 1]
            hidden = states.masked_fill(~seen, float("-inf"))
            return hidden.amax(dim=1)
        last = (lengths - 1).clamp(min=0).unsqueeze(2).expand(-1, 1, states.shape[2])
        return states.gather(1, last).squeeze(1)
