"""TIRG against its formulas, written out once more in numpy."""

from __future__ import annotations

import numpy as np
import torch

from visualsearch.ml.composition import TIRG

WIDTH = 12


def _numpy_tirg(module: TIRG, image: np.ndarray, text: np.ndarray) -> np.ndarray:
    weights = {name: value.double().numpy() for name, value in module.state_dict().items()}

    def norm(x: np.ndarray, prefix: str) -> np.ndarray:
        shifted = x - weights[f"{prefix}.running_mean"]
        scaled = shifted / np.sqrt(weights[f"{prefix}.running_var"] + 1e-5)
        return scaled * weights[f"{prefix}.weight"] + weights[f"{prefix}.bias"]

    def linear(x: np.ndarray, prefix: str) -> np.ndarray:
        return x @ weights[f"{prefix}.weight"].T + weights[f"{prefix}.bias"]

    x = np.concatenate([image, text], axis=1)
    gate = 1 / (1 + np.exp(-linear(np.maximum(norm(x, "gate.0"), 0), "gate.2")))
    hidden = np.maximum(linear(np.maximum(norm(x, "residual.0"), 0), "residual.2"), 0)
    residual = linear(hidden, "residual.4")
    a0, a1 = weights["weights"]
    return a0 * gate * image + a1 * residual


def test_tirg__equals_the_formulas_of_the_paper() -> None:
    torch.manual_seed(0)
    module = TIRG(WIDTH)
    # Norms with statistics and weights of their own, as after training.
    module.train()
    for _ in range(20):
        module(torch.randn(16, WIDTH) * 2 + 1, torch.randn(16, WIDTH))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("0.weight") or name.endswith("0.bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
        module.weights.copy_(torch.tensor([0.7, 8.0]))
    module.eval()
    image, text = torch.randn(9, WIDTH), torch.randn(9, WIDTH)
    expected = _numpy_tirg(module, image.double().numpy(), text.double().numpy())
    with torch.no_grad():
        assert np.abs(module(image, text).numpy() - expected).max() < 1e-5


def test_tirg__starts_with_the_weights_of_the_paper() -> None:
    module = TIRG(WIDTH)
    assert module.weights.tolist() == [1.0, 10.0]
    assert float(module.scale.detach()) == 4.0
    assert module.weights.requires_grad
    assert module.scale.requires_grad
    assert module.gate[0] is not module.residual[0]
