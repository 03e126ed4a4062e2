"""Recipes are data, found by name and changed by field."""

from __future__ import annotations

import dataclasses
import json

import pytest

from visualsearch.exceptions import TrainingError
from visualsearch.ml.recipes import RECIPES, get_recipe, override, recipe_from


def test_get_recipe__an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(TrainingError, match="default, tirg, pretrained-knn"):
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


def test_override__parses_by_the_field_and_names_what_does_not_fit() -> None:
    recipe = override(get_recipe("tirg"), {"weights": "none", "batch": "8", "lr": "0.5"})
    assert recipe == dataclasses.replace(get_recipe("tirg"), weights=None, batch=8, lr=0.5)
    with pytest.raises(TrainingError, match="batch='many'"):
        override(recipe, {"batch": "many"})
    with pytest.raises(TrainingError, match=r"text=.transformer. is none of .*: gru, lstm, none"):
        override(recipe, {"text": "transformer"})
    with pytest.raises(TrainingError, match="no field 'nope'"):
        override(recipe, {"nope": "1"})
