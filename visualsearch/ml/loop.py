"""The training loop: batches, steps, the learning rate and what it tells while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from visualsearch.exceptions import TrainingError
from visualsearch.ml.augment import augment
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Catalogue
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.objective import Objective
from visualsearch.ml.pairs import Batch, batches
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.schedule import Schedule, make_optimizer
from visualsearch.ml.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands; handed to the callback, which may raise TrainingCancelledError."""

    stage: str
    # prepare, train, evaluate, export
    epoch: int
    epochs: int
    done: int
    total: int
    # steps of the stage
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    eta_s: float | None = None


ProgressCallback = Callable[[Progress], None]


class Loop:
    """Steps over the batches of a catalogue until the schedule ends; `history` keeps the losses."""

    def __init__(
        self,
        catalogue: Catalogue,
        network: VisualEncoder,
        tokens: Tokenizer,
        *,
        place: torch.device,
        seed: int,
        budget_s: float | None,
    ) -> None:
        recipe = network.recipe
        count = len(catalogue.items)
        # Small catalogues take smaller batches, hence more steps for the same arithmetic.
        size = min(recipe.batch, max(32, count // 4), count)
        self.recipe = recipe
        self.pixels = catalogue.pixels
        self.network = network
        self.place = place
        self.steps_an_epoch = -(-count // size)
        self.steps = max(recipe.epochs * self.steps_an_epoch, recipe.min_steps)
        self.epochs = -(-self.steps // self.steps_an_epoch)
        coded = CodedCatalogue(catalogue)
        self.objective = Objective(network, tokens, coded).to(place)
        self.optimizer = make_optimizer(self.objective, recipe)
        self.schedule = Schedule(
            self.optimizer, steps=self.steps, warmup=recipe.warmup, budget_s=budget_s
        )
        self.average = average_of(network, recipe)
        self.generator = torch.Generator(device=place).manual_seed(seed)
        self.stream = batches(
            coded,
            size=size,
            second_views=recipe.second_views,
            kind_pairs=recipe.kind_pairs,
            rng=np.random.default_rng(seed),
        )
        self.history: list[dict[str, float]] = []

    def run(self, report: ProgressCallback) -> VisualEncoder:
        self.network.train()
        # Often enough to look alive, seldom enough to cost nothing.
        every = max(1, self.steps // 100)
        while not self.schedule.finished:
            losses = self._step(next(self.stream))
            self.history.append(losses)
            done = self.schedule.done
            if done % every == 0 or self.schedule.finished:
                report(self._progress(done, losses))
        if self.average is not None:
            self.network.load_state_dict(self.average.module.state_dict())
        return self.network.eval()

    def _step(self, batch: Batch) -> dict[str, float]:
        encoder = self.network.image
        pixels = torch.from_numpy(np.array(self.pixels[batch.images])).to(self.place)
        with torch.no_grad():
            white = (1 - encoder.mean) / encoder.std
            images = augment(encoder.normalise(pixels), white=white, generator=self.generator)
            images = self._resize(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.place.type, torch.bfloat16, enabled=has_bfloat16(self.place)):
            vectors = encoder.embed(images)
        loss = self.objective(vectors, batch)
        if not math.isfinite(float(loss.total.detach())):
            raise TrainingError(
                f"The loss became {float(loss.total.detach())} at step {self.schedule.done + 1}. "
                "Lower the learning rate: --set lr=..."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        parts = {name: float(value) for name, value in loss.parts.items()}
        return {"loss": float(loss.total.detach()), **parts}

    def _resize(self, images: torch.Tensor) -> torch.Tensor:
        """Two thirds of the size for the first steps: more than twice as fast (Howard, 2018)."""
        if self.schedule.share >= self.recipe.small_first:
            return images
        size = images.shape[2] * 2 // 3
        return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)

    def _progress(self, done: int, losses: dict[str, float]) -> Progress:
        recent = [entry["loss"] for entry in self.history[-20:]]
        return Progress(
            stage="train",
            epoch=min(self.epochs, 1 + done // self.steps_an_epoch),
            epochs=self.epochs,
            done=done,
            total=self.steps,
            loss=sum(recent) / len(recent),
            metrics=losses,
            eta_s=self.schedule.remaining_s(),
        )


def has_bfloat16(place: torch.device) -> bool:
    """Whether bf16 pays: on processors without instructions for it, it is emulated and far slower."""
    if place.type != "cpu":
        return True
    # Absent from old releases of torch, which then train in float32.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def average_of(
    network: VisualEncoder, recipe: Recipe
) -> torch.optim.swa_utils.AveragedModel | None:
    """The exponential moving average of weights and of the norms' statistics."""
    if not recipe.average:
        return None
    decay = recipe.average

    def update(
        averaged: torch.Tensor, current: torch.Tensor, count: torch.Tensor | int
    ) -> torch.Tensor:
        # Early on the average would remember the random start: the decay grows to its value.
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        return averaged * share + current * (1 - share) if averaged.is_floating_point() else current

    return torch.optim.swa_utils.AveragedModel(network, avg_fn=update, use_buffers=True)
