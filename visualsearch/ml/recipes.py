"""Recipes as data: which trunk, text encoder, composer, loss and schedule make a checkpoint."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from visualsearch.exceptions import TrainingError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train an encoder. `dataclasses.replace` makes variants."""

    name: str
    summary: str

    # -- image --
    trunk: str
    # a torchvision model name, or "resnet10": the residual network of one block a stage
    weights: str | None = None
    # None: from scratch; "DEFAULT": torchvision's (downloads); else the path of a weights file
    image_size: int = 96
    # side of the square input, pixels
    width: int = 256
    # length of every vector
    thumbnail: int = 0
    # side of the shallow branch's input, pixels (multi-scale, arXiv 1901.03546); 0: none

    # -- text --
    text: Literal["gru", "lstm", "none"] = "gru"
    vocabulary_size: int = 4_000
    text_length: int = 32
    # tokens
    token_width: int = 256
    text_hidden: int = 256

    # -- composition --
    composer: Literal["tirg", "none"] = "tirg"

    # -- objective --
    loss: Literal["contrastive", "batch_classification", "soft_triplet"] = "contrastive"
    text_weight: float = 1.0
    # image-text
    composed_weight: float = 1.0
    # image + modification -> image
    image_weight: float = 0.0
    # two photos, or two views, of one product
    attribute_weight: float = 0.0
    # attribute values read off the image vector by linear classifiers
    neighbour_weight: float = 0.0
    # images of one kind, group and attributes drawn together, by how much they share
    second_views: float = 0.0
    # share of a batch that shows a product of the batch a second time
    kind_pairs: float = 0.3
    # share of the groups whose products are paired by kind instead of by group

    # -- schedule --
    batch: int = 256
    # images a step, second views included
    epochs: int = 20
    min_steps: int = 0
    # small catalogues are repeated until they give this many steps
    optimizer: Literal["adamw", "sgd", "none"] = "adamw"
    lr: float = 1e-3
    trunk_lr: float = 1.0
    # factor on `lr` for the trunk
    momentum: float = 0.9
    # for sgd
    weight_decay: float = 0.05
    warmup: float = 0.05
    # share of the steps
    clip: float = 5.0
    average: float = 0.0
    # decay of the exponential moving average of the weights; 0: none
    small_first: float = 0.0
    # share of the steps taken on images of two thirds the size (progressive resizing)

    def __post_init__(self) -> None:
        for name, choice in typing.get_type_hints(Recipe).items():
            allowed = typing.get_args(choice)
            if typing.get_origin(choice) is Literal and getattr(self, name) not in allowed:
                raise TrainingError(
                    f"{name}={getattr(self, name)!r} is none of the choices of recipe "
                    f"{self.name!r}: {', '.join(allowed)}."
                )

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="default",
            summary="Residual network from scratch, subword GRU, TIRG, joint contrastive training.",
            trunk="resnet10",
            thumbnail=16,
            image_weight=0.5,
            attribute_weight=0.5,
            neighbour_weight=1.0,
            second_views=0.15,
            epochs=30,
            min_steps=400,
            small_first=0.6,
        ),
        Recipe(
            name="tirg",
            summary="Vo et al., CVPR 2019: ResNet-50, LSTM, batch-based classification, SGD.",
            trunk="resnet50",
            weights="DEFAULT",
            image_size=224,
            width=512,
            text="lstm",
            token_width=512,
            text_hidden=512,
            loss="batch_classification",
            batch=32,
            optimizer="sgd",
            lr=0.01,
            trunk_lr=0.1,
            weight_decay=1e-6,
        ),
        Recipe(
            name="pretrained-knn",
            summary="VGG16's last hidden layer with ImageNet weights, no training, images only.",
            trunk="vgg16",
            weights="DEFAULT",
            image_size=224,
            width=4096,
            text="none",
            text_length=0,
            composer="none",
            optimizer="none",
            epochs=0,
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name; the error lists the names there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise TrainingError(
            f"There is no recipe {name!r}. Choose one of: {', '.join(RECIPES)}."
        ) from None


def recipe_from(options: Mapping[str, Any]) -> Recipe:
    """Rebuilds the recipe of a checkpoint from its manifest's `options`."""
    known = {field.name for field in dataclasses.fields(Recipe)}
    try:
        return Recipe(**{name: value for name, value in options.items() if name in known})
    except TypeError as error:
        raise TrainingError(f"The recipe of this checkpoint is incomplete: {error}.") from error


def override(recipe: Recipe, assignments: Mapping[str, str]) -> Recipe:
    """`recipe` with fields set from strings, as ``--set trunk=resnet18 --set weights=none``."""
    types = {field.name: field for field in dataclasses.fields(Recipe)}
    values: dict[str, Any] = {}
    for name, text in assignments.items():
        if name not in types or name in ("name", "summary"):
            raise TrainingError(f"A recipe has no field {name!r}. Fields: {', '.join(types)}.")
        current = getattr(recipe, name)
        try:
            values[name] = None if (name, text) == ("weights", "none") else _parse(text, current)
        except ValueError:
            raise TrainingError(
                f"{name}={text!r} does not fit; the recipe {recipe.name!r} has {current!r}."
            ) from None
    return dataclasses.replace(recipe, **values)


def _parse(text: str, current: object) -> object:
    if isinstance(current, int):
        return int(text)
    if isinstance(current, float):
        return float(text)
    return text
