"""Writes the network as three ONNX graphs, so that web processes encode queries without PyTorch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from visualsearch.exceptions import TrainingError
from visualsearch.ml.encoders import VisualEncoder

IMAGE_GRAPH = "image.onnx"
TEXT_GRAPH = "text.onnx"
COMPOSE_GRAPH = "compose.onnx"
MIN_COSINE = 0.999
_CHATTY = ("torch", "torch.onnx", "onnxscript", "onnx_ir")


class _Image(nn.Module):
    def __init__(self, network: VisualEncoder) -> None:
        super().__init__()
        self.network = network.image

    def forward(self, pixels: Tensor) -> Tensor:
        vectors: Tensor = self.network(pixels)
        return vectors


class _Compose(nn.Module):
    def __init__(self, network: VisualEncoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.network.compose(image, text)


def export_onnx(network: VisualEncoder, folder: Path) -> dict[str, float]:
    """Writes the graphs into `folder` and compares each with the network it came from.

    image.onnx    pixels uint8 [B, S, S, 3]                     -> vectors float32 [B, width]
    text.onnx     tokens int64 [B, text_length]                 -> vectors float32 [B, width]
    compose.onnx  image, text float32 [B, width]                -> vectors float32 [B, width]

    Returns the smallest cosine between the two by graph; raises TrainingError below .999.
    """
    network = network.cpu().eval()
    recipe = network.recipe
    # The generator is this function's own: an export must not change what training draws next.
    generator = torch.Generator().manual_seed(0)
    size = recipe.image_size
    shape = (3, size, size, 3)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    graphs: dict[str, tuple[nn.Module, dict[str, Tensor]]] = {
        IMAGE_GRAPH: (_Image(network), {"pixels": pixels})
    }
    if network.text is not None:
        count = network.text.vocabulary_size
        tokens = torch.randint(1, count, (3, recipe.text_length), generator=generator)
        tokens[0, 3:] = 0
        tokens[1, :] = 0
        graphs[TEXT_GRAPH] = (network.text, {"tokens": tokens})
    if network.composer is not None:
        vectors = torch.randn(2, 3, recipe.width, generator=generator)
        unit = nn.functional.normalize(vectors, dim=2)
        graphs[COMPOSE_GRAPH] = (_Compose(network), {"image": unit[0], "text": unit[1]})
    parity: dict[str, float] = {}
    for name, (module, inputs) in graphs.items():
        _export(module.eval(), inputs, folder / name)
        parity[name] = _cosine(module, inputs, folder / name)
        if not parity[name] >= MIN_COSINE:
            raise TrainingError(
                f"The exported {name} and the network differ: cosine {parity[name]:.5f}, "
                f"{MIN_COSINE} needed. Report this with the recipe {recipe.name!r}."
            )
    return parity


def _export(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["vectors"],
            dynamic_shapes=[{0: batch} for _ in inputs],
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=False)


def _cosine(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        eager = module(*inputs.values()).numpy()
    worst = 1.0
    for rows in (slice(0, 3), slice(0, 1)):  # the batch must be free, not 3
        exported = session.run(None, {name: value[rows].numpy() for name, value in inputs.items()})
        cosine = (np.asarray(exported[0]) * eager[rows]).sum(axis=1).min()
        worst = min(worst, float(cosine))
    return round(worst, 6)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress and warns of its own deprecations; none is for our reader."""
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
