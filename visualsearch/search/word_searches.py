"""Which words were searched for and how well they were answered, without those who searched."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from django.db import DatabaseError, connections, router, transaction
from django.db.models import Count, Exists, Max, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from visualsearch.conf import get_settings
from visualsearch.models import SearchEvent, WordSearch
from visualsearch.search.results import Hit, Results
from visualsearch.tables.deadlines import write_alone

logger = logging.getLogger(__name__)

LOW_MATCH = 0.5
"""Below it less than half the hits with such a score are right: see docs/evaluation.md."""
WORDS_LENGTH = 256
DELETE_AT_A_TIME = 10_000
PERSONAL = re.compile(r"@|(?:\d[\s()/+.-]*){7}")
"""What may name a person: an address of e-mail, or as many digits as a telephone number has."""
PROBLEMS = {
    "any": _("any of these"),
    "nothing": _("without results"),
    "low": _("with a low match"),
    "unclicked": _("without a click"),
}


def keep(text: str, results: Results, hits: Sequence[Hit]) -> None:
    """Keep the words of a search by words alone, of which `hits` is the first page.

    Best effort: a search never fails because it could not be noted. Kept are the words, the day,
    the search's id, how many products were found and the best match among the first.
    """
    words = " ".join(text.casefold().split())[:WORDS_LENGTH]
    if not get_settings().KEEP_SEARCHED_WORDS or not words or PERSONAL.search(words):
        return
    matches = [hit.match for hit in hits if hit.match is not None]
    noted = WordSearch(
        words=words,
        query_id=results.query_id,
        hits=results.total,
        match=max(matches, default=None),
    )
    connection = connections[router.db_for_write(WordSearch)]
    try:
        if connection.get_autocommit():
            # Nobody waits for the disk; in the shop's own transaction that is not ours to say.
            settings = {"synchronous_commit": "off", "lock_timeout": "100"}
            write_alone(connection, *_insertion(noted), settings=settings)
        else:
            with transaction.atomic(using=connection.alias):
                noted.save(using=connection.alias, force_insert=True)
    except DatabaseError:
        logger.exception("The words of a search were not noted.")


def _insertion(noted: WordSearch) -> tuple[str, list[Any]]:
    """The statement that adds the row: without what the ORM does to put it together."""
    fields = [field for field in WordSearch._meta.concrete_fields if not field.primary_key]
    columns = ", ".join(str(field.column) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    values = [getattr(noted, field.attname) for field in fields]
    return f"INSERT INTO {WordSearch._meta.db_table} ({columns}) VALUES ({marks})", values


def without_good_answers(*, since: date, problem: str = "any") -> QuerySet[Any, Any]:
    """Rows of words, the newest first, with how often: searches, nothing, low, clicked; and last.

    `problem` is a key of PROBLEMS. Without any click in the period nothing is said about clicks.
    """
    clicks = SearchEvent.objects.exclude(action_name=SearchEvent.Action.IMPRESSION)
    found = (
        WordSearch.objects.filter(searched_on__gte=since)
        .annotate(was_clicked=Exists(clicks.filter(query_id=OuterRef("query_id"))))
        .values("words")
        .annotate(
            searches=Count("pk"),
            nothing=Count("pk", filter=Q(hits=0)),
            low=Count("pk", filter=Q(hits__gt=0, match__lt=LOW_MATCH)),
            clicked=Count("pk", filter=Q(was_clicked=True)),
            last=Max("searched_on"),
        )
        .order_by("-last", "-searches", "words")
    )
    conditions = {"nothing": Q(nothing__gt=0), "low": Q(low__gt=0)}
    if clicks_are_known(since=since):
        conditions["unclicked"] = Q(clicked=0)
    if problem != "any":
        return found.filter(conditions[problem]) if problem in conditions else found.none()
    either = Q()
    for condition in conditions.values():
        either |= condition
    return found.filter(either)


def clicks_are_known(*, since: date) -> bool:
    """Whether the shop's pages tell of clicks: else every search would seem to be without one."""
    clicks = SearchEvent.objects.exclude(action_name=SearchEvent.Action.IMPRESSION)
    return clicks.filter(timestamp__date__gte=since).exists()


def forget() -> int:
    """Delete what is older than EVENT_DAYS, in parts; how many."""
    before = timezone.localdate() - timedelta(days=get_settings().EVENT_DAYS)
    deleted = 0
    while True:
        old = WordSearch.objects.filter(searched_on__lt=before)
        keys = list(old.values_list("pk", flat=True)[:DELETE_AT_A_TIME])
        if not keys:
            return deleted
        deleted += WordSearch.objects.filter(pk__in=keys).delete()[0]
