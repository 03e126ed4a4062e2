"""Whether a match means the same after a retrain: reliability of two checkpoints on held-out pairs.

The pairs are hits of the evaluation's held-out queries, and their matches come from a curve that
was fitted on the other half of these queries (`visualsearch.ml.calibration`). For each threshold:
the share of right hits among those that reach it, with its 95 % interval, before and after; and
what the cosine that this match was before means after: what a shop would get that had written the
cosine down.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import record, stack

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LEAST_PAIRS = 30
"""Of fewer hits at or above a threshold nothing is said."""


def run(
    *,
    name: str,
    folders: list[Path],
    epochs: int | None,
    seed: int,
    write: bool = True,
) -> dict[str, Any]:
    """Write results/calibration_NAME.json.

    `folders` are two checkpoints of the same catalogue; without them the live checkpoint of `name`
    is compared with one that is trained here with another seed.
    """
    if folders:
        before, after = (_of_folder(folder) for folder in folders)
    else:
        with stack.start(name) as services:
            os.environ.update(services.environment)
            import django

            django.setup()
            before = _of_newest()
            few = ["--epochs", str(epochs)] if epochs else []
            services.manage("visualsearch_train", "--no-promote", "--seed", str(seed), *few)
            after = _of_newest()
    figures = compare(before, after)
    _print(figures)
    if write:
        print(f"written to {record.write(f'calibration_{name}', figures)}")
    return figures


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """By kind of query, both reliability curves and both precisions at each threshold.

    `before` and `after` are what a checkpoint keeps as `metrics["calibration"]`.
    """
    from visualsearch.search.calibration import Curve

    kinds: dict[str, Any] = {}
    for kind in before:
        if kind not in after:
            continue
        old, new = Curve.read(before[kind]), Curve.read(after[kind])
        assert old is not None and new is not None
        thresholds = {}
        for threshold in THRESHOLDS:
            first, second = _at(before[kind], threshold), _at(after[kind], threshold)
            if first is None or second is None:
                continue
            cosine = old.score_at(threshold)
            thresholds[f"{threshold:g}"] = {
                "before": first,
                "after": second,
                # Two shares of samples this large: their intervals have something in common.
                "same_within_the_intervals": first["low"] <= second["high"]
                and second["low"] <= first["high"],
                "match_after_of_the_same_cosine": round(new.match(cosine), 4),
            }
        kinds[kind] = {
            "expected_error": {"before": before[kind]["error"], "after": after[kind]["error"]},
            "thresholds": thresholds,
            "reliability": {
                "before": before[kind]["reliability"],
                "after": after[kind]["reliability"],
            },
        }
    every = [each for kind in kinds.values() for each in kind["thresholds"].values()]
    if not every:
        raise SystemExit(
            "No kind of query has enough held-out hits in both: train on more products."
        )
    return {
        "same_precision_at_every_threshold": all(e["same_within_the_intervals"] for e in every),
        "thresholds": len(every),
        "thresholds_with_the_same_precision": sum(e["same_within_the_intervals"] for e in every),
        "kinds": kinds,
    }


def _at(found: Mapping[str, Any], threshold: float) -> dict[str, Any] | None:
    """Precision of the held-out hits whose match is `threshold` at least, a level's border."""
    from visualsearch.ml.calibration import wilson

    lines = [line for line in found["reliability"] if line["match"] >= threshold]
    pairs = sum(line["pairs"] for line in lines)
    if pairs < LEAST_PAIRS:
        return None
    share = sum(line["pairs"] * line["precision"] for line in lines) / pairs
    low, high = wilson(share, pairs)
    return {
        "precision": round(share, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "pairs": pairs,
        "mean_match": round(sum(line["pairs"] * line["match"] for line in lines) / pairs, 4),
    }


def _of_folder(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "checkpoint.json").read_text())["metrics"]
    return _calibration(metrics, str(folder))


def _of_newest() -> dict[str, Any]:
    from visualsearch.models import Checkpoint

    checkpoint = Checkpoint.objects.order_by("-pk").first()
    if checkpoint is None:
        raise SystemExit("Nothing is trained: run `python -m benchmarks.pipeline` first.")
    return _calibration(checkpoint.metrics, checkpoint.name)


def _calibration(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = metrics.get("calibration")
    if not found:
        raise SystemExit(f"{name} has no calibration: its catalogue was too small to fit one.")
    return dict(found)


def _print(figures: dict[str, Any]) -> None:
    for kind, found in figures["kinds"].items():
        for threshold, row in found["thresholds"].items():
            before, after = row["before"], row["after"]
            print(
                f"{kind:9s} match >= {threshold:4s} right before {before['precision']:.3f} "
                f"[{before['low']:.3f}, {before['high']:.3f}]  after {after['precision']:.3f} "
                f"[{after['low']:.3f}, {after['high']:.3f}]  "
                f"{'same' if row['same_within_the_intervals'] else 'NOT the same'}; "
                f"the same cosine would be {row['match_after_of_the_same_cosine']:.2f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="drawn", help="of what benchmarks.pipeline trained")
    parser.add_argument(
        "--checkpoints", type=Path, nargs=2, default=[], dest="folders", help="before and after"
    )
    parser.add_argument("--epochs", type=int, help="of the retrain")
    parser.add_argument("--seed", type=int, default=1, help="of the retrain")
    run(**vars(parser.parse_args()))
