"""Towers of open_clip as trunk and text encoder: by model name, from the hub, or from a folder."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from visualsearch.exceptions import TrainingError
from visualsearch.ml.normalisation import Renormalise
from visualsearch.ml.precision import has_bfloat16
from visualsearch.ml.projection import Adapter
from visualsearch.ml.recipes import Recipe

PREFIX = "open_clip:"
"""Of `Recipe.trunk`: what follows is a model's name, ``hf-hub:ORG/NAME`` or a folder's path."""
CONFIG_NAME = "open_clip_config.json"
REMEMBERED = 200_000
"""Texts of which a frozen tower's answer is kept: training shows the same ones again and again."""


@dataclass(frozen=True)
class Towers:
    """The two halves of a model, and what is needed to build it again without its weights."""

    image: nn.Module
    # normalised images [B, 3, S, S] -> [B, features]
    text: nn.Module
    # tokens [B, text_length] -> [B, features]
    features: int
    text_length: int
    config: str
    # JSON, as in open_clip's own folders


def load_towers(recipe: Recipe, *, weights: str | None) -> Towers:
    """The towers that `recipe.trunk` names, in float32 on the CPU.

    weights: ``"DEFAULT"`` for those of the folder or of the hub's repository, else open_clip's tag
    or a file; None builds them from `recipe.tower`, which a checkpoint has, or at random.
    Images may be of another size than the model's: its positions are interpolated.
    """
    open_clip = import_open_clip()
    with source(recipe) as found, _quiet():
        plain = ":" not in found
        if plain and weights == "DEFAULT":
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(found)) or "none"
            raise TrainingError(
                f"weights=DEFAULT does not say which weights of {found}. open_clip has: {tags}."
            )
        try:
            model = open_clip.create_model(
                found,
                pretrained=weights if plain else None,
                load_weights=weights is not None,
                require_pretrained=weights is not None,
                force_image_size=recipe.image_size,
                pretrained_text=False,
            )
        except Exception as error:  # each library below raises errors of its own
            raise TrainingError(
                f"open_clip cannot load {recipe.trunk}: {error}. Without a network, copy the model's folder "
                f"({CONFIG_NAME} and its weights) here and give its path: "
                f"--set trunk={PREFIX}/path/to/folder --set weights=DEFAULT."
            ) from error
        config = _config(open_clip, found, model, recipe.image_size)
    return _split(model, config)


def _split(model: Any, config: dict[str, Any]) -> Towers:
    wanted = config["preprocess_cfg"]
    image = ImageTower(model.visual, mean=wanted["mean"], std=wanted["std"])
    model.visual = nn.Identity()
    model.logit_scale = model.logit_bias = None  # trained with the towers, and used by neither
    text_cfg = config["model_cfg"]["text_cfg"]
    return Towers(
        image=image,
        text=_Reader(model),
        features=config["model_cfg"]["embed_dim"],
        text_length=text_cfg.get("context_length", 77),
        config=json.dumps(config, sort_keys=True),
    )


class ImageTower(nn.Module):
    """open_clip's image tower on images normalised by ImageNet's figures."""

    def __init__(
        self, tower: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.renormalise = Renormalise(mean, std)
        self.tower = tower

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.tower(self.renormalise(images))
        return features


class _Reader(nn.Module):
    """What of an open_clip model reads texts."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(tokens)
        return features


class TowerText(nn.Module):
    """The text encoder of a recipe with towers: the text tower and a head of our own."""

    def __init__(self, recipe: Recipe, towers: Towers) -> None:
        super().__init__()
        self.tower = towers.text.requires_grad_(not recipe.frozen)
        self.text_length = towers.text_length
        self.vocabulary_size: int = json.loads(towers.config)["model_cfg"]["text_cfg"]["vocab_size"]
        self.frozen = recipe.frozen
        self.project = Adapter(
            towers.features,
            recipe.width,
            hidden=recipe.head_hidden,
            dropout=recipe.head_dropout,
        )
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    def train(self, mode: bool = True) -> Self:
        """As every module's, but a frozen tower stays as it is."""
        super().train(mode)
        if self.frozen:
            self.tower.eval()
        if not mode:
            self._known.clear()
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [B, L], at most `text_length` tokens -> unit float [B, width]."""
        # A tower reads a fixed number of tokens; training leaves out what is all padding.
        tokens = functional.pad(tokens, (0, self.text_length - tokens.shape[1]))
        features = self._frozen(tokens) if self.training and self.frozen else self.tower(tokens)
        return functional.normalize(self.project(features).float(), dim=1)

    @torch.no_grad()
    def _frozen(self, tokens: Tensor) -> Tensor:
        """The tower's answers, those to texts that were read before from memory."""
        keys = [row.tobytes() for row in tokens.cpu().numpy()]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            place = tokens.device
            with torch.autocast(place.type, torch.bfloat16, enabled=has_bfloat16(place)):
                read = self.tower(tokens[list(new.values())]).float()
            self._known.update(zip(new, read, strict=True))
        features = torch.stack([self._known[key] for key in keys])
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return features

    def __deepcopy__(self, memo: dict[int, Any]) -> TowerText:
        made = copy.copy(self)
        made.__dict__ = copy.deepcopy({**self.__dict__, "_known": OrderedDict()}, memo)
        return made


@contextlib.contextmanager
def source(recipe: Recipe) -> Iterator[str]:
    """What open_clip is to load: of a checkpoint's own configuration, a folder that holds it."""
    name, config = recipe.trunk.removeprefix(PREFIX), recipe.tower
    if config:
        with tempfile.TemporaryDirectory(prefix="open-clip-") as folder:
            (Path(folder) / CONFIG_NAME).write_text(config, encoding="utf-8")
            yield f"local-dir:{folder}"
        return
    path = Path(name.removeprefix("local-dir:"))
    if name.startswith("local-dir:") or path.is_dir() or path.is_absolute():
        if not (path / CONFIG_NAME).is_file():
            raise TrainingError(
                f"{path} is no folder of an open_clip model: it has no {CONFIG_NAME}. Copy the "
                "model's whole folder."
            )
        name = f"local-dir:{path}"
    yield name


def _config(open_clip: Any, found: str, model: Any, image_size: int) -> dict[str, Any]:
    """What builds `model` again: open_clip's configuration, with the size that images have here."""
    schema, _, identifier = found.partition(":")
    if schema == "local-dir":
        config = json.loads((Path(identifier) / CONFIG_NAME).read_text(encoding="utf-8"))
        model_cfg = config["model_cfg"]
    elif schema == "hf-hub":
        model_cfg = open_clip.factory._get_hf_config(identifier)["model_cfg"]
    else:
        model_cfg = open_clip.get_model_config(found)
    model_cfg["vision_cfg"]["image_size"] = image_size
    figures = model.visual.preprocess_cfg
    return {
        "model_cfg": model_cfg,
        "preprocess_cfg": {"mean": list(figures["mean"]), "std": list(figures["std"])},
    }


def import_open_clip() -> Any:
    """The module, or TrainingError with the line that installs it."""
    try:
        import open_clip
    except ImportError as error:
        raise TrainingError(
            f"A trunk {PREFIX}… needs open_clip, which is not installed ({error}): "
            "pip install 'django-visualsearch[foundation]'."
        ) from error
    return open_clip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of weights that are not loaded, on purpose here."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
