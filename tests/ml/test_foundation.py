"""Towers of open_clip: loaded by name and from a folder, adapted, exported and served without it."""

from __future__ import annotations

import builtins
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.ml.catalogues import coloured_shapes
from visualsearch.exceptions import TrainingError
from visualsearch.ml import checkpoints
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.export import export_onnx
from visualsearch.ml.foundation import CONFIG_NAME, TowerText, load_towers
from visualsearch.ml.foundation_tokens import clip_backend, hub_backend, tower_tokenizer
from visualsearch.ml.inference import TorchEncoder
from visualsearch.ml.objective import Objective
from visualsearch.ml.recipes import Recipe, get_recipe
from visualsearch.ml.sampling import draw
from visualsearch.ml.schedule import make_optimizer
from visualsearch.ml.tokenizer import locked
from visualsearch.ml.train import train
from visualsearch.onnx_encoder import OnnxEncoder

open_clip = pytest.importorskip("open_clip", reason="the extra `foundation` is not installed")

NAME = "visualsearch-tiny"
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
MODEL = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}
TEXTS = [
    "Blue dress, it's 50% wool!",
    "",
    "  ROBE   d'été – naïve\tcafé №7 ",
    "!!! a!b ??",
    "日本語 👗 ok",
    "they'll we've I'd <end_of_text> &",
    "long " * 40,
]


def recipe(trunk: str = f"open_clip:{NAME}", **changes: Any) -> Recipe:
    values: dict[str, Any] = dict(weights=None, image_size=32, head_hidden=16, batch=16, epochs=20)
    values |= dict(min_steps=0, variations=0, wild_variations=0, average=0.0, lr=3e-3)
    return dataclasses.replace(get_recipe("foundation"), trunk=trunk, **{**values, **changes})


@pytest.fixture(autouse=True)
def _tiny_model(tmp_path: Path) -> Iterator[None]:
    path = tmp_path / f"{NAME}.json"
    path.write_text(json.dumps(MODEL))
    open_clip.add_model_config(path)
    yield
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)


def folder_of(path: Path, model_cfg: dict[str, Any], *, mean: float = 0.5) -> Any:
    """Writes a model's folder as open_clip does, with random weights; the model."""
    path.mkdir()
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": [mean] * 3, "std": [0.5] * 3}}
    (path / CONFIG_NAME).write_text(json.dumps(config))
    torch.manual_seed(3)
    model = open_clip.create_model(f"local-dir:{path}", load_weights=False).eval()
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path / "open_clip_model.safetensors")
    return model


