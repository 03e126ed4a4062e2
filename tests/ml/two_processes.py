"""Trains a tiny network, alone or as one of several under torchrun, and writes down what it saw.

torchrun --standalone --nproc-per-node 2 -m tests.ml.two_processes FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import small_trunk, tiny
from visualsearch.ml import encoders, stepping
from visualsearch.ml import train as training
from visualsearch.ml.distributed import World
from visualsearch.ml.loop import Loop
from visualsearch.ml.train import Progress, TrainingResult


def main(folder: Path) -> TrainingResult:
    """Writes `step-RANK.pt` (loss and gradients of one step) and `weights-RANK.pt` of the end."""
    rank = os.environ.get("RANK", "0")
    run, copy = Loop.run, World.copy_from_first

    def one_step_first(loop: Loop, report: Any) -> Any:
        torch.save(one_step(loop), folder / f"step-{rank}.pt")
        return run(loop, report)

    def noted(world: World, tensors: list[Tensor]) -> None:
        # Weights without the statistics of norms, which each process has of its own images.
        kept = [tensor.clone() for tensor in tensors if tensor.ndim > 1]
        torch.save(kept, folder / f"weights-{rank}.pt")
        copy(world, tensors)

    def count(progress: Progress) -> None:
        with (folder / f"reports-{rank}").open("a") as stream:
            stream.write(f"{progress.stage}\n")

    encoders.build_trunk = small_trunk
    stepping.has_bfloat16 = lambda place: False
    Loop.run = one_step_first  # type: ignore[method-assign]
    World.copy_from_first = noted  # type: ignore[method-assign]
    training.export_onnx = lambda network, folder: {}  # type: ignore[assignment]
    try:
        return training.train(
            coloured_shapes(designs=8),
            tiny(epochs=2, batch=30, validation=0.3),
            out=folder / "checkpoint",
            device="cpu",
            seed=5,
            progress=count,
            resume=folder / "states",
        )
    finally:
        Loop.run, World.copy_from_first = run, copy  # type: ignore[method-assign]


def one_step(loop: Loop) -> dict[str, Any]:
    """Loss and gradients of the first batch, on images that are the same for every world."""
    batch = next(loop.stream.after(0))
    images = torch.randn(len(batch.images), 3, 32, 32, generator=torch.Generator().manual_seed(1))
    # Norms with fixed statistics: those of a part of the batch are not those of the whole.
    loop.network.eval()
    loss = loop.stepper._backward(images[loop.world.part(len(images))], batch)
    gradients = {n: p.grad for n, p in loop.objective.named_parameters() if p.grad is not None}
    kept = {name: gradient.clone() for name, gradient in gradients.items()}
    loop.optimizer.zero_grad(set_to_none=True)
    return {"loss": float(loss.total.detach()), "gradients": kept}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
