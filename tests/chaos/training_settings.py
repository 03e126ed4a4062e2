"""Settings of workers that train: those of chaos, and a recipe that takes seconds."""

from tests.chaos.settings import *  # noqa: F403
from tests.tiny_recipe import TINY
from visualsearch.ml.recipes import RECIPES

RECIPES[TINY.name] = TINY
