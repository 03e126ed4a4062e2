"""Rows into a staging table by binary COPY, many times faster than INSERT."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!II", 0, 0)
_TRAILER = struct.pack("!h", -1)
_CHUNK_BYTES = 1 << 20

# The fields of the binary format: a length, then what the type's receive function in Postgres reads.


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(f"!i{len(data)}s", len(data), data)


def bytea(value: bytes) -> bytes:
    return struct.pack(f"!i{len(value)}s", len(value), value)


def smallint(value: int) -> bytes:
    return struct.pack("!ih", 2, value)


def integer(value: int) -> bytes:
    return struct.pack("!ii", 4, value)


def bigint(value: int) -> bytes:
    return struct.pack("!iq", 8, value)


def double(value: float) -> bytes:
    return struct.pack("!id", 8, value)


def halfvec(value: npt.NDArray[np.floating[Any]]) -> bytes:
    """A float array of shape [width]."""
    return struct.pack("!iHH", 4 + 2 * len(value), len(value), 0) + value.astype(">f2").tobytes()


def packed(columns: Sequence[npt.NDArray[Any]]) -> bytes:
    """Rows in the binary format, made of whole columns, all [rows].

    Of numbers, of bytes of one length (dtype V16: a UUID), or of fields that are encoded already
    (dtype object). Much faster than `copy`, which makes each row field by field.
    """
    head = np.broadcast_to(np.int16(len(columns)), len(columns[0]))
    pieces: list[list[bytes]] = []
    fixed: list[tuple[npt.NDArray[Any], bool]] = [(head, False)]
    for column in columns:
        if column.dtype != object:
            fixed.append((column, True))
            continue
        if fixed:
            pieces.append(_numbers(fixed).tolist())
        pieces.append(column.tolist())
        fixed = []
    if not pieces:
        return _numbers(fixed).tobytes()
    if fixed:
        pieces.append(_numbers(fixed).tolist())
    return b"".join(itertools.chain.from_iterable(zip(*pieces, strict=True)))


def _numbers(columns: Sequence[tuple[npt.NDArray[Any], bool]]) -> npt.NDArray[np.void]:
    """Bytes of each row; of columns with True, a length comes first."""
    fields: list[tuple[str, Any]] = []
    for number, (column, has_length) in enumerate(columns):
        fields += [(f"length {number}", ">i4")] * has_length
        fields.append((f"value {number}", column.dtype.newbyteorder(">")))
    rows = np.empty(len(columns[0][0]), dtype=fields)
    for number, (column, has_length) in enumerate(columns):
        if has_length:
            rows[f"length {number}"] = column.dtype.itemsize
        rows[f"value {number}"] = column
    return rows.view(f"V{rows.dtype.itemsize}")


def stage(
    cursor: Any, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[bytes]]
) -> None:
    """Fill the temporary table `table` with `rows`; empty at the start of each transaction.

    `columns` maps names to SQL types. A product's key is staged as text and cast when it is used,
    so that keys of every type are written by the same code. The table is made once a connection.
    """
    _make_staging(cursor, table, columns)
    copy(cursor, table, list(columns), rows)


def stage_packed(cursor: Any, table: str, columns: Mapping[str, str], rows: bytes) -> None:
    """The same with rows as `packed` makes them."""
    _make_staging(cursor, table, columns)
    copy_packed(cursor, table, list(columns), rows)


def _make_staging(cursor: Any, table: str, columns: Mapping[str, str]) -> None:
    definition = ", ".join(f"{name} {sql_type}" for name, sql_type in columns.items())
    cursor.execute(  # in one go; without a notice that it exists already
        "SET LOCAL client_min_messages = warning; "
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {table} ({definition}) ON COMMIT DELETE ROWS; "
        f"DELETE FROM {table}"
    )


def copy(cursor: Any, table: str, columns: Sequence[str], rows: Iterable[Sequence[bytes]]) -> None:
    """Append `rows` to `table`; each has the fields of `columns` in their order."""
    count = struct.pack("!h", len(columns))

    def chunks() -> Iterator[bytes]:
        chunk = bytearray()
        for row in rows:
            chunk += count
            for value in row:
                chunk += value
            if len(chunk) > _CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
        yield bytes(chunk)

    _copy(cursor, table, columns, chunks())


def copy_packed(cursor: Any, table: str, columns: Sequence[str], rows: bytes) -> None:
    """Append `rows` to `table`, as `packed` makes them of the `columns` in their order."""
    view = memoryview(rows)
    _copy(
        cursor,
        table,
        columns,
        (view[start : start + _CHUNK_BYTES] for start in range(0, len(rows), _CHUNK_BYTES)),
    )


def _copy(
    cursor: Any, table: str, columns: Sequence[str], chunks: Iterable[bytes | memoryview]
) -> None:
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    # Django wraps the errors of `execute` alone, and callers look for Django's.
    with cursor.db.wrap_database_errors, cursor.copy(statement) as stream:
        stream.write(_HEADER)
        for chunk in chunks:
            stream.write(chunk)
        stream.write(_TRAILER)
