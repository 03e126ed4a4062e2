"""Autovacuum in the way of a lock: whether it is, and for how long one has to wait until it gives way.

An autovacuum holds its table against everything that locks it as a whole. PostgreSQL has it give
way, but only to somebody who has waited for `deadlock_timeout`, one second unless it is set
otherwise: whoever waits for less comes again and again, and never gets past one that takes minutes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from visualsearch.indexes import product_model

MARGIN_MS = 300
"""After `deadlock_timeout`: to be cancelled takes an autovacuum a moment."""
MOST_MS = 3_000
"""Whoever comes after us waits behind us, shoppers as well: where it would be longer, nobody waits."""

# An autovacuum is known by its having no user: that is shown to those who may not see more of it.
_HOLDS = """
SELECT EXISTS (
    SELECT FROM pg_locks AS lock
    JOIN pg_stat_activity AS process USING (pid)
    JOIN pg_class AS held ON held.oid = lock.relation
    LEFT JOIN pg_class AS owner ON owner.reltoastrelid = held.oid
    WHERE lock.granted AND lock.mode = 'ShareUpdateExclusiveLock'
        AND process.datname = current_database() AND process.usesysid IS NULL
        AND coalesce(owner.relname, held.relname) = ANY(%s)
), (SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout')
"""


def patience_ms(connection: BaseDatabaseWrapper, statements: Sequence[str]) -> int | None:
    """How long `statements` have to wait for an autovacuum to give way; None if none is in their way.

    Looked for on the tables that they name, and on the products, which a table that refers to them
    locks as well.
    """
    names = {*re.findall(r"\w+", " ".join(statements)), product_model()._meta.db_table}
    with connection.cursor() as cursor:
        cursor.execute(_HOLDS, [sorted(names)])
        is_there, deadlock_timeout = cursor.fetchone()
    wait = int(deadlock_timeout) + MARGIN_MS
    return wait if is_there and wait <= MOST_MS else None
