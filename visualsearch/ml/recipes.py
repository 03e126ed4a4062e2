"""Recipes as data: which trunk, text encoder, composer, loss and schedule make a checkpoint."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from visualsearch.exceptions import TrainingError
from visualsearch.ml.recipe_checks import contradictions


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train an encoder. `dataclasses.replace` makes variants."""

    name: str
    summary: str

    # -- image --
    trunk: str
    # a torchvision model name, "resnet10" (one block a stage), "resnet8" (three, for small images), or
    # "open_clip:" and a model of open_clip: its name, hf-hub:ORG/NAME or the path of a folder
    tower: str = ""
    # of a model of open_clip, its configuration as JSON; found when the model is loaded
    weights: str | None = None
    # None: from scratch; "DEFAULT": torchvision's (downloads); else the path of a weights file, or of a
    # checkpoint whose trunk it takes
    frozen: bool = False
    # the trunk keeps its weights, and what follows it learns on its cached features
    norms: Literal["batch", "fixed"] = "batch"
    # the trunk's batch norms learn from each batch, or keep the statistics of the weights
    image_size: int = 96
    # side of the square input, pixels
    width: int = 256
    # length of every vector; 0, where nothing is trained: the trunk's own
    nested_from: int = 0
    # the first so many numbers of a vector, twice, four times as many, learn to be vectors by themselves
    # (matryoshka, Kusupati et al., 2022); 0: only all of them
    head_hidden: int = 0
    # width of a hidden layer beside the linear projection of the image's features; 0: none
    head_dropout: float = 0.0
    # share of the features left out in each training step
    head_epochs: int = 0
    # after a trunk that learned: epochs of new heads on its cached features; 0: none
    head_batch: int = 512
    # images a step of those
    variations: int = 0
    # augmented views of each photo whose features are cached beside its own
    wild_variations: int = 0
    # the same of views that look like phone photos
    gradients: bool = False
    # beside the trunk: oriented gradients, the outline of a design whatever its colour
    colours: bool = False
    # beside the trunk: a histogram of the colours
    thumbnail: int = 0
    # side of the shallow branch's input, pixels (multi-scale, arXiv 1901.03546); 0: none
    trunk_pool: Literal["avg", "max"] = "avg"
    # how the trunk's last feature map becomes one vector
    scales: int = 0
    # shallow branches on the image at a 4th, an 8th … of its size (Wang et al., 2014); 0: none

    # -- text --
    text: Literal["gru", "bigru", "lstm", "conv", "tower", "none"] = "gru"
    text_dropout: float = 0.0
    # of the tokens' embeddings, for conv
    text_pool: Literal["last+mean", "last", "max"] = "last+mean"
    # of the token states: the last one beside the mean of the embeddings, it alone, or the largest
    vocabulary_size: int = 4_000
    text_length: int = 32
    # tokens
    texts: Literal["one", "two"] = "one"
    # of a product in each step: one of any form, or one that has its title and one that has not
    token_width: int = 256
    text_hidden: int = 256

    # -- composition --
    composer: Literal["tirg", "blend", "combiner", "sum", "none"] = "tirg"
    # sum: image + text, nothing to learn

    # -- objective --
    loss: Literal["contrastive", "batch_classification", "soft_triplet", "triplet"] = "contrastive"
    own_scales: bool = False
    # of contrastive: a learned scale each for texts, composed queries and second views
    margin: float = 0.2
    # of the triplet loss, between euclidean distances of unit vectors
    mining: Literal["random", "easy", "semihard", "hard", "all"] = "semihard"
    # the triplets of a batch that the triplet loss learns from
    text_weight: float = 1.0
    # image-text
    composed_weight: float = 1.0
    # image + modification -> image
    image_weight: float = 0.0
    # two photos, or two views, of one product
    attribute_weight: float = 0.0
    # attribute values read off the image vector by linear classifiers
    value_weight: float = 0.0
    # kinds and attribute values told apart by the text vectors of their names, rare ones as well
    neighbour_weight: float = 0.0
    # images of one kind, group and attributes drawn together, by how much they share
    second_views: float = 0.0
    # share of a batch that shows a product of the batch a second time
    kind_pairs: float = 0.3
    # share of the groups whose products are paired by kind instead of by group
    title_pairs: float = 0.0
    # share of those without a cluster of their group that are paired with a title one word apart
    hard_negatives: float = 0.0
    # share of a batch drawn as products that the network, a pass ago, took for each other
    sampler: Literal["clusters", "triplets"] = "clusters"
    # a batch of variants with their texts, or of (query, positive, negative) photos
    in_class_negatives: float = 0.7
    # share of the sampled triplets whose negative is of the query's kind
    wild_views: float = 0.0
    # share of the query views that are made to look like phone photos
    wild_photos: float = 0.0
    # share of the photos that texts are learned from which are made to look like phone photos

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
    validation: float = 0.05
    # share of the groups, of at most 500 products, that each epoch is measured on; 0: none
    patience: int = 0
    # epochs without a better validation MRR after which the best one is kept; 0: train to the end

    def __post_init__(self) -> None:
        for name, choice in typing.get_type_hints(Recipe).items():
            allowed = typing.get_args(choice)
            if typing.get_origin(choice) is Literal and getattr(self, name) not in allowed:
                raise TrainingError(
                    f"{name}={getattr(self, name)!r} is none of the choices of recipe "
                    f"{self.name!r}: {', '.join(allowed)}."
                )

        for problem in contradictions(self):
            raise TrainingError(f"Recipe {self.name!r}: {problem}")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="default",
            summary="Residual network from scratch, then heads on it and on descriptors.",
            trunk="resnet8",
            image_size=64,
            gradients=True,
            colours=True,
            head_hidden=1024,
            head_dropout=0.2,
            head_epochs=15,
            wild_variations=2,
            text="conv",
            text_dropout=0.1,
            texts="two",
            image_weight=0.5,
            attribute_weight=0.5,
            neighbour_weight=1.0,
            second_views=0.15,
            wild_views=0.5,
            title_pairs=0.5,
            epochs=15,
            min_steps=400,
            average=0.995,
        ),
        Recipe(
            name="tirg",
            summary="Vo et al., CVPR 2019: ResNet-50, LSTM, batch-based classification, SGD.",
            trunk="resnet50",
            weights="DEFAULT",
            image_size=224,
            width=512,
            text="lstm",
            text_pool="last",
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
            name="triplet-bigru",
            summary="ResNet-18, bidirectional GRU, euclidean triplet loss with mined triplets.",
            trunk="resnet18",
            weights="DEFAULT",
            image_size=160,
            text="bigru",
            text_pool="max",
            composer="sum",
            loss="triplet",
            margin=0.2,
            mining="semihard",
            composed_weight=0.0,
            image_weight=0.5,
            second_views=0.25,
            batch=128,
            trunk_lr=0.1,
        ),
        Recipe(
            name="triplet-gru",
            summary="ResNet-50 and GRU with global max pooling, triplet loss, random negatives.",
            trunk="resnet50",
            weights="DEFAULT",
            trunk_pool="max",
            image_size=224,
            text="gru",
            text_pool="max",
            composer="sum",
            loss="triplet",
            margin=0.4,
            mining="random",
            composed_weight=0.0,
            image_weight=0.5,
            second_views=0.25,
            batch=64,
            trunk_lr=0.1,
        ),
        Recipe(
            name="siamese",
            summary="Multi-scale VGG16 (arXiv 1901.03546), 4096-d, in-class and out-of-class triplets.",
            trunk="vgg16",
            weights="DEFAULT",
            scales=2,
            image_size=224,
            width=4096,
            text="none",
            text_length=0,
            composer="none",
            loss="triplet",
            margin=0.4,
            mining="random",
            sampler="triplets",
            wild_views=0.5,
            text_weight=0.0,
            composed_weight=0.0,
            image_weight=1.0,
            batch=96,
            lr=3e-4,
            trunk_lr=0.1,
        ),
        Recipe(
            name="pretrained-knn",
            summary="VGG16's last hidden layer with ImageNet weights, no training, images only.",
            trunk="vgg16",
            weights="DEFAULT",
            image_size=224,
            width=0,
            text="none",
            text_length=0,
            composer="none",
            optimizer="none",
            epochs=0,
        ),
        Recipe(
            name="foundation",
            summary="A model of open_clip, its towers frozen; adapters and TIRG learn on the catalogue.",
            trunk="open_clip:hf-hub:Marqo/marqo-fashionSigLIP",
            weights="DEFAULT",
            frozen=True,
            image_size=224,
            width=0,
            head_hidden=1024,
            head_dropout=0.1,
            text="tower",
            image_weight=0.5,
            neighbour_weight=0.5,
            second_views=0.15,
            variations=1,
            wild_variations=1,
            batch=512,
            epochs=20,
            min_steps=200,
            trunk_lr=0.01,
            average=0.995,
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


def override(recipe: Recipe, assignments: Mapping[str, object]) -> Recipe:
    """`recipe` with fields set, also from strings: ``--set trunk=resnet18 --set weights=none``."""
    types = {field.name: field for field in dataclasses.fields(Recipe)}
    values: dict[str, Any] = {}
    for name, value in assignments.items():
        text = "none" if value is None else str(value)
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
    if isinstance(current, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if isinstance(current, int):
        return int(text)
    if isinstance(current, float):
        return float(text)
    return text
