"""A checkpoint's figures on the products that training never sees, as they are kept in rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from visualsearch import encoding
from visualsearch.exceptions import TrainingError
from visualsearch.models import Checkpoint

if TYPE_CHECKING:
    from visualsearch.examples import Examples
    from visualsearch.ml.data import Catalogue


def evaluate(checkpoint: Checkpoint, found: Examples, *, with_baselines: bool = True) -> Any:
    """The `ml.evaluate.Report` of `checkpoint` on the held-out products among `found`."""
    from visualsearch.ml.evaluate import evaluate as report_on

    held = held_out(found)
    if not held.items:
        raise TrainingError("There are no products with photos to evaluate on: add some.")
    encoder: Any = encoding.bulk_encoder(checkpoint)
    return report_on(encoder, held, with_baselines=with_baselines)


def held_out(found: Examples) -> Catalogue:
    """The products that training never sees; all of them where they are too few to be split."""
    from visualsearch.ml.data import split
    from visualsearch.ml.train import MIN_HOLDOUT

    parts = split(found.catalogue)
    enough = min(len(parts.holdout.items), len(parts.train.items)) >= MIN_HOLDOUT
    return parts.holdout if enough or not parts.train.items else found.catalogue


def clean(value: Any) -> Any:
    """`value` for a JSON column: what Postgres does not take (NaN, infinity) becomes null."""
    if isinstance(value, dict):
        return {str(name): clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
