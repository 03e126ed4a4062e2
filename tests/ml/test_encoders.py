"""The network's shapes, its weights files and its batched variation of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from visualsearch.exceptions import TrainingError
from visualsearch.ml.augment import augment
from visualsearch.ml.encoders import ImageEncoder, VisualEncoder
from visualsearch.ml.recipes import get_recipe
from visualsearch.ml.trunks import build_trunk

TINY = dataclasses.replace(
    get_recipe("default"),
    trunk="resnet10",
    image_size=32,
    width=16,
    token_width=16,
    text_hidden=16,
    text_length=8,
)


@pytest.mark.parametrize("text", ["gru", "lstm"])
def test_encode__gives_unit_vectors_of_the_width(text: str) -> None:
    torch.manual_seed(0)
    recipe = dataclasses.replace(TINY, text=text)
    network = VisualEncoder(recipe, vocabulary_size=50, weights=None).eval()
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    tokens = torch.tensor([[3, 4, 5, 0], [7, 0, 0, 0], [0, 0, 0, 0]])
    with torch.inference_mode():
        image, words = network.encode_image(pixels), network.encode_text(tokens)
        composed = network.compose(image, words)
    for vectors in (image, words, composed):
        assert vectors.shape == (3, 16)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)


def test_encode_text__does_not_depend_on_the_padding() -> None:
    torch.manual_seed(0)
    network = VisualEncoder(TINY, vocabulary_size=50, weights=None).eval()
    short = torch.tensor([[3, 4, 5]])
    padded = torch.tensor([[3, 4, 5, 0, 0, 0, 0, 0]])
    with torch.inference_mode():
        difference = network.encode_text(short) - network.encode_text(padded)
    assert difference.abs().max() < 1e-6


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_build_trunk__reads_a_weights_file(tmp_path: Path, suffix: str) -> None:
    model = torchvision.models.resnet18()
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    trunk, features = build_trunk("resnet18", weights=str(path))
    assert features == 512
    assert torch.equal(trunk.state_dict()["conv1.weight"], model.conv1.weight)
    with torch.inference_mode():
        assert trunk.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 512)


def test_build_trunk__says_how_to_give_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match="weights=none"):
        build_trunk("resnet18", weights=str(tmp_path / "absent.pth"))
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with pytest.raises(TrainingError, match="does not hold weights of resnet18"):
        build_trunk("resnet18", weights=str(tmp_path / "other.pth"))
    with pytest.raises(TrainingError, match="no model 'resnet9000'"):
        build_trunk("resnet9000", weights=None)

    def offline(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(TrainingError, match="Without a network, give a weights file"):
        build_trunk("vgg16", weights="DEFAULT")


def test_build_trunk__a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(TrainingError):
        build_trunk("resnet18", weights=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_image_encoder__without_training_the_width_must_be_the_trunks() -> None:
    recipe = dataclasses.replace(get_recipe("pretrained-knn"), trunk="resnet10", weights=None)
    with pytest.raises(TrainingError, match="resnet10 gives 512"):
        ImageEncoder(recipe, weights=None)


def test_augment__varies_every_image_and_keeps_colour_and_ground() -> None:
    white = torch.ones(1, 3, 1, 1)
    image = torch.ones(1, 3, 32, 32)
    image[:, 1:, 10:22, 10:22] = 0.1  # a red square
    images = image.repeat(16, 1, 1, 1)
    varied = augment(images, white=white, generator=torch.Generator().manual_seed(0))
    again = augment(images, white=white, generator=torch.Generator().manual_seed(0))
    assert torch.equal(varied, again)
    assert varied.shape == images.shape
    differences = (varied - images).abs().mean(dim=(1, 2, 3))
    assert (differences > 0.005).all()
    # Red stays far above green and blue, which stay alike.
    means = varied.mean(dim=(2, 3))
    assert (means[:, 0] > means[:, 1]).float().mean() > 0.9
    assert (means[:, 1] - means[:, 2]).abs().max() < 0.05
