"""The products that a search may find, as SQL that goes into its statements."""

from __future__ import annotations

from typing import Any

from django.db import models

from visualsearch.tables.deadlines import database


class Subquery:
    """`SELECT pk` of a queryset as SQL; EmptyResultSet when Django knows that nothing matches."""

    def __init__(self, queryset: models.QuerySet[Any]) -> None:
        query = queryset.order_by().values("pk").query
        self.sql, self.parameters = query.get_compiler(connection=database()).as_sql()
        may_repeat = len(query.alias_map) > 1
        self.distinct = f"SELECT DISTINCT pk FROM ({self.sql}) AS a(pk)" if may_repeat else self.sql
        """Each product once."""
        self.is_complicated = bool(query.distinct or query.group_by)
