"""Several processes that train one network, as torchrun starts them: who is who, and what they share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from visualsearch.exceptions import TrainingError

WAIT = timedelta(hours=2)
"""How long the others wait for the first process, which evaluates and exports alone."""


@dataclass(frozen=True)
class World:
    """The processes of a run. A run in one process is a world of size 1, where nothing is sent."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process reports, evaluates and writes."""
        return self.rank == 0

    def part(self, count: int, rank: int | None = None) -> slice:
        """The rows of `count` that this process (or that of `rank`) takes; equal but for one."""
        rank = self.rank if rank is None else rank
        return slice(rank * count // self.size, (rank + 1) * count // self.size)

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """The rows of all processes, [count, …], from `rows`, this one's `part(count)` of them.

        Gradients flow back to the rows of every process. Each process computes the same loss of
        all rows, so each has the whole gradient of them: it is the *mean* over processes, times
        their number, as DistributedDataParallel divides by it again.
        """
        if self.size == 1:
            return rows
        if torch.is_grad_enabled() and not rows.requires_grad:
            # Backward sends as well: a process without it would leave the others waiting.
            rows = rows.detach().requires_grad_()
        gathered: Tensor = _Gather.apply(rows, count, self)
        return gathered

    def from_first(self, value: Any) -> Any:
        """The first process's `value`, in every process; anything that pickles."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def copy_from_first(self, tensors: list[Tensor]) -> None:
        """Overwrites `tensors` with those of the first process."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


class _Gather(torch.autograd.Function):
    """Concatenates the parts of all processes; its backward gives each its part of the gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int, world: World) -> Tensor:
        each = -(-count // world.size)
        # Parts of equal size travel; the last one is filled up.
        sent = rows.new_zeros((each, *rows.shape[1:]))
        sent[: len(rows)] = rows
        received = [torch.empty_like(sent) for _ in range(world.size)]
        dist.all_gather(received, sent)
        ctx.part = world.part(count)
        sizes = [len(range(count)[world.part(count, rank)]) for rank in range(world.size)]
        return torch.cat([part[:size] for part, size in zip(received, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.part], None, None


@contextmanager
def processes(place: torch.device) -> Iterator[World]:
    """The world that torchrun's environment describes; a world of one without it.

    NCCL between GPUs, gloo between CPUs. Raises TrainingError if they cannot find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size < 2:
        yield World()
        return
    if place.type == "cuda":  # where NCCL sends objects from
        torch.cuda.set_device(place)
    try:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=WAIT)
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"The {size} processes did not find each other: {error}. Start them with "
            "`torchrun --nproc-per-node N -m visualsearch.ml train …`."
        ) from error
    try:
        yield World(dist.get_rank(), size)
    finally:
        # What still holds on to the group would outlive it in a cycle, until Python is gone: then
        # one run in fourteen ended by an abort of one process, and torchrun ended the others for it.
        gc.collect()
        dist.destroy_process_group()


def local_device(place: torch.device) -> torch.device:
    """The GPU of this process: torchrun numbers the processes of a machine in LOCAL_RANK."""
    index: int | None = place.index  # None for "cuda" alone, whatever torch's types say
    if place.type != "cuda" or index is not None or "LOCAL_RANK" not in os.environ:
        return place
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
