"""What visitors do with answers: clicks and purchases, by the query's id and nobody's name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from visualsearch.conf import get_settings
from visualsearch.exceptions import QueryError
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, SearchEvent
from visualsearch.queries import query_ids
from visualsearch.queries.cleaning import check_characters
from visualsearch.search import visibility

MOST_POSITION = 100_000
DELETE_AT_A_TIME = 10_000


def record(
    *, query_id: Any, action_name: Any, object_id: Any, position: Any, request: HttpRequest | None
) -> SearchEvent:
    """Keep one event of a query that was really asked; QueryError names the part at fault.

    Kept are the query's id, the action, the product, its place and the time: neither the visitor,
    nor an address, nor what was asked for.
    """
    if not query_ids.is_ours(query_id):
        raise QueryError(
            "query_id is not one of ours: send the query_id of the answer.", field="query_id"
        )
    if action_name not in SearchEvent.Action.values:
        raise QueryError(
            f"action_name is {str(action_name)[:40]!r}: give one of "
            f"{', '.join(SearchEvent.Action.values)}.",
            field="action_name",
        )
    if position is not None and (
        isinstance(position, bool)
        or not isinstance(position, int)
        or not 1 <= position <= MOST_POSITION
    ):
        raise QueryError(
            f"position is {str(position)[:40]!r}: give the hit's place, from 1 on.",
            field="position",
        )
    key = ""
    if object_id is not None:
        check_characters(str(object_id), field="object_id")
        key = str(visibility.find(get_index(), object_id, request=request).pk)
    elif action_name != SearchEvent.Action.IMPRESSION:
        raise QueryError("object_id is missing: name the product.", field="object_id")
    live = Checkpoint.objects.live()
    return SearchEvent.objects.create(
        query_id=query_id,
        action_name=action_name,
        object_id=key,
        position=position,
        checkpoint=live.name if live else "",
    )


def forget() -> int:
    """Delete the events that are older than EVENT_DAYS, in parts; their number."""
    before = timezone.now() - timedelta(days=get_settings().EVENT_DAYS)
    deleted = 0
    while True:
        old = SearchEvent.objects.filter(timestamp__lt=before).order_by("timestamp")
        keys = list(old.values_list("pk", flat=True)[:DELETE_AT_A_TIME])
        if not keys:
            return deleted
        deleted += SearchEvent.objects.filter(pk__in=keys).delete()[0]
