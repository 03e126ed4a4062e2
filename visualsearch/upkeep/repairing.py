"""When lists of similar products are repaired: a changed product's own at once, others' when nothing is due.

Amid a backlog every list would be written many times, and to write them is most of what PostgreSQL
does for a worker. What is still to come is kept in the process alone: should it end before that, the
nightly sweep does it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

from visualsearch.models import Checkpoint
from visualsearch.upkeep import neighbours

AT_A_TIME = 5_000
"""Changed products that one call after a backlog tells other lists of: it should not last long, as
edits wait for it."""

_unheard: dict[Any, None] = {}
"""Products that changed and whose own list is right, but no other list has heard of it; of this process."""


def repair(changed: Collection[Any], *, more_is_due: bool) -> int:
    """Bring lists up to date after these products `changed`; how many there were.

    `more_is_due`: amid a backlog, of which a call like this follows.
    """
    checkpoints = Checkpoint.objects.filter(state__in=["live", "ready"])
    if more_is_due:
        _unheard.update(dict.fromkeys(changed))
        return sum(neighbours.renew(each, changed) for each in checkpoints) if changed else 0
    for pk in changed:
        _unheard.pop(pk, None)
    earlier = set(itertools.islice(_unheard, max(0, AT_A_TIME - len(changed))))
    if not changed and not earlier:
        return 0
    for pk in earlier:  # before, as what fails once may fail always
        del _unheard[pk]
    return sum(
        neighbours.repair(each, [*changed, *earlier], renewed=earlier) for each in checkpoints
    )


def is_behind() -> bool:
    """Whether there are changes that not all lists have heard of."""
    return bool(_unheard)
