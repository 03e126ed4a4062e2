"""Catalogue changes that go through Django ring the doorbell once they are committed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save

from visualsearch.indexes import VisualIndex, registered, resolve_path
from visualsearch.tables import reach
from visualsearch.upkeep import doorbell


def connect() -> None:
    """Listen to the registered products, their related rows and those that their paths cross.

    What Django does not see (bulk writes, SQL) is noted by the row triggers all the same, and
    found when the workers next look.
    """
    for model, index in registered().items():
        for sender in (model, *_related_models(index)):
            for signal in (post_save, post_delete):
                signal.connect(_catalogue_changed, sender=sender, dispatch_uid=__name__)
            if sender._meta.auto_created:  # the table of a many-to-many
                m2m_changed.connect(_catalogue_changed, sender=sender, dispatch_uid=__name__)


def _related_models(index: VisualIndex) -> Iterator[type[Model]]:
    for accessor in index.related:
        try:
            related = resolve_path(index.model, accessor)[-1].related_model
        except FieldDoesNotExist:
            continue  # the check visualsearch.E008 says so, if this does not keep it from running
        if isinstance(related, type):
            yield related
    yield from (reached.model for reached in reach.reached_tables(index))


def _catalogue_changed(*, using: str, action: str = "post_", **_kwargs: Any) -> None:
    if action.startswith("post_"):  # of a many-to-many, once it is written
        transaction.on_commit(_ring, using=using, robust=True)


def _ring() -> None:
    doorbell.ring("embed")
