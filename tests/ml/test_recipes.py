"""Recipes are data, found by name and changed by field."""

from __future__ import annotations

import dataclasses
import json

import pytest

from visualsearch.exceptions import TrainingError
from visualsearch.ml.recipes import RECIPES, get_recipe, override, recipe_from


def test_get_recipe__an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(TrainingError, match=", ".join(RECIPES)):
        get_recipe("nope")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_from__a_recipe_survives_json(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe_from(json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_tirg__has_the_settings_of_the_paper() -> None:
    recipe = get_recipe("tirg")
    assert (recipe.width, recipe.token_width, recipe.text_hidden) == (512, 512, 512)
    assert (recipe.optimizer, recipe.lr, recipe.trunk_lr, recipe.momentum) == (
        "sgd",
        0.01,
        0.1,
        0.9,
    )
    assert (recipe.batch, recipe.text, recipe.loss) == (32, "lstm", "batch_classification")
    # The state at the last token alone, and s · f/‖f‖ on both sides.
    assert (recipe.text_pool, recipe.composer) == ("last", "tirg")


@pytest.mark.parametrize("trunk", ["efficientnet_b0", "resnet50"])
@pytest.mark.parametrize("loss", ["batch_classification", "soft_triplet"])
def test_tirg__with_either_trunk_and_either_loss(trunk: str, loss: str) -> None:
    recipe = override(get_recipe("tirg"), {"trunk": trunk, "loss": loss})
    assert (recipe.trunk, recipe.loss) == (trunk, loss)


def test_published_systems__have_what_they_are_known_for() -> None:
    bigru, gru, siamese = (get_recipe(n) for n in ("triplet-bigru", "triplet-gru", "siamese"))
    assert (bigru.trunk, bigru.weights, bigru.text) == ("resnet18", "DEFAULT", "bigru")
    assert (gru.trunk, gru.trunk_pool, gru.text, gru.text_pool) == ("resnet50", "max", "gru", "max")
    assert (gru.margin, gru.mining) == (0.4, "random")
    assert (siamese.scales, siamese.width, siamese.in_class_negatives) == (2, 4096, 0.7)
    assert {recipe.loss for recipe in (bigru, gru, siamese)} == {"triplet"}


def test_recipe_from__options_of_an_older_checkpoint_mean_what_they_meant() -> None:
    options = get_recipe("default").as_dict()
    newer = ("trunk_pool", "scales", "text_pool", "margin", "mining", "sampler", "wild_views")
    old = {name: value for name, value in options.items() if name not in newer}
    recipe = recipe_from(old)
    assert (recipe.trunk_pool, recipe.scales, recipe.text_pool) == ("avg", 0, "last+mean")
    assert (recipe.sampler, recipe.wild_views) == ("clusters", 0.0)


@pytest.mark.parametrize(
    ("name", "changes", "fix"),
    [
        ("default", {"text": "none"}, "composer=none, or text=gru"),
        ("default", {"composer": "none"}, "composer=sum"),
        ("default", {"text_length": 0}, "text_length=32"),
        (
            "default",
            {"frozen": True, "wild_variations": 0, "wild_photos": 0.2},
            "wild_variations=2",
        ),
        ("tirg", {"composer": "sum"}, "composer=tirg, or loss=contrastive"),
        ("siamese", {"loss": "contrastive"}, "loss=triplet, or sampler=clusters"),
        ("siamese", {"text": "gru", "composer": "sum", "text_length": 8}, "text=none"),
        ("siamese", {"mining": "hard"}, "mining=random"),
        ("siamese", {"image_weight": 0.0}, "image_weight=1"),
        ("siamese", {"batch": 2}, "batch=96"),
        ("siamese", {"small_first": 0.5}, "small_first=0"),
        ("siamese", {"image_size": 8}, "image_size=32, or scales=0"),
        ("siamese", {"in_class_negatives": 1.5}, "from 0 to 1"),
        ("triplet-gru", {"margin": 2.5}, "margin=0.2"),
        ("triplet-gru", {"margin": 0.0}, "margin=0.2"),
        ("triplet-gru", {"text_weight": 0.0, "image_weight": 0.0}, "image_weight=1"),
    ],
)
def test_recipe__what_cannot_train_is_refused_with_the_fix(
    name: str, changes: dict[str, object], fix: str
) -> None:
    with pytest.raises(TrainingError, match=f"Recipe '{name}': .*{fix}"):
        dataclasses.replace(get_recipe(name), **changes)  # type: ignore[arg-type]


def test_override__parses_by_the_field_and_names_what_does_not_fit() -> None:
    recipe = override(get_recipe("tirg"), {"weights": "none", "batch": "8", "lr": "0.5"})
    assert recipe == dataclasses.replace(get_recipe("tirg"), weights=None, batch=8, lr=0.5)
    with pytest.raises(TrainingError, match="batch='many'"):
        override(recipe, {"batch": "many"})
    with pytest.raises(
        TrainingError, match=r"text=.transformer. is none of .*: gru, bigru, lstm, "
    ):
        override(recipe, {"text": "transformer"})
    with pytest.raises(TrainingError, match="no field 'nope'"):
        override(recipe, {"nope": "1"})
