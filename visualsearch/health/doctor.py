"""Examines an installation, what it needs to run and what its tables must keep, and repairs what can be."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

from django.core import checks
from django.db import router

from visualsearch import encoding
from visualsearch.conf import get_settings
from visualsearch.exceptions import VisualSearchError
from visualsearch.health import ann_index, invariants, status, sweeping
from visualsearch.health.findings import Finding, error, ok, warning
from visualsearch.indexes import get_index
from visualsearch.lifecycle import promotion, recall
from visualsearch.models import Checkpoint, IndexEntry
from visualsearch.tables import capture, documents, partitions

WARN_FREE_BYTES = 2 * 1024**3


def examine(*, ask_workers: bool = True) -> list[Finding]:
    """Everything there is to find; one that cannot be looked at is an error of its own."""
    questions: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("configuration", _configuration),
        ("capture", _capture),
        ("files", _files),
        ("checkpoint", _checkpoint),
        ("index", ann_index.examine),
        ("I1", invariants.every_product_accounted_for),
        ("I2", invariants.no_ghosts),
        ("I3", invariants.unit_vectors),
        ("I4", invariants.one_live_checkpoint),
        ("I5", invariants.at_rest),
        ("words", invariants.words_written),
    ]
    if ask_workers:
        questions.append(("workers", _workers))
    found: list[Finding] = []
    for name, question in questions:
        try:
            found += list(question())
        except Exception as fault:
            found.append(error(name, f"could not be examined: {type(fault).__name__}: {fault}"))
    return found


def fix() -> dict[str, int]:
    """Repair what can be repaired by looking again; how much of each there was.

    Vectors that may not be there are deleted, and their products opened again, as are those that
    no trigger saw; workers do the rest. An index that lost too much recall is built anew.
    """
    triggers = capture.missing_triggers(get_index(), using=_alias())
    repaired = {"index rebuilt": 0, "triggers": len(triggers)}
    unknown = capture.open_missing_entries(get_index(), using=_alias())
    capture.install(get_index(), using=_alias())
    documents.install(get_index(), using=_alias())
    live = Checkpoint.objects.live()
    if live is not None and partitions.exists(live) and ann_index.wants_rebuild(live):
        partitions.rebuild_ann_index(live)
        recall.probe_if_possible(live)
        repaired["index rebuilt"] = 1
    swept = sweeping.sweep()
    return repaired | swept | {"unknown": unknown + swept["unknown"]}


def _configuration() -> Iterator[Finding]:
    problems = [
        message
        for message in checks.run_checks(databases=[_alias()])
        if (message.id or "").startswith("visualsearch.")
    ]
    for message in problems:
        level = "error" if message.is_serious() else "warning"
        hint = f" {message.hint}" if message.hint else ""
        text = f"{message.id}: {message.msg}{hint}"
        yield Finding(name="configuration", level=level, count=1, message=text)
    if not problems:
        yield ok("configuration", "settings and declaration pass the system checks")


def _capture() -> Iterator[Finding]:
    missing = capture.missing_triggers(get_index(), using=_alias())
    if missing:
        yield error(
            "capture",
            f"no trigger notes changes of {', '.join(missing)}: run migrate, or --fix",
            count=len(missing),
        )
    else:
        yield ok("capture", "triggers note every change of the catalogue")


def _files() -> Iterator[Finding]:
    root = get_settings().CHECKPOINT_ROOT
    if not root.is_dir():
        yield warning("files", f"{root} does not exist yet; the first training makes it")
        return
    free = shutil.disk_usage(root).free
    text = f"{free / 1e9:.1f} GB are free below {root}"
    yield warning("files", text) if free < WARN_FREE_BYTES else ok("files", text)


def _checkpoint() -> Iterator[Finding]:
    live = Checkpoint.objects.live()
    if live is None:
        yield warning(
            "checkpoint", "none is live: train one with visualsearch_train or in the admin"
        )
        return
    try:
        promotion.check_files(live)
        encoding.query_encoder(live)
    except VisualSearchError as fault:
        yield error(
            "checkpoint",
            f"{live} is live and cannot be run here, so words are answered without it and photos "
            f"not at all: {fault}",
        )
        return
    yield ok("checkpoint", f"{live} (recipe {live.recipe}) is live and its files are unaltered")


def _workers() -> Iterator[Finding]:
    names = status.workers()
    if names is None:
        yield warning("workers", "the broker does not answer; workers find their work all the same")
    elif not names:
        yield warning(
            "workers",
            "none answers: start some, `celery -A YOURPROJECT worker -B -Q embed,interactive,train`",
        )
    else:
        yield ok("workers", f"{len(names)} answer: {', '.join(names)}")


def _alias() -> str:
    return router.db_for_write(IndexEntry)
