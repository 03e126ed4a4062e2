"""Ids of searches, which only this shop can have given out: nobody reports events of made-up ones."""

from __future__ import annotations

import re
import secrets

from django.utils.crypto import constant_time_compare, salted_hmac

_SHAPE = re.compile(r"q_([A-Za-z0-9_-]{12})([0-9a-f]{16})")
_SALT = "visualsearch.query"


def make() -> str:
    """A new id: q_, twelve characters of chance, and their signature."""
    chance = secrets.token_urlsafe(9)
    return f"q_{chance}{_signature(chance)}"


def is_ours(query_id: object) -> bool:
    """Whether `make` gave this id out."""
    found = _SHAPE.fullmatch(query_id) if isinstance(query_id, str) else None
    return found is not None and constant_time_compare(_signature(found[1]), found[2])


def _signature(chance: str) -> str:
    return salted_hmac(_SALT, chance, algorithm="sha256").hexdigest()[:16]
