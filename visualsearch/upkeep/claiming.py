"""Who works on which product: lease, claim and settle index entries, safe against crashes.

An attempt is noted and committed before a product is touched, so that a crash leaves a trace.
Whatever was in a batch that did not come back is claimed alone from then on, so that a picture that
kills workers convicts itself and no product beside it. What counts against it are crashes that a
worker lived to tell (`trial`); that whole workers went away only has it wait longer and longer, as
it was most likely not to blame. Nothing here waits for a lock while it holds others: an
editor's transaction is never the victim of a deadlock with a worker.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db import transaction

from visualsearch.models import IndexEntry
from visualsearch.tables import keys
from visualsearch.tables.partitions import database

RETRY_SECONDS = (2, 600)
"""The shortest and the longest time until a passing fault is tried again."""

FRESH_SHARE = 4
"""One in so many products of a batch is the one that changed last, the others wait the longest."""
STORM_SECONDS = 1.0
"""A product that changed while it was indexed rests this long: of a storm of edits it skips most."""

SILENT_ATTEMPTS = 5
"""A product alone with which so many workers went away waits before the next, twice as long each time."""
MOST_SILENT_ATTEMPTS = 20
"""That many, over more than an hour, are held against it after all."""

_ENTRY = IndexEntry._meta.db_table


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A product that this worker owns until its lease ends."""

    product_id: Any
    version: int
    """The version that was current when the product was claimed."""
    attempts: int
    """Those of which there is no outcome, this one included."""
    crashes: int
    """That a worker saw while the product was alone."""
    lease: uuid.UUID
    code: str
    error: str
    """What went wrong the last time, if that is known."""

    @property
    def is_alone(self) -> bool:
        """It was in a batch that did not come back."""
        return self.attempts > 1


class Ending(StrEnum):
    """What became of a claimed product."""

    DONE = "done"
    """Everything of it that should be in the index is."""
    FAILED = "failed"
    """Set aside until it is edited; trying again cannot help."""
    DEFERRED = "deferred"
    """A passing fault: tried again later, and not held against it."""
    CHARGED = "charged"
    """It may have been the cause: tried again alone, and counted."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How work on one version of one product ended."""

    product_id: Any
    version: int
    ending: Ending = Ending.DONE
    code: str = ""
    message: str = ""


# The first entry in the queue decides: a suspect goes alone, else those that are none go together.
# A share of the batch is taken from the queue's end, so that an edit made just now does not wait
# for the hundred thousand products of an import or a sweep before it. What is claimed goes to the
# end: should its worker die, others have their turn before it is tried again.
_CLAIM_SQL = """
WITH oldest AS MATERIALIZED (
    SELECT product_id, attempts, available_at FROM {entry} WHERE {due}
    ORDER BY available_at LIMIT %(oldest)s FOR UPDATE SKIP LOCKED
), newest AS MATERIALIZED (
    SELECT product_id, attempts FROM {entry} WHERE {due} AND attempts = 0
    ORDER BY available_at DESC LIMIT %(newest)s FOR UPDATE SKIP LOCKED
), head AS (
    SELECT product_id, attempts FROM oldest ORDER BY available_at, product_id LIMIT 1
), due AS (
    SELECT product_id, attempts FROM oldest UNION SELECT product_id, attempts FROM newest
)
UPDATE {entry} AS entry SET attempts = entry.attempts + 1, lease = %(lease)s,
    leased_until = statement_timestamp() + make_interval(secs => %(seconds)s),
    available_at = statement_timestamp() + CASE WHEN entry.attempts < %(silent)s
        THEN interval '0' ELSE LEAST(
            power(2, LEAST(entry.attempts - %(silent)s, 20)), %(latest)s) * interval '1 second' END
FROM due, head
WHERE entry.product_id = due.product_id AND CASE WHEN head.attempts > 0
    THEN due.product_id = head.product_id ELSE due.attempts = 0 END
RETURNING entry.product_id, entry.version, entry.attempts, entry.crashes, entry.error_code,
    entry.error
"""

_DUE = (
    "status = 'pending' AND available_at <= statement_timestamp() "
    "AND (leased_until IS NULL OR leased_until < statement_timestamp())"
)

# Rows that an editor's open transaction holds are still ours: its trigger leaves the lease alone.
_RENEW_SQL = """
WITH mine AS MATERIALIZED (
    SELECT product_id FROM {entry}
    WHERE product_id = ANY(%(ids)s::{key}[]) AND lease = %(lease)s
    FOR UPDATE SKIP LOCKED
), renewed AS (
    UPDATE {entry} AS entry
    SET leased_until = statement_timestamp() + make_interval(secs => %(seconds)s)
    FROM mine WHERE entry.product_id = mine.product_id
)
SELECT count(*) FROM {entry} WHERE product_id = ANY(%(ids)s::{key}[]) AND lease = %(lease)s
"""

