"""What Django's migrations lack: a partitioned table, and foreign keys that Postgres cascades."""

from __future__ import annotations

from typing import Any

from django.db import migrations
from django.db.migrations.operations.base import Operation


class CreatePartitionedModel(migrations.CreateModel):
    """CreateModel with PARTITION BY LIST on the column of one field."""

    def __init__(self, *args: Any, partition_by: str, **kwargs: Any) -> None:
        self.partition_by = partition_by
        super().__init__(*args, **kwargs)

    def database_forwards(self, app_label, schema_editor, from_state, to_state):  # type: ignore[no-untyped-def]
        model = to_state.apps.get_model(app_label, self.name)
        column = schema_editor.quote_name(model._meta.get_field(self.partition_by).column)
        plain = schema_editor.sql_create_table
        schema_editor.sql_create_table = f"{plain} PARTITION BY LIST ({column})"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.sql_create_table = plain

    def describe(self) -> str:
        return f"Create partitioned model {self.name}"


class CascadeInDatabase(Operation):
    """A foreign key that Postgres itself cascades, for a field with db_constraint=False.

    The constraint is immediate and NOT deferred, so that a raw DELETE cascades in its statement;
    so does a new value for a key that is text.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, model_name: str, field_name: str) -> None:
        self.model_name = model_name
        self.field_name = field_name

    def state_forwards(self, app_label, state):  # type: ignore[no-untyped-def]
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state):  # type: ignore[no-untyped-def]
        table, constraint, field = self._names(app_label, schema_editor, to_state)
        remote = field.remote_field.model._meta
        quote = schema_editor.quote_name
        schema_editor.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {constraint} FOREIGN KEY ({quote(field.column)}) "
            f"REFERENCES {quote(remote.db_table)} ({quote(remote.pk.column)}) ON DELETE CASCADE "
            "ON UPDATE CASCADE"
        )

    def database_backwards(self, app_label, schema_editor, from_state, to_state):  # type: ignore[no-untyped-def]
        table, constraint, _ = self._names(app_label, schema_editor, from_state)
        schema_editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {constraint}")

    def _names(self, app_label, schema_editor, state):  # type: ignore[no-untyped-def]
        model = state.apps.get_model(app_label, self.model_name)
        field = model._meta.get_field(self.field_name)
        quote = schema_editor.quote_name
        constraint = quote(f"{model._meta.db_table}_{self.field_name}_cascade")
        return quote(model._meta.db_table), constraint, field

    def describe(self) -> str:
        return f"Cascade {self.model_name}.{self.field_name} in the database"
