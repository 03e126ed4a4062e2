"""Keeps a worker's hold on the products that it claimed, for as long as its work goes on.

A batch may take longer than its lease: a large one, a slow storage, a cold network. The lease is
renewed meanwhile from a thread of its own. A process that is frozen or gone renews nothing, and
neither does one that hangs: then another takes the products over, and what the first one still
writes is refused by the database (`storing`, `claiming.settle`), however late it wakes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from django.db import Error, connections, router

from visualsearch.exceptions import LeaseLostError
from visualsearch.models import IndexEntry
from visualsearch.upkeep import claiming
from visualsearch.upkeep.claiming import Claim

logger = logging.getLogger(__name__)

RENEWALS = 3
"""How often a lease is renewed in the time it lasts."""
HUNG_AFTER = 5
"""Work that has not come one photo further in so many times LEASE_SECONDS is taken to hang."""

JOIN_SECONDS = 5.0


class Lease:
    """The lease of one batch of claims: renewed while the block lasts.

    `step` has to be called as the work goes on. It raises LeaseLostError once every product of the
    batch is somebody else's or gone; those that are lost one by one are refused when written.
    """

    def __init__(self, claims: Sequence[Claim], *, seconds: float) -> None:
        self.token = claims[0].lease
        self.seconds = seconds
        self._product_ids: list[Any] = [claim.product_id for claim in claims]
        self._stepped = time.monotonic()
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=JOIN_SECONDS)

    def step(self) -> None:
        """The work has come further: LeaseLostError if it is no longer ours; no query."""
        self._stepped = time.monotonic()
        if self._lost.is_set():
            raise LeaseLostError(
                f"The lease of {len(self._product_ids)} products ended while they were indexed, "
                "and another worker has them now: nothing more of this batch is kept."
            )

    def _keep(self) -> None:
        try:
            while not self._ended.wait(self.seconds / RENEWALS):
                silent = time.monotonic() - self._stepped
                if silent > HUNG_AFTER * self.seconds:
                    logger.error(
                        "Indexing %d products has not come further for %.0f s: another worker may "
                        "have them.",
                        len(self._product_ids),
                        silent,
                    )
                    return
                self._renew()
                if self._lost.is_set():
                    return
        finally:
            connections[_alias()].close()

    def _renew(self) -> None:
        try:
            held = claiming.renew(self.token, self._product_ids, lease_seconds=self.seconds)
        except Error as error:  # the database is away: while it is, nobody else takes them either
            logger.warning("A lease could not be renewed just now: %s", error)
            connections[_alias()].close()
            return
        if not held:
            self._lost.set()


def _alias() -> str:
    return router.db_for_write(IndexEntry)
