"""System checks of the database: PostgreSQL, pgvector and the triggers are there and new enough."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router

from visualsearch.checks import declaration_checks
from visualsearch.conf import get_settings
from visualsearch.indexes import product_model, registered
from visualsearch.models import IndexEntry, SearchDocument
from visualsearch.tables import capture, documents

POSTGRES_MIN = 15
PGVECTOR_MIN = (0, 8, 4)


def check_database(
    app_configs: Any = None, databases: Sequence[str] | None = None, **_kwargs: Any
) -> list[CheckMessage]:
    """PostgreSQL, pgvector and the triggers, where `databases` has the one with the embeddings.

    `migrate` runs this first, on an empty database too: what it creates may be missing then.
    """
    alias = router.db_for_write(IndexEntry)
    connection = connections[alias]
    if alias not in (databases or ()) or connection.vendor != "postgresql":
        return []
    found: list[CheckMessage] = []
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        postgres = int(cursor.fetchone()[0]) // 10_000
        cursor.execute(
            "SELECT default_version, installed_version FROM pg_available_extensions "
            "WHERE name = 'vector'"
        )
        available, installed = cursor.fetchone() or (None, None)
        tables = set(connection.introspection.table_names(cursor))
    if postgres < POSTGRES_MIN:
        found.append(
            Error(
                f"The database {alias!r} is PostgreSQL {postgres}.",
                hint=f"Upgrade the server to PostgreSQL {POSTGRES_MIN} or newer.",
                id="visualsearch.E020",
            )
        )
    migrated = IndexEntry._meta.db_table in tables
    found += _check_vector(available, installed, migrated=migrated)
    if {model._meta.db_table for model in (IndexEntry, SearchDocument)} <= tables:
        found += _check_triggers(alias)
    found += _check_text_search(connection, alias)
    return found


def _check_vector(
    available: str | None, installed: str | None, *, migrated: bool
) -> Iterator[CheckMessage]:
    least = ".".join(map(str, PGVECTOR_MIN))
    if available is None:
        yield Error(
            "The database server does not offer the extension pgvector.",
            hint=f"Install pgvector {least} or newer on the server (Debian: the package "
            "postgresql-<version>-pgvector; Docker: the image pgvector/pgvector).",
            id="visualsearch.E021",
        )
    elif installed is None and migrated:
        yield Error(
            "The extension vector is missing in the database.",
            hint="As a superuser of the database: CREATE EXTENSION vector.",
            id="visualsearch.E022",
        )
    elif _version(installed or available) < PGVECTOR_MIN:
        yield Error(
            f"pgvector is {installed or available}; filtered searches need {least} or newer.",
            hint="In the database: ALTER EXTENSION vector UPDATE."
            if _version(available) >= PGVECTOR_MIN
            else f"Upgrade pgvector on the server to {least}, then in the database: "
            "ALTER EXTENSION vector UPDATE.",
            id="visualsearch.E023",
        )


def _check_text_search(connection: Any, alias: str) -> Iterator[CheckMessage]:
    name = get_settings().TEXT_SEARCH_CONFIG
    with connection.cursor() as cursor:
        cursor.execute("SELECT cfgname FROM pg_ts_config ORDER BY cfgname")
        known = [each for (each,) in cursor.fetchall()]
    if name not in known:
        yield Error(
            f"VISUALSEARCH['TEXT_SEARCH_CONFIG'] is {name!r}, which the database {alias!r} has not.",
            hint=f"Take one of {', '.join(known)}.",
            id="visualsearch.E024",
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _check_triggers(alias: str) -> Iterator[CheckMessage]:
    if declaration_checks.check_declaration():
        return  # what cannot be resolved has no triggers to look for
    # A warning and no error: `migrate`, which repairs it, does not start when a check fails.
    index = registered()[product_model()]
    if missing := capture.missing_triggers(index, using=alias):
        yield Warning(
            f"Changes of {', '.join(missing)} go unnoticed: the trigger is missing or disabled.",
            hint="Run `python manage.py migrate`.",
            id="visualsearch.W005",
        )
    if missing := documents.missing_triggers(index, using=alias):
        yield Warning(
            f"The words of products are not kept: {', '.join(missing)} missing or disabled.",
            hint="Run `python manage.py migrate`.",
            id="visualsearch.W008",
        )
