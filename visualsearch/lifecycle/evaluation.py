"""A checkpoint's figures on the products that training never sees, as they are kept in rows."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualsearch import encoding
from visualsearch.conf import get_settings
from visualsearch.exceptions import EncoderUnavailableError, TrainingError
from visualsearch.lifecycle import export_checks, gate
from visualsearch.lifecycle.gate import Metrics
from visualsearch.lifecycle.verdict import Verdict
from visualsearch.models import Checkpoint
from visualsearch.onnx_encoder import OnnxEncoder
from visualsearch.tables import judgements

if TYPE_CHECKING:
    from visualsearch.lifecycle.examples import Examples
    from visualsearch.ml.data import Catalogue
    from visualsearch.ml.report import Report

logger = logging.getLogger(__name__)


def evaluate(
    checkpoint: Checkpoint, found: Examples, *, with_baselines: bool = True, whole: bool = False
) -> Report:
    """The report of `checkpoint` on the held-out products among `found`.

    With `whole` texts and composed queries are also looked for in all of `found`.
    """
    from visualsearch.ml.evaluate import evaluate as report_on

    held = held_out(found)
    if not held.items:
        raise TrainingError("There are no products with photos to evaluate on: add some.")
    encoder: Any = encoding.bulk_encoder(checkpoint)
    return report_on(
        encoder,
        held,
        with_baselines=with_baselines,
        whole=found.catalogue if whole else None,
    )


def held_out(found: Examples) -> Catalogue:
    """The products that training never sees; all of them where they are too few to be split."""
    from visualsearch.ml.data import split
    from visualsearch.ml.train import MIN_HOLDOUT

    parts = split(found.catalogue)
    enough = min(len(parts.holdout.items), len(parts.train.items)) >= MIN_HOLDOUT
    return parts.holdout if enough or not parts.train.items else found.catalogue


def judge(figures: Metrics, report: Report, *, live: Report | None) -> Verdict:
    """The gate's verdict on a checkpoint, compared query by query with the live one's report.

    `figures`: the checkpoint's report as a dictionary, with what was measured of its export.
    """
    from visualsearch.ml.compare import changes

    if live is None:
        return gate.judge(figures)
    try:
        paired = changes(live, report)
    except TrainingError as error:  # then their own intervals have to do
        logger.warning("Not compared query by query: %s", error)
        paired = None
    return gate.judge(figures, live=live.as_dict(), changes=paired)


def serving(folder: Path, found: Examples, *, live: Checkpoint | None) -> dict[str, float]:
    """The exported encoder in `folder` against its network on held-out photos, and its speed.

    `latency_ratio` is against the live checkpoint's, in the same minute; it is left out where that
    reads photos of another size, or the machine is too busy to measure on. Empty where web
    processes use no exported encoder.
    """
    from visualsearch.ml.export import IMAGE_GRAPH
    from visualsearch.ml.inference import TorchEncoder

    if get_settings().ENCODER or not (folder / IMAGE_GRAPH).is_file():
        return {}
    held = held_out(found)
    photos = held.pixels[[item.images[0] for item in held.items[: export_checks.PHOTOS]]]
    try:
        exported = OnnxEncoder(folder)
        network = TorchEncoder(folder, device="cpu")
        result = export_checks.agreement(
            network.encode_image(photos), exported.encode_image(photos)
        )
        if live is not None and live.image_size == exported.image_size:
            other = OnnxEncoder(get_settings().CHECKPOINT_ROOT / live.folder)
            ratio = export_checks.latency_ratio(exported, other, photos[:1])
            if ratio is not None:
                result["latency_ratio"] = ratio
    except EncoderUnavailableError as error:
        logger.warning("The exported encoder could not be measured: %s", error.message)
        return {}
    return result


def judged(folder: Path, found: Examples, *, live: Checkpoint | None) -> dict[str, float]:
    """How far the network in `folder`, and the live one, agree with staff's judgements.

    Of all products, as people judge what they happen to see: mind that training has seen them.
    """
    from visualsearch.ml.inference import TorchEncoder

    mine = judgements.agreement(TorchEncoder(folder, device="cpu"), found.catalogue)
    if mine and live is not None and live.image_size == found.catalogue.image_size:
        theirs = judgements.agreement(encoding.bulk_encoder(live), found.catalogue)
        mine["live_auc"] = theirs["auc"]
    return mine


def clean(value: Any) -> Any:
    """`value` for a JSON column: what Postgres does not take (NaN, infinity) becomes null."""
    if isinstance(value, dict):
        return {str(name): clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