# A version that has moved on stays pending, whatever became of the old one, and can be claimed
# after STORM_SECONDS. Rows that an editor's open transaction holds are skipped rather than waited for.
_SETTLE_SQL = """
UPDATE {entry} AS entry SET
    lease = NULL, leased_until = NULL,
    status = CASE WHEN {moved} THEN entry.status WHEN o.ending = 'done' THEN 'indexed'
        WHEN o.ending = 'failed' THEN 'failed' ELSE 'pending' END,
    attempts = CASE WHEN {moved} THEN 0 WHEN o.ending = 'charged' THEN LEAST(entry.attempts, 1)
        WHEN o.ending = 'deferred' THEN GREATEST(entry.attempts - 1, 0) ELSE 0 END,
    crashes = CASE WHEN {moved} THEN 0
        WHEN o.ending = 'charged' THEN entry.crashes + (entry.attempts > 1)::int
        WHEN o.ending = 'deferred' THEN entry.crashes ELSE 0 END,
    error_code = CASE WHEN {moved} THEN '' ELSE o.code END,
    error = CASE WHEN {moved} THEN '' ELSE o.message END,
    indexed_at = CASE WHEN NOT {moved} AND o.ending = 'done'
        THEN statement_timestamp() ELSE entry.indexed_at END,
    available_at = CASE WHEN {moved} THEN statement_timestamp() + %(storm)s * interval '1 second'
        WHEN o.ending IN ('done', 'failed') THEN entry.available_at
        WHEN o.ending = 'charged' THEN statement_timestamp() + LEAST(
            power(2, LEAST(entry.crashes, 20)) * %(soonest)s, %(latest)s) * interval '1 second'
        ELSE statement_timestamp() + (0.75 + random() / 2) * LEAST(
            GREATEST(statement_timestamp() - entry.changed_at,
                %(soonest)s * interval '1 second'),
            %(latest)s * interval '1 second') END
FROM (
    SELECT mine.product_id, given.version, given.ending, given.code, given.message
    FROM {entry} AS mine JOIN unnest(
        %(ids)s::{key}[], %(versions)s::bigint[], %(endings)s::text[], %(codes)s::text[],
        %(messages)s::text[]
    ) AS given (product_id, version, ending, code, message) USING (product_id)
    WHERE {owned}
    FOR UPDATE OF mine SKIP LOCKED
) AS o
WHERE entry.product_id = o.product_id
RETURNING entry.product_id, entry.status
"""


def claim(*, limit: int, lease_seconds: float) -> list[Claim]:
    """Take up to `limit` products that are due; [] when nothing is.

    To be called outside a transaction: the attempt has to be committed before the work begins.
    """
    lease = uuid.uuid4()
    with transaction.atomic(using=database().alias), database().cursor() as cursor:
        # Until a large import is analysed, it is planned for as if hardly anything was pending: all
        # of it would be sorted for every batch, instead of read from the end of an index.
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(
            _CLAIM_SQL.format(entry=_ENTRY, due=_DUE),
            {
                "oldest": limit - limit // FRESH_SHARE,
                "newest": limit // FRESH_SHARE,
                "lease": lease,
                "seconds": lease_seconds,
                "silent": SILENT_ATTEMPTS,
                "latest": RETRY_SECONDS[1],
            },
        )
        return [
            Claim(
                product_id=pk,
                version=version,
                attempts=attempts,
                crashes=crashes,
                lease=lease,
                code=code,
                error=error,
            )
            for pk, version, attempts, crashes, code, error in cursor.fetchall()
        ]


def renew(lease: uuid.UUID, product_ids: Iterable[Any], *, lease_seconds: float) -> int:
    """Hold claimed products for another `lease_seconds`; how many of them are still ours.

    A lease that has run out is renewed as well, unless somebody else has taken the product.
    """
    with database().cursor() as cursor:
        cursor.execute(
            _RENEW_SQL.format(entry=_ENTRY, key=keys.sql_type()),
            {"ids": keys.prepared(product_ids), "lease": lease, "seconds": lease_seconds},
        )
        (held,) = cursor.fetchone()
    return int(held)


def settle(lease: uuid.UUID, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Give claimed products back as `outcomes` say; those whose row was locked just now.

    The caller tries these again. Outcomes for products that were deleted meanwhile, or whose
    lease was taken over, are dropped.
    """
    outcomes = list(outcomes)
    settled = _settle("mine.lease = %(lease)s", outcomes, lease=lease)
    missing = [outcome for outcome in outcomes if outcome.product_id not in settled]
    if not missing:
        return []
    held = set(
        IndexEntry.objects.filter(
            lease=lease, product_id__in=[outcome.product_id for outcome in missing]
        ).values_list("product_id", flat=True)
    )
    return [outcome for outcome in missing if outcome.product_id in held]


def note(outcomes: Iterable[Outcome], *, statuses: Sequence[str]) -> None:
    """Write outcomes of work that needed no claim on entries nobody has claimed or changed."""
    owned = (
        "mine.lease IS NULL AND mine.version = given.version AND mine.status = ANY(%(statuses)s)"
    )
    _settle(owned, list(outcomes), statuses=list(statuses))


def _settle(owned: str, outcomes: list[Outcome], **parameters: Any) -> dict[Any, str]:
    if not outcomes:
        return {}
    with database().cursor() as cursor:
        cursor.execute(
            _SETTLE_SQL.format(
                entry=_ENTRY,
                key=keys.sql_type(),
                moved="(entry.version <> o.version)",
                owned=owned,
            ),
            {
                "ids": keys.prepared(o.product_id for o in outcomes),
                "versions": [o.version for o in outcomes],
                "endings": [str(o.ending) for o in outcomes],
                "codes": [o.code for o in outcomes],
                "messages": [o.message.replace("\0", "") for o in outcomes],
                "soonest": RETRY_SECONDS[0],
                "latest": RETRY_SECONDS[1],
                "storm": STORM_SECONDS,
                **parameters,
            },
        )
        return dict(cursor.fetchall())
