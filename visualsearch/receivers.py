"""Catalogue changes that go through Django ring the doorbell once they are committed."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save

from visualsearch import doorbell
from visualsearch.indexes import registered, resolve_path


def connect() -> None:
    """Listen to the registered products and their related rows.

    What Django does not see (bulk writes, SQL) is noted by the row triggers all the same, and
    found when the workers next look.
    """
    for model, index in registered().items():
        related = (resolve_path(model, accessor)[-1].related_model for accessor in index.related)
        for sender in (model, *related):
            for signal in (post_save, post_delete):
                signal.connect(_catalogue_changed, sender=sender, dispatch_uid=__name__)


def _catalogue_changed(*, using: str, **_kwargs: Any) -> None:
    transaction.on_commit(_ring, using=using, robust=True)


def _ring() -> None:
    doorbell.ring("embed")
