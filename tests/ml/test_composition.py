"""TIRG against its formulas, written out once more in numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.ml.catalogues import coloured_shapes
from visualsearch.ml import losses
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.composition import TIRG
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.objective import Objective
from visualsearch.ml.recipes import get_recipe
from visualsearch.ml.schedule import make_optimizer
from visualsearch.ml.text import TextEncoder

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


@pytest.mark.parametrize("loss", ["batch_classification", "soft_triplet"])
def test_tirg_recipe__query_and_loss_equal_the_formulas(loss: str) -> None:
    torch.manual_seed(1)
    recipe = dataclasses.replace(
        get_recipe("tirg"), trunk="resnet10", weights=None, loss=loss, text_weight=0.0
    )
    network = VisualEncoder(recipe, vocabulary_size=40, weights=None).eval()
    tirg = network.composer
    assert isinstance(tirg, TIRG)
    # 512-d, as published, on vectors as long as the paper's.
    image, text = (functional.normalize(torch.randn(6, 512), dim=1) for _ in range(2))
    targets = functional.normalize(torch.randn(6, 512), dim=1)
    f = _numpy_tirg(tirg, *(v.double().numpy() * 512**0.5 for v in (image, text)))
    query = f / np.linalg.norm(f, axis=1, keepdims=True)
    with torch.no_grad():
        composed = network.compose(image, text)
        assert np.abs(composed.numpy() - query).max() < 1e-5
        scale = float(tirg.scale)
        found = (
            losses.batch_classification(composed, targets, scale=tirg.scale)
            if loss == "batch_classification"
            else losses.soft_triplet(
                composed, targets, scale=tirg.scale, negatives=torch.tensor([[1, 2]] * 6)
            )
        )
    a, t = scale * query, scale * targets.double().numpy()
    if loss == "batch_classification":
        logits = a @ t.T
        logsum = np.log(np.exp(logits).sum(axis=1))
        expected = (logsum - np.diag(logits)).mean()
    else:
        near = np.square(a - t).sum(axis=1, keepdims=True)
        far = np.stack([np.square(a - t[n]).sum(axis=1) for n in (1, 2)], axis=1)
        expected = np.log1p(np.exp(near - far)).mean()
    assert abs(float(found) - expected) < 1e-4


def test_tirg_recipe__text_is_the_state_at_the_last_token_and_a_linear_layer() -> None:
    torch.manual_seed(2)
    recipe = dataclasses.replace(get_recipe("tirg"), width=10, token_width=6, text_hidden=5)
    encoder = TextEncoder(recipe, vocabulary_size=30).eval()
    tokens = torch.tensor([[4, 9, 2, 7, 0, 0]])
    weights = {name: value.double().numpy() for name, value in encoder.state_dict().items()}
    hidden, cell = np.zeros(5), np.zeros(5)
    for token in (4, 9, 2, 7):
        gates = (
            weights["recurrent.weight_ih_l0"] @ weights["tokens.weight"][token]
            + weights["recurrent.bias_ih_l0"]
            + weights["recurrent.weight_hh_l0"] @ hidden
            + weights["recurrent.bias_hh_l0"]
        )
        take, keep, fresh, give = np.split(gates, 4)
        sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
        cell = sigmoid(keep) * cell + sigmoid(take) * np.tanh(fresh)
        hidden = sigmoid(give) * np.tanh(cell)
    expected = weights["project.weight"] @ hidden + weights["project.bias"]
    expected /= np.linalg.norm(expected)
    with torch.no_grad():
        assert np.abs(encoder(tokens)[0].numpy() - expected).max() < 1e-5


def test_tirg_recipe__the_trunk_learns_at_a_tenth() -> None:
    recipe = dataclasses.replace(get_recipe("tirg"), trunk="resnet10", weights=None)
    coded = CodedCatalogue(coloured_shapes())
    network = VisualEncoder(recipe, vocabulary_size=40, weights=None)
    optimizer = make_optimizer(Objective(network, None, coded), recipe)
    trunk = {id(parameter) for parameter in network.image.trunk.parameters()}
    for group in optimizer.param_groups:
        inside = {id(parameter) in trunk for parameter in group["params"]}
        assert len(inside) == 1
        assert group["lr"] == pytest.approx(0.001 if inside.pop() else 0.01)
    assert optimizer.defaults["momentum"] == 0.9


def test_tirg__starts_with_the_weights_of_the_paper() -> None:
    module = TIRG(WIDTH)
    assert module.weights.tolist() == [1.0, 10.0]
    assert float(module.scale.detach()) == 4.0
    assert module.weights.requires_grad
    assert module.scale.requires_grad
    assert module.gate[0] is not module.residual[0]
