"""What an examination says of one thing that was looked at: in order, to be looked at, or wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: str
    """ok, warning or error"""
    count: int
    message: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ok(name: str, message: str) -> Finding:
    return Finding(name=name, level="ok", count=0, message=message)


def warning(name: str, message: str, *, count: int = 1) -> Finding:
    return Finding(name=name, level="warning", count=count, message=message)


def error(name: str, message: str, *, count: int = 1) -> Finding:
    return Finding(name=name, level="error", count=count, message=message)
