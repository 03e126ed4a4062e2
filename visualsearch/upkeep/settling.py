"""Gives claimed products back: at once, when an editor lets go of them, or when the database is back."""

from __future__ import annotations

import random
import time
from typing import Any

from django.db import InterfaceError, OperationalError, connections, router

from visualsearch.models import IndexEntry
from visualsearch.upkeep import claiming
from visualsearch.upkeep.claiming import Outcome

DATABASE_RETRIES = (0.2, 1.0, 3.0)
"""Seconds until a batch is given back once more after the database went away."""

Unsettled = list[tuple[Any, list[Outcome]]]
"""(lease, outcomes) of batches whose rows somebody else holds just now."""


def settle_all(unsettled: Unsettled) -> Unsettled:
    """Give back what can be given back now; the rest."""
    left = [(lease, claiming.settle(lease, outcomes)) for lease, outcomes in unsettled]
    return [(lease, outcomes) for lease, outcomes in left if outcomes]


def insist(unsettled: Unsettled) -> None:
    """Give back what an editor's transaction held until now, or leave it to the lease's end."""
    for _ in range(20):
        if not unsettled:
            return
        time.sleep(0.1)
        unsettled = settle_all(unsettled)


def after_database_fault(lease: Any, outcomes: list[Outcome]) -> None:
    """Take the attempts back once the database answers again; else the lease's end does it."""
    connection = connections[router.db_for_write(IndexEntry)]
    for seconds in DATABASE_RETRIES:
        if connection.in_atomic_block:
            return
        connection.close()
        time.sleep(seconds * random.uniform(0.5, 1.5))
        try:
            claiming.settle(lease, outcomes)
            return
        except (OperationalError, InterfaceError):
            continue
