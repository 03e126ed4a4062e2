"""Evaluations of one or more checkpoints as text, JSON and a page: what both commands print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visualsearch.exceptions import TrainingError
from visualsearch.ml import compare
from visualsearch.ml.data import Catalogue
from visualsearch.ml.judge import ImageTextEncoder
from visualsearch.ml.report import Report
from visualsearch.ml.report_page import write_page


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One checkpoint and what came of it."""

    name: str
    report: Report
    encoder: ImageTextEncoder
    catalogue: Catalogue
    # what was evaluated, at the checkpoint's image size


def check_comparison(names: Sequence[str]) -> None:
    """Raises TrainingError unless there are two to compare."""
    if len(names) != 2 or len(set(names)) != 2:
        raise TrainingError(
            f"--compare takes two different checkpoints, not {', '.join(names) or 'none'}."
        )


def tables(found: Sequence[Evaluated], *, comparison: bool) -> Iterator[str]:
    """The joint table of several checkpoints, and with `comparison` that of two, paired."""
    if comparison:
        first, second = found
        changes = compare.changes(first.report, second.report)
        yield compare.difference_table(changes, names=(first.name, second.name))
    elif len(found) > 1:
        yield compare.joint_table({each.name: each.report for each in found})


def as_dict(found: Sequence[Evaluated], *, comparison: bool) -> dict[str, Any]:
    """Name -> report; with `comparison` {"before", "after", "changes"} under that name."""
    figures: dict[str, Any] = {each.name: each.report.as_dict() for each in found}
    if comparison:
        first, second = found
        changes = compare.changes(first.report, second.report)
        figures["comparison"] = {
            "before": first.name,
            "after": second.name,
            "changes": compare.as_dicts(changes),
        }
    return figures


def write_html(path: Path, found: Sequence[Evaluated]) -> None:
    """The page of the last one; of two, with the changes from the first."""
    last = found[-1]
    first = found[0] if len(found) == 2 else None
    write_page(
        path,
        last.report,
        last.encoder,
        last.catalogue,
        title=f"Evaluation of {last.name}",
        changes=compare.changes(first.report, last.report) if first else (),
        compared_with=first.name if first else "",
    )