def test_load_towers__from_a_folder_are_the_models_own(tmp_path: Path) -> None:
    model = folder_of(tmp_path / "model", MODEL)
    network = VisualEncoder(
        recipe(f"open_clip:{tmp_path / 'model'}"), vocabulary_size=0, weights="DEFAULT"
    ).eval()
    assert (network.recipe.width, network.recipe.text_length) == (24, 20)
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    tokens = open_clip.get_tokenizer(NAME)(["red square", "blue ring"])
    with torch.inference_mode():
        images = (pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        # Untrained adapters change nothing: the model's zero-shot answers are where they start.
        assert torch.allclose(
            network.encode_image(pixels), model.encode_image(images, normalize=True), atol=1e-5
        )
        assert torch.allclose(
            network.encode_text(tokens), model.encode_text(tokens, normalize=True), atol=1e-5
        )


def test_load_towers__by_name_with_a_weights_file_and_images_of_another_size(
    tmp_path: Path,
) -> None:
    model = folder_of(tmp_path / "model", MODEL)
    file = tmp_path / "model" / "open_clip_model.safetensors"
    towers = load_towers(recipe(image_size=64), weights=str(file))
    own = dict(model.visual.named_parameters())
    loaded: Any = towers.image
    for name, value in loaded.tower.named_parameters():
        if name != "positional_embedding":
            assert torch.equal(value, own[name]), name
    assert loaded.tower.positional_embedding.shape[0] == 1 + (64 // 16) ** 2
    assert loaded(torch.zeros(1, 3, 64, 64)).shape == (1, 24)


@pytest.mark.parametrize(
    ("trunk", "weights", "says"),
    [
        ("open_clip:hf-hub:some/model", "DEFAULT", "copy the model's folder.*--set trunk="),
        ("open_clip:/absent/folder", "DEFAULT", "has no open_clip_config.json"),
        ("open_clip:ViT-B-32", "DEFAULT", "which weights of ViT-B-32. open_clip has: openai"),
        ("open_clip:ViT-B-32", "no_such_tag", "Without a network"),
    ],
)
def test_load_towers__the_error_names_the_fix(
    trunk: str, weights: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(open_clip.factory, "_get_hf_config", offline)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", offline)
    with pytest.raises(TrainingError, match=says):
        load_towers(recipe(trunk, image_size=224), weights=weights)


def without_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **options: Any) -> Any:
        if name.partition(".")[0] in ("open_clip", "transformers"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)


def test_load_towers__without_open_clip_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without_open_clip(monkeypatch)
    with pytest.raises(TrainingError, match=r"pip install 'django-visualsearch\[foundation\]'"):
        load_towers(recipe(), weights=None)


def test_clip_backend__gives_open_clips_own_tokens() -> None:
    own = open_clip.SimpleTokenizer(context_length=20)
    ours = locked(clip_backend(own), text_length=20).encode(TEXTS)
    theirs = own(TEXTS).numpy()
    special = TEXTS.index("they'll we've I'd <end_of_text> &")
    same = [row for row in range(len(TEXTS)) if row != special]
    assert np.array_equal(ours[same], theirs[same])
    # Where a visitor types a special token, open_clip takes it for one; here it is a text.
    assert (ours[special] == own.eot_token_id).sum() == 1


def hub_folder(path: Path) -> None:
    """A Hugging Face tokenizer with padding that is not 0, as SigLIP's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>", "<pad>", "</s>"])
    backend.train_from_iterator(["red square blue ring dress wool their its"] * 3, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)


@pytest.mark.parametrize("clean", ["canonicalize", "lower", "whitespace"])
def test_hub_backend__gives_open_clips_own_tokens(tmp_path: Path, clean: str) -> None:
    pytest.importorskip("transformers")
    hub_folder(tmp_path / "hub")
    own = open_clip.tokenizer.HFTokenizer(str(tmp_path / "hub"), context_length=12, clean=clean)
    texts = [text for text in TEXTS if "<" not in text and "&" not in text]
    ours = locked(hub_backend(own), text_length=12).encode(texts)
    assert np.array_equal(ours, own(texts).numpy())
    assert (ours[1] == 1).any()  # padded as the model was trained


def test_tower_text__a_model_with_a_hub_tokenizer_reads_what_it_was_trained_to(
    tmp_path: Path,
) -> None:
    pytest.importorskip("transformers")
    text = {**TEXT, "vocab_size": 200, "pool_type": "last", "no_causal_mask": True}
    text |= {"hf_tokenizer_name": "some/tokenizer", "tokenizer_kwargs": {"clean": "canonicalize"}}
    model = folder_of(tmp_path / "model", {**MODEL, "text_cfg": text, "custom_text": True})
    hub_folder(tmp_path / "model")
    used = recipe(f"open_clip:{tmp_path / 'model'}")
    network = VisualEncoder(used, vocabulary_size=0, weights="DEFAULT").eval()
    tokens = tower_tokenizer(used)
    theirs = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")(["Red  square!"])
    ours = torch.from_numpy(tokens.encode(["Red  square!"]))
    assert torch.equal(ours, theirs)
    with torch.inference_mode():
        wanted = model.encode_text(theirs, normalize=True)
        assert torch.allclose(network.encode_text(ours), wanted, atol=1e-5)


def test_tower_text__a_frozen_tower_reads_a_text_once_while_training() -> None:
    torch.manual_seed(0)
    used = recipe()
    text = VisualEncoder(used, vocabulary_size=0, weights=None).text
    assert isinstance(text, TowerText)
    text.project.hidden = None  # no dropout
    tokens = torch.from_numpy(tower_tokenizer(used).encode(["red", "blue ring", "red"]))
    read: list[int] = []
    text.tower.register_forward_hook(lambda _, inputs, __: read.append(len(inputs[0])))
    with torch.no_grad():
        plain = text.eval()(tokens)
        read.clear()
        text.train()
        first, shorter = text(tokens), text(tokens[:2, :5])
    assert read == [2]
    assert (first * plain).sum(dim=1).min() > 0.999  # bfloat16
    assert torch.equal(shorter, first[:2])
    assert not any(weight.requires_grad for weight in text.tower.parameters())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny model, frozen, its adapters and composer trained."""
    root = tmp_path_factory.mktemp("foundation")
    folder_of(root / "model", MODEL)
    used = recipe(f"open_clip:{root / 'model'}", weights="DEFAULT")
    result = train(coloured_shapes(designs=4), used, out=root / "checkpoint", device="cpu")
    assert result.metrics["export_cosine"].keys() == {"image.onnx", "text.onnx", "compose.onnx"}
    losses = [entry["loss"] for entry in result.history]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert {line.section for line in result.report.lines} >= {"similar", "text", "composed"}
    # The model's folder is not needed any more.
    (root / "model" / CONFIG_NAME).unlink()
    return root / "checkpoint"


def test_checkpoint__has_the_towers_as_they_were_and_what_they_learned(trained: Path) -> None:
    network, tokens, manifest = checkpoints.load(trained)
    assert tokens is not None
    assert (manifest.width, manifest.text_length, manifest.image_size) == (24, 20, 32)
    adapter: Any = network.image.project
    assert adapter.hidden[-1].weight.abs().max() > 0
    torch.manual_seed(3)
    config = json.loads(network.recipe.tower)
    model = open_clip.model.CLIP(**config["model_cfg"])
    tower: Any = network.image.trunk
    assert torch.equal(tower.tower.conv1.weight, model.visual.conv1.weight)


def test_checkpoint__is_served_without_torch_and_open_clip(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = TorchEncoder(trained, device="cpu")
    pixels = coloured_shapes(seed=1).pixels[:4]
    texts = ["Red ring!", "make it  BLUE", "", "x" * 300]
    images, words = bulk.encode_image(pixels), bulk.encode_text(texts)
    composed = bulk.compose(images, words)
    without_open_clip(monkeypatch)
    served = OnnxEncoder(trained, threads=1)
    for ours, theirs in [
        (served.encode_image(pixels), images),
        (served.encode_text(texts), words),
        (served.compose(images, words), composed),
    ]:
        assert (ours * theirs).sum(axis=1).min() > 0.9999


def test_tuned__both_towers_learn_and_slower_than_the_heads() -> None:
    used = recipe(frozen=False, lr=1.0, trunk_lr=0.01)
    catalogue = coloured_shapes()
    network = VisualEncoder(used, vocabulary_size=0, weights=None).train()
    objective = Objective(network, tower_tokenizer(used), CodedCatalogue(catalogue))
    optimizer = make_optimizer(objective, used)
    rates = {id(w): group["lr"] for group in optimizer.param_groups for w in group["params"]}
    assert isinstance(network.text, TowerText)
    for tower, head in [
        (network.image.trunk, network.image.project),
        (network.text.tower, network.text.project),
    ]:
        assert {rates[id(weight)] for weight in tower.parameters()} == {0.01}
        assert {rates[id(weight)] for weight in head.parameters()} == {1.0}
    # What a step of training does reaches both.
    batch = next(draw(CodedCatalogue(catalogue), used, size=16, rng=np.random.default_rng(0)))
    vectors = network.encode_image(torch.from_numpy(catalogue.pixels[batch.images]))
    objective(vectors, batch).total.backward()
    for weight in (
        network.image.trunk.tower.conv1.weight,
        network.text.tower.model.ln_final.weight,
    ):  # type: ignore[union-attr]
        assert weight.grad is not None and weight.grad.abs().max() > 0


def test_export__a_tower_that_another_width_is_projected_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VisualEncoder(recipe(width=16), vocabulary_size=0, weights=None).eval()
    assert min(export_onnx(network, tmp_path).values()) > 0.999
    image: Any = network.image.project
    text: Any = network.text
    assert torch.equal(image.linear.weight, text.project.linear.weight)


def test_recipe__towers_and_texts_belong_together() -> None:
    with pytest.raises(TrainingError, match="trunk='resnet18' is none"):
        recipe("resnet18", width=64)
    with pytest.raises(TrainingError, match="Set small_first=0"):
        recipe(small_first=0.5)
