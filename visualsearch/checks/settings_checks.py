"""System checks of the settings and the deployment, visualsearch.E0xx and W0xx; registers all others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.utils.module_loading import import_string

from visualsearch import conf
from visualsearch.checks import database_checks, declaration_checks
from visualsearch.exceptions import TrainingError
from visualsearch.ml.recipes import RECIPES, override
from visualsearch.models import IndexEntry

TAG = "visualsearch"
CONSUMER = "visualsearch.upkeep.worker_consumer:PersistentConsumer"
UPLOAD_LARGE = 64 * 1024 * 1024

_TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a string"),
    Path: ((str, os.PathLike), "a path"),
    bool: ((bool,), "True or False"),
    int: ((int,), "a whole number"),
    int | None: ((int, type(None)), "a whole number or None"),
    float: ((int, float), "a number"),
    Sequence[str]: ((list, tuple), "a list of texts"),
    Mapping[str, str]: ((Mapping,), "a dictionary"),
    Mapping[str, Any]: ((Mapping,), "a dictionary"),
}
_LEAST = {
    "OFFSET_MAX": 0,
    "EXACT_THRESHOLD": 0,
    "KEEP_CHECKPOINTS": 0,
    "ENCODER_WAIT_SECONDS": 0,
    "HNSW_M": 2,
    "HNSW_EF_CONSTRUCTION": 4,
    "HNSW_BUILD_MEMORY_BYTES": 1024 * 1024,
}
"""The smallest value of a number, where that is not 1 (or for fractions, more than 0)."""
_MOST = {
    "EF_SEARCH_IMAGE": 1000,
    "EF_SEARCH_TEXT": 1000,
    "HNSW_M": 100,
    "HNSW_EF_CONSTRUCTION": 1000,
    "MAX_ATTEMPTS": 32_767,
}
"""What pgvector and the column take."""
_PICKLE = {"pickle", "application/x-python-serialize"}


def register() -> None:
    """Have Django run the checks; those of the database only where `check --database` asks."""
    for check in (check_settings, check_deployment, declaration_checks.check_declaration):
        checks.register(check, TAG)
    checks.register(database_checks.check_database, TAG, checks.Tags.database)
    checks.register(check_cache, TAG, deploy=True)


def check_settings(app_configs: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """The keys of VISUALSEARCH are known, and their values can be used."""
    given = getattr(settings, "VISUALSEARCH", {})
    if not isinstance(given, Mapping):
        return [
            Error(
                f"VISUALSEARCH is {given!r}, not a dictionary.",
                hint='Write VISUALSEARCH = {"PRODUCT_MODEL": "shop.Product"}.',
                id="visualsearch.E001",
            )
        ]
    found = [*_unknown_keys(given), *_wrong_types(given)]
    if not any(message.id == "visualsearch.E010" for message in found):
        found += [*_wrong_values(conf.get_settings(), given), *_served_checkpoints()]
    return found


def _unknown_keys(given: Mapping[Any, Any]) -> Iterator[CheckMessage]:
    names = conf.setting_names()
    for key in given:
        if key not in names:
            yield Warning(
                f"VISUALSEARCH has no key {key!r}: it is ignored.",
                hint=declaration_checks.did_you_mean(str(key), names),
                id="visualsearch.W001",
            )


def _wrong_types(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for name, hint in get_type_hints(conf.Settings).items():
        if name not in given:
            continue
        value = given[name]
        types, description = _TYPES[hint]
        # True is an int to Python, and never a sensible number here.
        if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
            continue
        yield Error(
            f"VISUALSEARCH[{name!r}] is {value!r}, not {description}.",
            hint=f"Give {description}, or leave the key out: see docs/settings.md.",
            id="visualsearch.E010",
        )


def _wrong_values(given: conf.Settings, named: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for name in conf.setting_names():
        if name in named and (wrong := _out_of_range(name, getattr(given, name))):
            yield Error(
                f"VISUALSEARCH[{name!r}] is {named[name]!r}.", hint=wrong, id="visualsearch.E011"
            )
    if given.RECIPE not in RECIPES:
        yield Error(
            f"VISUALSEARCH['RECIPE'] is {given.RECIPE!r}, and there is no such recipe.",
            hint=declaration_checks.did_you_mean(given.RECIPE, list(RECIPES)),
            id="visualsearch.E012",
        )
    elif problem := _wrong_fields(given):
        yield Error(
            f"VISUALSEARCH['RECIPE_FIELDS'] does not fit recipe {given.RECIPE!r}: {problem}",
            hint='Give fields of a recipe, as {"weights": "/models/resnet18.pth", "epochs": 10}.',
            id="visualsearch.E018",
        )
    if given.UPLOAD_MAX_BYTES > UPLOAD_LARGE:
        yield Warning(
            f"VISUALSEARCH['UPLOAD_MAX_BYTES'] is {given.UPLOAD_MAX_BYTES}: query photos are held "
            "in memory, never on disk, so a few uploads at once can take it all.",
            hint=f"Stay below {UPLOAD_LARGE}; a photo is scaled down before it is used.",
            id="visualsearch.W007",
        )
    if given.ENCODER:
        try:
            import_string(given.ENCODER)
        except ImportError as error:
            yield Error(
                f"VISUALSEARCH['ENCODER'] is {given.ENCODER!r}, which cannot be imported: {error}.",
                hint="Give the dotted path of an encoder class, or leave the key out.",
                id="visualsearch.E013",
            )


def _out_of_range(name: str, value: Any) -> str:
    """What the value of a setting has to be, if it is not that."""
    if name == "DEVICE" and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        return 'Use "auto", "cpu", "cuda" or one GPU such as "cuda:1".'
    if name == "THROTTLE_RATES":
        for scope, rate in value.items():
            # An empty rate is no limit.
            if rate and not re.fullmatch(r"\s*\d+\s*/\s*[smhd][a-z]*\s*", str(rate)):
                return (
                    f'Write the rate of {scope!r} as a number per s, min, hour or day: "120/min".'
                )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    least = _LEAST.get(name, 1 if isinstance(value, int) else None)
    if least is None and value <= 0:
        return "It must be more than 0."
    if least is not None and value < least:
        return f"It must be at least {least}."
    if value > _MOST.get(name, value):
        return f"It may be at most {_MOST[name]}."
    return ""


def _served_checkpoints() -> Iterator[CheckMessage]:
    root = conf.get_settings().CHECKPOINT_ROOT.resolve()
    for name in ("MEDIA_ROOT", "STATIC_ROOT"):
        served = getattr(settings, name, None)
        if served and root.is_relative_to(Path(served).resolve()):
            yield Error(
                f"CHECKPOINT_ROOT {root} is inside {name}: anyone could download the checkpoints.",
                hint=f"Set VISUALSEARCH['CHECKPOINT_ROOT'] to a folder outside {served}.",
                id="visualsearch.E014",
            )


def check_deployment(app_configs: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """The database engine, its connections and Celery are what the app relies on."""
    connection = connections[router.db_for_write(IndexEntry)]
    found: list[CheckMessage] = []
    if connection.vendor != "postgresql":
        found.append(
            Error(
                f"The database {connection.alias!r} is {connection.vendor}: embeddings need "
                "PostgreSQL with pgvector.",
                hint='Set its ENGINE to "django.db.backends.postgresql".',
                id="visualsearch.E015",
            )
        )
    elif not _keeps_connections(connection.settings_dict):
        found.append(
            Warning(
                f"The database {connection.alias!r} opens a connection for every request, which "
                "costs more than a search.",
                hint='Set its "CONN_MAX_AGE" to 600, or its OPTIONS to {"pool": True}.',
                id="visualsearch.W003",
            )
        )
    if accepted := sorted(_celery_content() & _PICKLE):
        found.append(
            Error(
                f"Celery accepts {accepted[0]}: whoever can write to the broker can run any code.",
                hint='Set accept_content (CELERY_ACCEPT_CONTENT) to ["json"].',
                id="visualsearch.E016",
            )
        )
    if _stands_still_after_redis():
        found.append(
            Warning(
                "A worker fetches nothing any more after Redis froze, and ends when Redis is full: "
                "that is Celery's own consumer.",
                hint=f'Set worker_consumer (CELERY_WORKER_CONSUMER) to "{CONSUMER}".',
                id="visualsearch.W009",
            )
        )
    return found


def _wrong_fields(given: conf.Settings) -> str:
    try:
        override(RECIPES[given.RECIPE], given.RECIPE_FIELDS)
    except TrainingError as error:
        return str(error)
    return ""


def _keeps_connections(database: Mapping[str, Any]) -> bool:
    # CONN_MAX_AGE None keeps them for ever.
    return database.get("CONN_MAX_AGE", 0) != 0 or bool(database.get("OPTIONS", {}).get("pool"))


def _celery_content() -> set[str]:
    """Content types that the project's Celery app accepts, as far as the web process knows it."""
    from celery import current_app

    accepted = set(getattr(settings, "CELERY_ACCEPT_CONTENT", ()))
    # Celery makes an app of this name up where the project has loaded none.
    if current_app.main != "default":
        accepted |= set(current_app.conf.accept_content)
    return accepted


def _stands_still_after_redis() -> bool:
    from celery import current_app
    from celery.app.defaults import NAMESPACES

    if current_app.main == "default":
        return False
    is_redis = re.match(r"rediss?(\+socket)?://", str(current_app.conf.broker_url or ""))
    own = NAMESPACES["worker"]["consumer"].default
    return bool(is_redis) and current_app.conf.worker_consumer == own


def check_cache(app_configs: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """With `check --deploy`: throttles count in a cache that all processes share."""
    if not any(conf.get_settings().THROTTLE_RATES.values()):
        return []
    backend = str(settings.CACHES["default"]["BACKEND"]).rpartition(".")[2]
    if backend not in ("LocMemCache", "DummyCache"):
        return []
    return [
        Warning(
            f"Throttles are counted in {backend}, so each web process counts for itself.",
            hint="Use a cache that the processes share, such as Redis, as CACHES['default'].",
            id="visualsearch.W006",
        )
    ]
