"""A table that is filled beside those that are read, and becomes a checkpoint's partition when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction

from visualsearch.models import Checkpoint
from visualsearch.tables import partitions
from visualsearch.tables.partitions import database

_OWN_ROWS = "its_checkpoint"


@dataclass(frozen=True)
class Unattached:
    """It has the columns and checks of its parent, and keys, indexes and references when they are added."""

    name: str
    parent: str
    checkpoint: Checkpoint

    def create(self, *, with_keys: bool = False) -> None:
        with transaction.atomic(using=database().alias), database().cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE {self.name} (LIKE {self.parent} INCLUDING DEFAULTS "
                "INCLUDING CONSTRAINTS INCLUDING STORAGE, "
                # With it, no row has to be looked at again when the table becomes a partition.
                f"CONSTRAINT {_OWN_ROWS} CHECK (checkpoint_id = {int(self.checkpoint.pk)}))"
            )
            if with_keys:
                self.add_keys()

    def add_keys(self) -> None:
        """Add the parent's primary key and indexes."""
        with partitions.build_settings() as cursor:
            for definition in _constraints(self.parent, "p").values():
                cursor.execute(f"ALTER TABLE {self.name} ADD {definition}")
            for definition in _indexes(self.parent):
                cursor.execute(f"CREATE INDEX ON {self.name} USING {definition}")

    def add_references(self, delete_gone: Callable[[], object]) -> None:
        """Add the parent's foreign keys; `delete_gone` deletes the rows of products that are gone.

        Raises TablesBusyError where others hold the products for long. They are locked for a moment:
        a foreign key that does not say yet that its rows are valid holds for later changes, and
        nobody has to wait while the rows are looked at.
        """
        references, there = _constraints(self.parent, "f"), _constraints(self.name, "f")
        partitions.patiently(
            *(
                f"ALTER TABLE {self.name} ADD CONSTRAINT {name} {definition} NOT VALID"
                for name, definition in references.items()
                if name not in there
            )
        )
        delete_gone()
        with partitions.build_settings() as cursor:
            for name in references:
                cursor.execute(f"ALTER TABLE {self.name} VALIDATE CONSTRAINT {name}")
            cursor.execute(f"ANALYZE {self.name}")

    def attach(self, place: str, *, replacing: bool) -> None:
        """Make it the partition `place`; TablesBusyError where others hold the tables for long."""
        partitions.patiently(
            *([f"DROP TABLE {place}"] if replacing else []),
            f"ALTER TABLE {self.name} RENAME TO {place}",
            f"ALTER TABLE {self.parent} ATTACH PARTITION {place} "
            f"FOR VALUES IN ({int(self.checkpoint.pk)})",
            f"ALTER TABLE {place} DROP CONSTRAINT {_OWN_ROWS}",
        )

    def exists(self) -> bool:
        return partitions.is_there(self.name)

    def drop(self) -> None:
        partitions.patiently(f"DROP TABLE IF EXISTS {self.name}")


def _constraints(table: str, kind: str) -> dict[str, str]:
    """Name -> definition of constraints: "p" the primary key, "f" the foreign keys."""
    quote = database().ops.quote_name
    with database().cursor() as cursor:
        cursor.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = %s::regclass AND contype = %s",
            [table, kind],
        )
        return {quote(name): definition for name, definition in cursor.fetchall()}


def _indexes(table: str) -> list[str]:
    """What follows USING in the definitions of indexes that belong to no constraint."""
    with database().cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass "
            "AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
            [table],
        )
        return [definition.partition(" USING ")[2] for (definition,) in cursor.fetchall()]
