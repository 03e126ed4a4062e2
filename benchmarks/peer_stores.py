"""Vector stores that run inside a program and keep a folder: qdrant-client, milvus-lite, sqlite-vec, lancedb.

Each stores two numbers with a vector and filters by them itself.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peer_libraries import EF_CONSTRUCTION, M, Search
from benchmarks.peer_workload import Floats, Range

AT_A_TIME = 1_000
QDRANT_MOST_KEPT = 20_000
"""Points that qdrant-client stores in a file; it advises against more in its local mode."""


def qdrant(vectors: Floats, fields: Any, folder: Path) -> Search:
    """qdrant-client's local mode, every vector compared in numpy: in SQLite, or many in memory alone.

    Storing 10,000 takes it minutes.
    """
    from qdrant_client import QdrantClient, models

    client = (
        QdrantClient(path=str(folder), force_disable_check_same_thread=True)
        if len(vectors) <= QDRANT_MOST_KEPT
        else QdrantClient(":memory:")
    )
    client.create_collection(
        "all",
        vectors_config=models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT),
    )
    names = list(fields)
    client.upload_collection(
        "all",
        vectors=vectors,
        ids=range(len(vectors)),
        payload=[
            dict(zip(names, numbers, strict=True))
            for numbers in zip(*(fields[name].tolist() for name in names), strict=True)
        ],
    )

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        test = None
        if given is not None:
            bounds = models.Range(gte=given.low, lt=given.high)
            test = models.Filter(must=[models.FieldCondition(key=given.field, range=bounds)])
        found = client.query_points(
            "all", query=vector.tolist(), query_filter=test, limit=k, with_payload=False
        )
        return [int(point.id) for point in found.points]

    return search


def milvus(vectors: Floats, fields: Any, folder: Path) -> Search:
    """milvus-lite with an HNSW index, made when all is stored: rows that come later are compared one by one."""
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(str(folder / "all.db"))
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    for name in fields:
        schema.add_field(name, DataType.INT64)
    client.create_collection("everything", schema=schema)
    for rows in _rows(vectors, fields):
        client.insert("everything", [row | {"vector": row["vector"].tolist()} for row in rows])
    client.flush("everything")
    index = client.prepare_index_params()
    index.add_index(
        "vector",
        index_type="HNSW",
        metric_type="IP",
        params={"M": M, "efConstruction": EF_CONSTRUCTION},
    )
    client.create_index("everything", index)
    client.load_collection("everything")

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        (found,) = client.search(
            "everything",
            data=[vector.tolist()],
            filter=_sql(given).replace(" AND ", " and "),
            limit=k,
            search_params={"params": {"ef": ef}},
        )
        return [int(hit["id"]) for hit in found]

    return search


def sqlite_vec(vectors: Floats, fields: Any, folder: Path) -> Search:
    """sqlite-vec, which compares every vector that its metadata columns leave."""
    import sqlite3

    import sqlite_vec as extension

    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        raise ImportError("this Python's sqlite3 was built without loadable extensions")
    own = threading.local()

    def connection() -> sqlite3.Connection:
        """One for each thread."""
        if not hasattr(own, "connection"):
            own.connection = sqlite3.connect(folder / "all.sqlite3")
            own.connection.enable_load_extension(True)
            extension.load(own.connection)
        found: sqlite3.Connection = own.connection
        return found

    columns = ", ".join(f"{name} integer" for name in fields)
    connection().execute(
        f"CREATE VIRTUAL TABLE everything USING vec0("
        f"vector float[{vectors.shape[1]}] distance_metric=cosine, {columns})"
    )
    names = ["id", "vector", *fields]
    marks = ", ".join("?" for _ in names)
    for rows in _rows(vectors, fields):
        connection().executemany(
            f"INSERT INTO everything (rowid, {', '.join(names[1:])}) VALUES ({marks})",
            ([row["id"], row["vector"].tobytes(), *(row[name] for name in fields)] for row in rows),
        )
    connection().commit()

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        where = f" AND {_sql(given)}" if given else ""
        statement = f"SELECT rowid FROM everything WHERE vector MATCH ? AND k = ?{where}"
        packed = struct.pack(f"{len(vector)}f", *vector)
        return [row for (row,) in connection().execute(statement, [packed, k])]

    return search


def lancedb_flat(vectors: Floats, fields: Any, folder: Path) -> Search:
    """lancedb without an index, filters before the search."""
    return _lancedb_search(_lancedb_table(vectors, fields, folder), probes=None)


def lancedb_hnsw(vectors: Floats, fields: Any, folder: Path) -> Search:
    """lancedb's HNSW in partitions, the best compared again exactly; filters before the search."""
    table = _lancedb_table(vectors, fields, folder)
    partitions = max(1, len(vectors) // 100_000)
    table.create_index(
        metric="dot",
        index_type="IVF_HNSW_SQ",
        num_partitions=partitions,
        m=M,
        ef_construction=EF_CONSTRUCTION,
    )
    for name in fields:
        table.create_scalar_index(name, index_type="BTREE")
    return _lancedb_search(table, probes=partitions)


def _lancedb_table(vectors: Floats, fields: Any, folder: Path) -> Any:
    import lancedb
    import pyarrow

    width = vectors.shape[1]
    columns = {
        "id": pyarrow.array(range(len(vectors))),
        "vector": pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), width),
    }
    columns |= {name: pyarrow.array(numbers) for name, numbers in fields.items()}
    return lancedb.connect(folder).create_table("everything", data=pyarrow.table(columns))


def _lancedb_search(table: Any, *, probes: int | None) -> Search:
    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        query = table.search(vector).distance_type("dot").limit(k).select(["id", "_distance"])
        if probes is not None:
            query = query.nprobes(probes).ef(ef).refine_factor(4)
        if given is not None:
            query = query.where(_sql(given), prefilter=True)
        return [int(row) for row in query.to_arrow()["id"].to_pylist()]

    return search


def _sql(given: Range | None) -> str:
    if given is None:
        return ""
    return f"{given.field} >= {given.low} AND {given.field} < {given.high}"


def _rows(vectors: Floats, fields: Any) -> Iterator[list[dict[str, Any]]]:
    """The rows to store, some at a time."""
    for start in range(0, len(vectors), AT_A_TIME):
        yield [
            {"id": row, "vector": vectors[row]}
            | {name: int(numbers[row]) for name, numbers in fields.items()}
            for row in range(start, min(start + AT_A_TIME, len(vectors)))
        ]
