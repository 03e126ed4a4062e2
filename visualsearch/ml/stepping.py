"""One step: vectors, loss, gradients, weights; in smaller parts where the memory does not suffice."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from visualsearch.exceptions import TrainingError
from visualsearch.ml.distributed import World
from visualsearch.ml.objective import Objective, StepLoss
from visualsearch.ml.pairs import Batch
from visualsearch.ml.precision import has_bfloat16

logger = logging.getLogger(__name__)

MIN_BFLOAT16_SIDE = 32
"""Smaller images stay in float32: trunks shrink those of 16 pixels to one before their last stride,
and of such a convolution in bf16 oneDNN leaves parts of the weights' gradient uninitialised."""
MIN_PART = 8
"""Images that have to fit into memory at once; batch norm says little about fewer."""


class Step(nn.Module):
    """Images and their batch to the loss: what a process computes between two exchanges."""

    def __init__(self, objective: Objective, *, place: torch.device, world: World) -> None:
        super().__init__()
        self.objective = objective
        self.place = place
        self.world = world

    def forward(self, images: Tensor, batch: Batch) -> StepLoss:
        """images: normalised, this process's part of the batch's, float [b, 3, S, S]."""
        vectors = self.world.gather(self.embed(images), len(batch.products))
        loss: StepLoss = self.objective(vectors, batch)
        return loss

    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors float [b, width]; `images` may be rows of features as well."""
        is_safe = images.ndim != 4 or min(images.shape[2:]) >= MIN_BFLOAT16_SIDE
        bfloat16 = is_safe and has_bfloat16(self.place)
        with torch.autocast(self.place.type, torch.bfloat16, enabled=bfloat16):
            return self.objective.network.image.embed(images)


class Stepper:
    """Takes steps with an optimiser; `parts` is in how many parts a batch goes through the trunk."""

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        clip: float,
        place: torch.device,
        world: World,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.clip = clip
        self.world = world
        self.parts = 1
        self.step = Step(objective, place=place, world=world)
        self.forward: nn.Module = self.step
        if world.size > 1:
            # A step may leave parameters out: those of texts in a batch without any. Norms keep
            # the statistics of their own part of the batch; the first process's are kept.
            self.forward = DistributedDataParallel(
                self.step, find_unused_parameters=True, broadcast_buffers=False
            )

    def __call__(self, images: Tensor, batch: Batch, *, number: int) -> StepLoss:
        """Descend once, as step `number`; the loss before it, or TrainingError if it is infinite."""
        while True:
            # set_to_none: what has no gradient in this step is not moved by momentum either.
            self.optimizer.zero_grad(set_to_none=True)
            try:
                loss = self._backward(images, batch)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = next(iter(str(error).splitlines()), type(error).__name__)
            # Not inside the except block: the error's traceback keeps the step's tensors alive.
            self._take_smaller_parts(len(images), reason)
        _check(loss, number)
        nn.utils.clip_grad_norm_(self.objective.parameters(), self.clip)
        self.optimizer.step()
        return loss

    def _backward(self, images: Tensor, batch: Batch) -> StepLoss:
        if self.parts == 1:
            loss: StepLoss = self.forward(images, batch)
            loss.total.backward()
            return loss
        # The loss needs all vectors at once, but the trunk's memory is that of one part: first the
        # vectors without gradients, then the loss's gradient of them, which each part takes up
        # again (gradient caching, Gao et al., 2021). Same loss, same batch, a third more time.
        parts = images.chunk(self.parts)
        with torch.no_grad():
            vectors = torch.cat([self.step.embed(part) for part in parts])
        vectors.requires_grad_()
        loss = self.objective(vectors, batch)
        loss.total.backward()
        assert vectors.grad is not None
        for part, gradient in zip(parts, vectors.grad.chunk(self.parts), strict=True):
            self.step.embed(part).backward(gradient)
        return loss

    def _take_smaller_parts(self, count: int, reason: str) -> None:
        if self.world.size > 1 or count // (2 * self.parts) < MIN_PART:
            raise TrainingError(
                f"The memory does not suffice for a step of {count} images "
                f"({reason}). Take smaller batches: --set batch={max(8, count // 2)}."
            )
        self.parts *= 2
        logger.warning(
            "Out of memory: batches of %d images go through the trunk in %d parts from now on.",
            count,
            self.parts,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, on whatever device, says that memory is what it lacks."""
    said = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in said or "can't allocate memory" in said)
    )


def _check(loss: StepLoss, number: int) -> None:
    total = float(loss.total.detach())
    if not math.isfinite(total):
        raise TrainingError(
            f"The loss became {total} at step {number}. Lower the learning rate: --set lr=..."
        )
