"""Checkpoints of random weights, as fast as trained ones: for benchmarks that ask nothing of quality."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def make(
    recipe_name: str, *, name: str, seed: int = 0, export: bool = False, **overrides: Any
) -> Any:
    """A checkpoint being indexed, its files and partitions in place; one of that name is replaced.

    `export`: with the graphs that web processes encode queries with, which takes some seconds.
    `overrides` are fields of the recipe.
    """
    import torch

    from visualsearch.conf import get_settings
    from visualsearch.ml import checkpoints, tokenizer
    from visualsearch.ml.encoders import VisualEncoder
    from visualsearch.ml.export import export_onnx
    from visualsearch.ml.manifest import Manifest
    from visualsearch.ml.recipes import get_recipe
    from visualsearch.models import Checkpoint
    from visualsearch.photos.images import PREPROCESSING

    remove(name)
    recipe = dataclasses.replace(get_recipe(recipe_name), weights=None, **overrides)
    tokens = tokenizer.train(["a"], vocabulary_size=300, text_length=recipe.text_length or 1)
    reads = recipe.text != "none"
    torch.manual_seed(seed)
    network = VisualEncoder(
        recipe, vocabulary_size=tokens.vocabulary_size if reads else 0, weights=None
    )
    with checkpoints.writing(get_settings().CHECKPOINT_ROOT / name) as temporary:
        checkpoints.save_weights(network, temporary)
        tokens.save(temporary / tokenizer.TOKENIZER_NAME)
        if export:
            export_onnx(network, temporary)
        Manifest(
            recipe=recipe.name,
            options=recipe.as_dict(),
            width=recipe.width,
            image_size=recipe.image_size,
            preprocessing=PREPROCESSING,
            text_length=recipe.text_length if reads else 0,
            parameters=network.parameter_count(),
            attributes={},
        ).write(temporary)
    checkpoint = Checkpoint.objects.create(
        name=name,
        folder=name,
        recipe=recipe.name,
        state=Checkpoint.State.BUILDING,
        width=recipe.width,
        image_size=recipe.image_size,
        preprocessing=PREPROCESSING,
    )
    return checkpoint


def index(checkpoint: Any, *, live: bool) -> None:
    """What a training run does once it has a checkpoint: embed, index, probe, neighbours, words, promote."""
    from visualsearch.lifecycle import promotion, recall
    from visualsearch.models import Checkpoint
    from visualsearch.search import spelling
    from visualsearch.tables import partitions
    from visualsearch.upkeep import indexing, neighbours

    indexing.embed_checkpoint(checkpoint)
    partitions.build_ann_index(checkpoint)
    recall.probe_if_possible(checkpoint)
    neighbours.compute(checkpoint)
    spelling.collect()
    Checkpoint.objects.filter(pk=checkpoint.pk).update(state=Checkpoint.State.READY)
    checkpoint.refresh_from_db()
    if live:
        promotion.promote(checkpoint)


def remove(name: str) -> None:
    """Delete the checkpoint of that name, with its partitions and files, if there is one."""
    from visualsearch.conf import get_settings
    from visualsearch.models import Checkpoint
    from visualsearch.tables import partitions

    for checkpoint in Checkpoint.objects.filter(name=name):
        partitions.drop(checkpoint)
        checkpoint.delete()
    shutil.rmtree(get_settings().CHECKPOINT_ROOT / name, ignore_errors=True)


@contextmanager
def temporary(recipe_name: str, *, name: str, **options: Any) -> Iterator[Any]:
    """As `make`; gone afterwards."""
    try:
        yield make(recipe_name, name=name, **options)
    finally:
        remove(name)
