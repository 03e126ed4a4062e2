"""The product's key in SQL, of whatever type it is: integer, UUID or text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from visualsearch.indexes import product_model
from visualsearch.tables import copying
from visualsearch.tables.partitions import database


def _uuid(value: Any) -> bytes:
    return copying.bytea((value if isinstance(value, UUID) else UUID(str(value))).bytes)


def _text(value: Any) -> bytes:
    return copying.text(str(value))


_FIELDS: dict[str, Callable[[Any], bytes]] = {
    "bigint": copying.bigint,
    "integer": copying.integer,
    "smallint": copying.smallint,
    "uuid": _uuid,
    "text": _text,
    "varchar": _text,
}


def sql_type() -> str:
    """Type of a column that refers to the key, for casts: "bigint", "uuid", "varchar(40)"."""
    return str(product_model()._meta.pk.rel_db_type(database()))


def prepared(product_ids: Iterable[Any]) -> list[Any]:
    """Keys as psycopg takes them for a parameter."""
    key, connection = product_model()._meta.pk, database()
    return [key.get_db_prep_value(pk, connection) for pk in product_ids]


def binary_field() -> Callable[[Any], bytes] | None:
    """What makes a key a field of a binary COPY; None for a type whose format is not known here."""
    kind = sql_type().partition("(")[0]
    return _FIELDS.get(kind)


_ARRAYS: dict[str, Callable[[Sequence[Any]], npt.NDArray[Any]]] = {
    "bigint": lambda ids: np.array(ids, dtype=np.int64),
    "integer": lambda ids: np.array(ids, dtype=np.int32),
    "smallint": lambda ids: np.array(ids, dtype=np.int16),
    "uuid": lambda ids: np.frombuffer(b"".join(UUID(str(pk)).bytes for pk in ids), dtype="V16"),
    "text": lambda ids: as_text(ids),
    "varchar": lambda ids: as_text(ids),
}


def binary_column(product_ids: Sequence[Any]) -> npt.NDArray[Any] | None:
    """Keys as `copying.packed` takes them; None for a type whose format is not known here."""
    kind = sql_type().partition("(")[0]
    return _ARRAYS[kind](product_ids) if kind in _ARRAYS else None


def as_text(product_ids: Sequence[Any]) -> npt.NDArray[np.object_]:
    """Keys as fields of a column of type text, whatever their own."""
    found = np.empty(len(product_ids), dtype=object)
    found[:] = [copying.text(str(pk)) for pk in product_ids]
    return found


def table_and_column() -> tuple[str, str]:
    """Quoted names of the product's table and of its key."""
    meta = product_model()._meta
    quote = database().ops.quote_name
    return quote(meta.db_table), quote(str(meta.pk.column))
