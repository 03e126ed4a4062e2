"""The network's shapes, its weights files and its batched variation of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from visualsearch.exceptions import TrainingError
from visualsearch.ml.augment import augment
from visualsearch.ml.encoders import ImageEncoder, VisualEncoder
from visualsearch.ml.multiscale import ShallowScale
from visualsearch.ml.recipes import Recipe, get_recipe
from visualsearch.ml.text import TextEncoder
from visualsearch.ml.trunks import build_trunk

# What the first checkpoints were: a trunk, a thumbnail beside it, one linear projection, a GRU.
TINY = Recipe(
    name="plain",
    summary="",
    trunk="resnet10",
    thumbnail=16,
    image_size=32,
    width=16,
    token_width=16,
    text_hidden=16,
    text_length=8,
)


@pytest.mark.parametrize("text", ["gru", "lstm", "bigru"])
@pytest.mark.parametrize("pool", ["last+mean", "last", "max"])
def test_encode__gives_unit_vectors_of_the_width(text: str, pool: str) -> None:
    torch.manual_seed(0)
    recipe = dataclasses.replace(TINY, text=text, text_pool=pool)
    network = VisualEncoder(recipe, vocabulary_size=50, weights=None).eval()
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    tokens = torch.tensor([[3, 4, 5, 0], [7, 0, 0, 0], [0, 0, 0, 0]])
    with torch.inference_mode():
        image, words = network.encode_image(pixels), network.encode_text(tokens)
        composed = network.compose(image, words)
    for vectors in (image, words, composed):
        assert vectors.shape == (3, 16)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("text", ["gru", "lstm", "bigru"])
@pytest.mark.parametrize("pool", ["last+mean", "last", "max"])
def test_encode_text__does_not_depend_on_the_padding(text: str, pool: str) -> None:
    torch.manual_seed(0)
    recipe = dataclasses.replace(TINY, text=text, text_pool=pool)
    network = VisualEncoder(recipe, vocabulary_size=50, weights=None).eval()
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


@pytest.mark.parametrize("pool", ["last", "max"])
def test_text_encoder__reads_in_both_directions_as_torch_does(pool: str) -> None:
    torch.manual_seed(0)
    recipe = dataclasses.replace(TINY, text="bigru", text_pool=pool)
    encoder = TextEncoder(recipe, vocabulary_size=50).eval()
    reference = nn.GRU(16, 16, batch_first=True, bidirectional=True)
    weights = dict(encoder.recurrent.state_dict())
    backward = encoder.backward_recurrent
    assert backward is not None
    weights |= {f"{name}_reverse": value for name, value in backward.state_dict().items()}
    reference.load_state_dict(weights)
    tokens = torch.tensor([[3, 4, 5, 6, 7]])  # unpadded, as torch's layer needs it
    with torch.inference_mode():
        states, ends = reference(encoder.tokens(tokens))
        pooled = states.amax(dim=1) if pool == "max" else torch.cat([ends[0], ends[1]], dim=1)
        expected = functional.normalize(encoder.project(pooled), dim=1)
        padded = functional.pad(tokens, (0, 3))
        assert (encoder(padded) - expected).abs().max() < 1e-5


def test_trunk_pool__takes_the_largest_answer_of_each_channel() -> None:
    recipe = dataclasses.replace(TINY, trunk_pool="max", thumbnail=0)
    encoder = ImageEncoder(recipe, weights=None).eval()
    maps: list[torch.Tensor] = []
    encoder.trunk.get_submodule("layer4").register_forward_hook(
        lambda module, inputs, output: maps.append(output)
    )
    with torch.inference_mode():
        features = encoder.trunk(torch.randn(2, 3, 64, 64))
    assert torch.equal(features, maps[0].amax(dim=(2, 3)))
    with pytest.raises(TrainingError, match="trunk_pool=avg"):
        vgg = dataclasses.replace(recipe, trunk="vgg11")
        ImageEncoder(vgg, weights=None)


def test_scales__at_224_px_give_the_features_of_the_papers() -> None:
    branches = [ShallowScale(level, image_size=224) for level in range(2)]
    assert [branch.features for branch in branches] == [1536, 1536]
    assert [branch.factor for branch in branches] == [4, 8]
    with torch.inference_mode():
        shapes = [branch(torch.zeros(2, 3, 224, 224)).shape for branch in branches]
    assert shapes == [(2, 1536), (2, 1536)]


def test_scales__deep_and_shallow_features_weigh_the_same() -> None:
    torch.manual_seed(0)
    recipe = dataclasses.replace(TINY, thumbnail=0, scales=2, small_first=0.0)
    encoder = ImageEncoder(recipe, weights=None).eval()
    seen: list[torch.Tensor] = []
    encoder.project.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        encoder.embed(torch.randn(3, 3, 32, 32))
    deep, shallow = seen[0][:, :512], seen[0][:, 512:]
    assert torch.allclose(deep.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(shallow.norm(dim=1), torch.ones(3), atol=1e-5)


def test_state__of_default_has_the_names_that_stored_checkpoints_have() -> None:
    names = set(ImageEncoder(TINY, weights=None).state_dict())
    assert {name.split(".")[0] for name in names} == {"trunk", "shallow", "project"}
    assert {name for name in names if name.startswith("shallow")} == {
        "shallow.1.weight",
        "shallow.1.bias",
        "shallow.3.weight",
        "shallow.3.bias",
    }
    text = set(TextEncoder(TINY, vocabulary_size=50).state_dict())
    assert {name.split(".")[0] for name in text} == {"tokens", "recurrent", "project"}


def test_sum__composes_without_anything_to_learn() -> None:
    recipe = dataclasses.replace(TINY, composer="sum", composed_weight=0.0)
    network = VisualEncoder(recipe, vocabulary_size=50, weights=None).eval()
    assert network.composer is not None
    assert not list(network.composer.parameters())
    image, text = torch.eye(16)[:2], torch.eye(16)[2:4]
    with torch.inference_mode():
        composed = network.compose(image, text)
    assert torch.allclose(composed, (image + text) / 2**0.5, atol=1e-6)


def test_image_encoder__without_training_the_width_must_be_the_trunks() -> None:
    recipe = dataclasses.replace(
        get_recipe("pretrained-knn"), trunk="resnet10", weights=None, width=4096
    )
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
