"""Columns of PostgreSQL types that Django has only in an app of its own: tsvector and text[]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    _Field = models.Field[Any, Any]
else:
    _Field = models.Field


class TSVectorField(_Field):
    """A document for full text search; written and read in SQL alone."""

    def db_type(self, connection: Any) -> str:
        return "tsvector"


class TextArrayField(_Field):
    """Texts; written and read in SQL alone."""

    def db_type(self, connection: Any) -> str:
        return "text[]"
