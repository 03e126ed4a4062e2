"""The VISUALSEARCH setting: typed, read live, its defaults in one place."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def _default_checkpoint_root() -> Path:
    return Path(getattr(settings, "BASE_DIR", Path.cwd())) / "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every key of `settings.VISUALSEARCH`, with its default."""

    PRODUCT_MODEL: str = ""
    """The shop's product model as "app_label.Model"; fixed once `migrate` has run."""
    RECIPE: str = "default"
    """The recipe that Retrain uses unless another is chosen."""
    RECIPE_FIELDS: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RECIPE that are set otherwise, as {"weights": "/models/resnet18.pth"}."""
    CHECKPOINT_ROOT: Path = field(default_factory=_default_checkpoint_root)
    """Folder of the checkpoints, readable by web and worker; never inside MEDIA_ROOT."""
    DEVICE: str = "auto"
    """Where workers compute: "auto", "cpu", "cuda" or "cuda:1"."""
    ENCODER: str = ""
    """Dotted path of an encoder class that replaces the checkpoint's network (for tests)."""
    PROMOTE_AUTOMATICALLY: bool = True
    """Whether a trained checkpoint that passes the gate goes live by itself."""
    TRAINING_EPOCHS: int | None = None
    """Epochs of a training run; None leaves it to the recipe."""

    TEXT_SEARCH_CONFIG: str = "english"
    """PostgreSQL's text search configuration, which knows word forms; read by `migrate`."""
    TEXT_MAX_LENGTH: int = 256
    """Characters a query text may have."""
    LIMIT_MAX: int = 100
    """Hits one request may ask for."""
    OFFSET_MAX: int = 1000
    """How deep one may page."""
    UPLOAD_MAX_BYTES: int = 8 * 1024 * 1024
    """Bytes a query photo may have."""
    IMAGE_URL_HOSTS: Sequence[str] = ()
    """Hosts that photos may be fetched from, ("*",) for any public one; empty is off."""
    PHOTO_TOKEN_SECONDS: int = 3_600
    """How long the token of a query photo can be used."""
    PIXELS_MAX: int = 40_000_000
    """Pixels an image may declare in its header."""
    STATEMENT_TIMEOUT_MS: int = 5_000
    """Postgres gives up on a search after this."""
    EXACT_THRESHOLD: int | None = None
    """Up to this many matching products are compared exactly; None: where that is cheaper (scan_costs.py)."""
    EF_SEARCH_IMAGE: int | None = None
    """hnsw.ef_search for queries that are images; None: what the recall probe chose."""
    EF_SEARCH_TEXT: int | None = None
    """hnsw.ef_search for text and composed queries; None: what the recall probe chose for each."""
    HNSW_M: int | None = None
    """Links a row of the HNSW index has; None: it grows with the catalogue (partitions.py)."""
    HNSW_EF_CONSTRUCTION: int | None = None
    """Rows looked at for the links of each; None: it grows with the catalogue."""
    HNSW_BUILD_MEMORY_BYTES: int = 2 * 1024 * 1024 * 1024
    """Memory PostgreSQL may take while it builds the HNSW index; it takes what the index needs."""
    THROTTLE_RATES: Mapping[str, str] = field(
        default_factory=lambda: {"search": "120/min", "similar": "600/min", "events": "600/min"}
    )
    """Requests a visitor may make, by scope."""
    METRICS_TOKEN: str = ""
    """Bearer token with which Prometheus may read the metrics; "" leaves them to staff."""

    ENCODER_CONCURRENCY: int = 2
    """Queries one web process encodes at the same time."""
    ENCODER_WAIT_SECONDS: float = 2.0
    """How long a query waits for its turn at the encoder before it is turned away."""
    DECODER_PROCESSES: int = 2
    """Disposable processes that open images, per process that needs them."""
    DECODER_TIMEOUT_SECONDS: float = 10.0
    """How long one image may take to open."""
    DECODER_MEMORY_BYTES: int = 1024 * 1024 * 1024
    """Address space of one decoding process."""

    BATCH_SIZE: int = 64
    """Products embedded at a time."""
    LEASE_SECONDS: int = 120
    """How long a worker owns the products it claimed."""
    MAX_ATTEMPTS: int = 3
    """Crashes of a product alone, seen by a worker that lived on, after which it is set aside."""
    NEIGHBOURS: int = 50
    """Similar products precomputed for each product."""
    EVENT_DAYS: int = 90
    """Days that search events and searched words are kept."""
    KEEP_SEARCHED_WORDS: bool = True
    """Whether words that are searched for are kept, for "searches without good answers"."""
    KEEP_CHECKPOINTS: int = 2
    """Retired checkpoints whose embeddings are kept for rollback."""


def get_settings() -> Settings:
    """The setting as it is now, also after `override_settings` or a change of the dictionary.

    Raises ImproperlyConfigured when VISUALSEARCH is not a mapping. Unknown keys are left to the
    system check visualsearch.W001.
    """
    given = getattr(settings, "VISUALSEARCH", {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            f"VISUALSEARCH must be a dictionary, not {type(given).__name__}: "
            'VISUALSEARCH = {"PRODUCT_MODEL": "shop.Product"}.'
        )
    global _last
    base, last = getattr(settings, "BASE_DIR", None), _last
    if last is None or last[0] != given or last[1] != base:
        values: dict[str, Any] = {name: given[name] for name in setting_names() if name in given}
        if "CHECKPOINT_ROOT" in values:
            values["CHECKPOINT_ROOT"] = Path(values["CHECKPOINT_ROOT"])
        _last = last = (dict(given), base, Settings(**values))
    return last[2]


_last: tuple[dict[str, Any], Any, Settings] | None = None
"""What was asked for, the BASE_DIR of then, and what came of it: a search asks a dozen times."""


@functools.cache
def setting_names() -> tuple[str, ...]:
    """The keys that VISUALSEARCH may have."""
    return tuple(f.name for f in fields(Settings))


def product_model_name() -> str:
    """PRODUCT_MODEL, or ImproperlyConfigured with the line to add."""
    name = get_settings().PRODUCT_MODEL
    if name.count(".") != 1:
        raise ImproperlyConfigured(
            f"VISUALSEARCH['PRODUCT_MODEL'] is {name!r}; say which model holds the products: "
            'VISUALSEARCH = {"PRODUCT_MODEL": "shop.Product"}.'
        )
    return name
