"""How much a worker writes at once: little, with pauses, while others are at work in its database.

A worker can give way by its niceness, PostgreSQL cannot when it works for one: a statement of half
a second makes every shopper wait who comes meanwhile. So what is written, or looked up for many
products, goes in parts of some milliseconds, and a pause after each is twice as long as it took.
While nobody else uses the database it goes at full speed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from visualsearch.tables.partitions import database

APPLICATION_NAME = "visualsearch worker"
"""In pg_stat_activity: workers do not take each other for shoppers."""
PAUSES = 2.0
"""A pause is so many times as long as a part takes."""
REMEMBERED = 8
"""Parts of which the shortest says how long one takes."""
LONGEST_PAUSE_S = 1.0
LOOK_SECONDS = 0.5
"""How often it is looked who is there."""
RECENT_SECONDS = 3.0
"""Who used the database within so long, over a connection that is still open, is at work."""

_OTHERS = """
SELECT set_config('application_name', %(name)s, false), EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend' AND application_name <> %(name)s
        AND (state = 'active'
            OR state_change > clock_timestamp() - %(recent)s * interval '1 second')
)
"""

_looked: tuple[float, bool] = (float("-inf"), False)
"""When it was looked last, by time.monotonic(), and what was found; of this process."""


def introduce() -> None:
    """Give this process's connection the name by which workers know each other."""
    with database().cursor() as cursor:
        cursor.execute("SELECT set_config('application_name', %s, false)", [APPLICATION_NAME])


def others_are_at_work() -> bool:
    """Whether anybody but workers used this database just now; asked twice a second at most.

    Those of another database user count only where this one may see what they do
    (`pg_read_all_stats`).
    """
    global _looked
    now = time.monotonic()
    if now - _looked[0] >= LOOK_SECONDS:
        with database().cursor() as cursor:
            cursor.execute(_OTHERS, {"name": APPLICATION_NAME, "recent": RECENT_SECONDS})
            _looked = now, bool(cursor.fetchone()[1])
    return _looked[1]


class Pace:
    """Of one kind of work: in parts of how many items it is done."""

    def __init__(self, *, most: int, gently: int) -> None:
        self.most = most
        """Items at once while nobody else is there."""
        self.gently = gently
        """While somebody is: PostgreSQL should be done with them within some milliseconds."""
        self._spent: deque[float] = deque(maxlen=REMEMBERED)

    def parts(self, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """`items` in parts, each to be done before the next is asked for, and pauses in between.

        To be used outside a transaction: what is locked would stay locked in the pauses.
        """
        start = 0
        while start < len(items):
            is_gentle = others_are_at_work()
            part = items[start : start + (self.gently if is_gentle else self.most)]
            began = time.monotonic()
            yield part
            if is_gentle:
                self._rest(time.monotonic() - began)
            start += len(part)

    def _rest(self, spent: float) -> None:
        # A worker that gives way is kept waiting itself; of some parts, one was not.
        self._spent.append(spent)
        time.sleep(min(LONGEST_PAUSE_S, PAUSES * min(self._spent)))
