"""One step's loss: image-text, image-image, composed pairs and attributes, jointly."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from visualsearch.ml import losses
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.composition import TIRG
from visualsearch.ml.distributed import World
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.length_parts import encode_in_parts
from visualsearch.ml.mining import Census, TripletLoss
from visualsearch.ml.pairs import Batch
from visualsearch.ml.tokenizer import Tokenizer

KIND, GROUP, ATTRIBUTES = 3.0, 4.5, 6.0
"""What agreeing in kind, in group and in all attributes adds to two images' affinity."""

MOST_VALUES = 300
"""Of a property; the names of all of them are read in every step."""


@dataclass(frozen=True)
class StepLoss:
    """The sum to descend, and its parts as numbers for the log."""

    total: Tensor
    parts: dict[str, Tensor]
    shares: dict[str, float] = field(default_factory=dict)
    # easy, semihard and hard among all valid triplets of the batch; empty without triplet loss
    vectors: Tensor | None = None
    # [B, width] the images' vectors, without gradients


class Objective(nn.Module):
    """The recipe's loss; its own parameters (scale, attribute classifiers) end with training."""

    codes: Tensor
    everything: Tensor

    def __init__(
        self, network: VisualEncoder, tokenizer: Tokenizer | None, coded: CodedCatalogue
    ) -> None:
        """`tokenizer` is None for a network that reads no text."""
        super().__init__()
        recipe = network.recipe
        self.network = network
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.world = World()
        # the processes that share a batch; each encodes its part of the texts
        self.triplet_loss: TripletLoss | None = None
        if recipe.loss == "triplet":
            self.triplet_loss = TripletLoss(margin=recipe.margin, mining=recipe.mining)
        # Shorter vectors that have to be right as well.
        self.widths = nested_widths(recipe.nested_from, recipe.width)
        # 1 / .07, as CLIP starts.
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        own = ("composed", "views") if recipe.own_scales else ()
        self.own_scales = nn.ParameterDict({name: self.log_scale.detach().clone() for name in own})
        # Kind and attributes, each read off the image vector by its own linear layer.
        codes = coded.codes[:, : coded.title_column]
        self.register_buffer("codes", torch.from_numpy(codes), persistent=False)
        columns = [*range(coded.title_column), coded.group_column]
        everything = torch.from_numpy(coded.codes[:, columns])
        self.register_buffer("everything", everything, persistent=False)
        # Neighbourhoods are wider than a text's single image, so they have a scale of their own.
        self.neighbour_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        sizes = (
            [max(1, int(last) + 1) for last in codes.max(axis=0)] if recipe.attribute_weight else []
        )
        self.classifiers = nn.ModuleList(nn.Linear(recipe.width, size) for size in sizes)
        self.values: dict[int, list[str]] = {}
        # column of the codes -> the names of its values, by their code
        if recipe.value_weight and network.text is not None:
            names = {column: coded.value_names(column) for column in range(coded.title_column)}
            self.values = {k: each for k, each in names.items() if 1 < len(each) <= MOST_VALUES}
            self.value_scale = nn.Parameter(torch.tensor(math.log(16.0)))

    def forward(self, vectors: Tensor, batch: Batch) -> StepLoss:
        """vectors: unit image vectors [B, width] of `batch.images`."""
        recipe, device = self.recipe, vectors.device
        parts: dict[str, Tensor] = {}
        census = Census(seed=zlib.crc32(batch.images.tobytes()))
        if self.network.text is not None:
            parts |= self._reading(vectors, batch, census)
        if len(batch.repeats) and recipe.image_weight:
            parts["image"] = recipe.image_weight * self._views(vectors, batch, census)
        if len(batch.triplets) and recipe.image_weight:
            parts["image"] = recipe.image_weight * self._drawn(vectors, batch, census)
        if recipe.neighbour_weight:
            codes = self.everything[_tensor(batch.products, device)]
            wanted = self._agreement(codes)
            parts["neighbours"] = recipe.neighbour_weight * self._nested(
                lambda own: losses.neighbourhood(own, wanted, log_scale=self.neighbour_scale),
                vectors,
            )
        if len(self.classifiers) and recipe.attribute_weight:
            # Unit vectors alone cannot make confident logits: the fixed scale lets them.
            logits = [classifier(vectors * 16.0) for classifier in self.classifiers]
            codes = self.codes[_tensor(batch.products, device)]
            parts["attributes"] = recipe.attribute_weight * losses.attribute_classification(
                logits, codes
            )
        total = torch.stack(list(parts.values())).sum() if parts else vectors.sum() * 0.0
        detached = {name: part.detach() for name, part in parts.items()}
        return StepLoss(total, detached, census.shares(), vectors.detach())

    def _reading(self, vectors: Tensor, batch: Batch, census: Census) -> dict[str, Tensor]:
        """What is learned from texts and from modifications."""
        recipe, device = self.recipe, vectors.device
        parts: dict[str, Tensor] = {}
        sentences = batch.modifications if recipe.composed_weight else []
        names = [name for each in self.values.values() for name in each]
        read = self._encode_texts([*batch.texts, *sentences, *names], device)
        texts, asked, named = read.split([len(batch.texts), len(sentences), len(names)])
        if names:
            parts["values"] = recipe.value_weight * self._naming(vectors, named, batch)
        if len(batch.texts) and recipe.text_weight:
            parts["text"] = recipe.text_weight * self._matching(
                texts,
                vectors,
                _tensor(batch.text_rows, device),
                _tensor(batch.text_right, device),
                census,
                self.log_scale,
            )
        if len(sentences) > 1:
            queries = self.network.compose(vectors[_tensor(batch.references, device)], asked)
            parts["composed"] = recipe.composed_weight * self._matching(
                queries,
                vectors,
                _tensor(batch.targets, device),
                _tensor(batch.target_right, device),
                census,
                self._scale("composed"),
            )
        return parts

    def _scale(self, name: str) -> Tensor:
        own: Tensor = self.own_scales.get(name, self.log_scale)
        return own

    def _naming(self, vectors: Tensor, named: Tensor, batch: Batch) -> Tensor:
        """Each image must be nearest to the name of its own value among all values of a property.

        named: text vectors of the names, column after column. A batch's texts ask for a rare value
        seldom; here each value is a wrong answer in every step.
        """
        scale = self.value_scale.clamp(max=losses.MAX_LOG_SCALE).exp()
        parts = named.split([len(each) for each in self.values.values()])
        codes = self.codes[_tensor(batch.products, vectors.device)][:, list(self.values)]
        return losses.attribute_classification([scale * vectors @ part.T for part in parts], codes)

    def _encode_texts(self, texts: list[str], device: torch.device) -> Tensor:
        if not texts:
            return torch.zeros(0, self.recipe.width, device=device)
        assert self.tokenizer is not None
        tokens = self.tokenizer.encode(texts)
        if len(texts) < self.world.size:
            return encode_in_parts(self.network.encode_text, tokens, device=device)
        mine = tokens[self.world.part(len(texts))]
        vectors = encode_in_parts(self.network.encode_text, mine, device=device)
        return self.world.gather(vectors, len(texts))

    def _matching(
        self,
        queries: Tensor,
        vectors: Tensor,
        positives: Tensor,
        right: Tensor,
        census: Census,
        log_scale: Tensor,
    ) -> Tensor:
        """Query i must find image `positives[i]` among the batch's; `right` ones do not count."""
        if self.recipe.loss == "contrastive":
            return self._contrastive(queries, vectors, positives, right, log_scale)
        if self.triplet_loss is not None:
            forth = self.triplet_loss(
                queries, vectors, positives=positives, ignored=right, census=census
            )
            # And each image must find its query among those of the other images.
            rows = torch.arange(len(queries), device=queries.device)
            back = self.triplet_loss(
                vectors[positives],
                queries,
                positives=rows,
                ignored=right.T[positives],
                census=census,
            )
            return (forth + back) / 2
        assert isinstance(self.network.composer, TIRG)
        scale = self.network.composer.scale
        targets = vectors[positives]
        if self.recipe.loss == "batch_classification":
            return losses.batch_classification(queries, targets, scale=scale)
        # Up to three other targets an anchor, the next ones of the batch, whose order is random.
        rows = torch.arange(len(queries), device=queries.device)[:, None]
        steps = torch.arange(1, min(4, max(2, len(queries))), device=queries.device)[None, :]
        return losses.soft_triplet(
            queries, targets, scale=scale, negatives=(rows + steps) % len(queries)
        )

    def _agreement(self, codes: Tensor) -> Tensor:
        """What two products share, [B, B], from 0 to 13.5; codes [B, C]: kind, attributes, group."""
        same = (codes[:, None] == codes[None]) & (codes[:, None] >= 0)
        score = KIND * same[:, :, 0].float() + GROUP * same[:, :, -1].float()
        if codes.shape[1] > 2:
            attributes = same[:, :, 1:-1].float()
            # The first attribute, the colour where there is one, weighs as much as all together.
            score = score + ATTRIBUTES * (attributes[:, :, 0] + attributes.mean(dim=2)) / 2
        return score

    def _drawn(self, vectors: Tensor, batch: Batch, census: Census) -> Tensor:
        """Each query must be nearer to its positive than to the negative that was drawn for it."""
        assert self.triplet_loss is not None
        queries, positives, negatives = _tensor(batch.triplets, vectors.device).T
        products = _tensor(batch.products, vectors.device)
        groups = self.everything[products][:, -1]
        same = products[queries][:, None] == products[None, :]
        same |= (groups[queries][:, None] == groups[None, :]) & (groups[None, :] >= 0)
        return self.triplet_loss(
            vectors[queries],
            vectors,
            positives=positives,
            ignored=same,
            census=census,
            negatives=negatives,
        )

    def _views(self, vectors: Tensor, batch: Batch, census: Census) -> Tensor:
        """The second view of a product must find its first among the batch's first views."""
        first = len(batch.products) - len(batch.repeats)
        positives = _tensor(batch.repeats, vectors.device)
        products = _tensor(batch.products, vectors.device)
        same = products[first:, None] == products[None, :first]
        if self.triplet_loss is not None:
            return self.triplet_loss(
                vectors[first:], vectors[:first], positives=positives, ignored=same, census=census
            )
        return self._contrastive(
            vectors[first:], vectors[:first], positives, same, self._scale("views")
        )

    def _contrastive(
        self, queries: Tensor, targets: Tensor, positives: Tensor, right: Tensor, log_scale: Tensor
    ) -> Tensor:
        """InfoNCE, at every width that is to be usable."""
        return self._nested(
            lambda ours, theirs: losses.contrastive(
                ours, theirs, log_scale=log_scale, positives=positives, ignored=right
            ),
            queries,
            targets,
        )

    def _nested(self, loss: Callable[..., Tensor], *vectors: Tensor) -> Tensor:
        """The mean of `loss` over whole vectors and their beginnings, brought to length 1."""
        found = [loss(*vectors)]
        for width in self.widths:
            found.append(loss(*(functional.normalize(each[:, :width], dim=1) for each in vectors)))
        return torch.stack(found).mean()


def nested_widths(smallest: int, width: int) -> list[int]:
    """`smallest`, twice, four times … as much, below `width`; none for 0."""
    found = []
    while 0 < smallest < width:
        found.append(smallest)
        smallest *= 2
    return found


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)
