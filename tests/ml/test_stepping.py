"""A step that does not fit into memory goes in parts, with the same loss and the same gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import small_trunk, tiny
from visualsearch.exceptions import TrainingError
from visualsearch.ml import encoders, tokenizer
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.loop import Loop
from visualsearch.ml.stepping import Step, is_out_of_memory


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "build_trunk", small_trunk)


def _loop() -> Loop:
    recipe = tiny(batch=32)
    catalogue = coloured_shapes(designs=2)
    texts = [text for item in catalogue.items for text in item.texts]
    tokens = tokenizer.train(texts, vocabulary_size=300, text_length=16)
    torch.manual_seed(0)
    network = VisualEncoder(recipe, vocabulary_size=tokens.vocabulary_size, weights=None)
    return Loop(catalogue, network, tokens, place=torch.device("cpu"), seed=0, budget_s=None)


def _fed(loop: Loop) -> tuple[torch.Tensor, object]:
    batch = next(loop.stream.after(0))
    return loop.prepare(0, batch), batch


def _gradients(loop: Loop, parts: int) -> tuple[float, dict[str, torch.Tensor]]:
    images, batch = _fed(loop)
    # With the batch's own statistics a norm's output depends on who else is in its part.
    loop.network.eval()
    loop.stepper.parts = parts
    loss = loop.stepper._backward(images, batch)  # type: ignore[arg-type]
    gradients = {n: p.grad for n, p in loop.objective.named_parameters() if p.grad is not None}
    return float(loss.total.detach()), gradients


@pytest.mark.parametrize("parts", [2, 3])
def test_step__in_parts_has_the_same_loss_and_gradients(
    parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visualsearch.ml.stepping.has_bfloat16", lambda place: False)
    whole, expected = _gradients(_loop(), 1)
    loss, gradients = _gradients(_loop(), parts)

    assert loss == pytest.approx(whole, abs=1e-5)
    assert gradients.keys() == expected.keys()
    assert "network.image.trunk.0.weight" in gradients
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], atol=1e-5), name


def test_step__out_of_memory_halves_what_goes_through_the_trunk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = _loop()
    images, batch = _fed(loop)
    sizes: list[int] = []
    embed = Step.embed

    def small_memory(step: Step, some: torch.Tensor) -> torch.Tensor:
        sizes.append(len(some))
        if len(some) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return embed(step, some)

    monkeypatch.setattr(Step, "embed", small_memory)
    before = {n: p.detach().clone() for n, p in loop.objective.named_parameters()}
    loss = loop.stepper(images, batch, number=1)  # type: ignore[arg-type]

    assert np.isfinite(float(loss.total.detach()))
    assert loop.stepper.parts == 4
    assert sizes == [32, 16, *[8] * 8]
    assert "in 4 parts from now on" in caplog.text
    moved = [n for n, p in loop.objective.named_parameters() if not torch.equal(p, before[n])]
    assert "network.image.trunk.0.weight" in moved
    sizes.clear()
    loop.stepper(images, batch, number=2)  # type: ignore[arg-type]
    assert sizes == [8] * 8, "it remembers"


def test_step__a_memory_too_small_for_anything_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = _loop()
    images, batch = _fed(loop)

    def none_at_all(step: Step, some: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate …")

    monkeypatch.setattr(Step, "embed", none_at_all)
    with pytest.raises(TrainingError, match="--set batch=16"):
        loop.stepper(images, batch, number=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_is_out_of_memory(error: BaseException, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


def test_step__a_loss_that_is_no_number_ends_the_run_before_the_weights_move() -> None:
    loop = _loop()
    images, batch = _fed(loop)
    weight = loop.network.image.project.weight
    before = weight.detach().clone()  # type: ignore[operator, union-attr]
    with torch.no_grad():
        loop.objective.log_scale.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"at step 7.*learning rate"):
        loop.stepper(images, batch, number=7)  # type: ignore[arg-type]
    assert torch.equal(weight, before)  # type: ignore[arg-type]
