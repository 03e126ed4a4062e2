"""The live checkpoint as searches need it: its row is read again only when it has changed."""

from __future__ import annotations

from django.db import connections, router

from visualsearch.models import Checkpoint

_TABLE = Checkpoint._meta.db_table
_kept: dict[tuple[object, ...], Checkpoint] = {}
"""The row last read, by its database and version."""


def live_checkpoint() -> Checkpoint | None:
    """The checkpoint that answers searches from now on; None before the first promotion.

    Asked of the database every time, so that a promotion takes effect at once. Where the row's
    version (which transaction wrote it, and where) is the one that is known, its figures, which are
    long, are neither sent nor read. The object is shared: it is not to be changed.
    """
    connection = connections[router.db_for_write(Checkpoint)]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, xmin::text, ctid::text FROM {_TABLE} WHERE state = 'live'")
        version = cursor.fetchone()
    if version is None:
        return None
    key = (connection.settings_dict["HOST"], connection.settings_dict["NAME"], *version)
    found = _kept.get(key)
    if found is None:
        found = Checkpoint.objects.live()
        _kept.clear()
        # Should it have changed since, what was read is newer than its key, which none asks for again.
        if found is not None and found.pk == version[0]:
            _kept[key] = found
    return found
