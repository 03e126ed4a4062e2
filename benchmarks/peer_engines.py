"""Other vector engines behind one small interface: build, then the keys nearest to a vector.

Each keeps two numbers with a vector, `chance` and `rank`; a filter is a range of one of them. Those
with an HNSW graph get the m and ef_construction of ours and, like ours, the smallest ef of a ladder
that finds 98 % without filters.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
M, EF_CONSTRUCTION = 16, 128


@dataclass(frozen=True)
class Range:
    """low <= field < high."""

    field: str
    low: int
    high: int


Search = Callable[[Floats, Range | None, int, int], list[int]]
"""(vector, filter, k, ef) -> positions of the vectors found, the nearest first."""


def qdrant(vectors: Floats, fields: dict[str, Any]) -> Search:
    """qdrant-client's local mode, which compares every vector in numpy."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    client.create_collection(
        "all",
        vectors_config=models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT),
    )
    client.upload_collection(
        "all",
        vectors=vectors,
        ids=range(len(vectors)),
        payload=[
            {name: int(values[row]) for name, values in fields.items()}
            for row in range(len(vectors))
        ],
    )

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        kept = None
        if given is not None:
            bounds = models.Range(gte=given.low, lt=given.high)
            kept = models.Filter(must=[models.FieldCondition(key=given.field, range=bounds)])
        found = client.query_points("all", query=vector.tolist(), query_filter=kept, limit=k)
        return [int(point.id) for point in found.points]

    return search


def milvus(vectors: Floats, fields: dict[str, Any]) -> Search:
    """milvus-lite, with the index that it chooses itself."""
    from pymilvus import MilvusClient

    folder = tempfile.TemporaryDirectory(prefix="vs-milvus-")
    client = MilvusClient(str(Path(folder.name) / "all.db"))
    client.create_collection("all", dimension=vectors.shape[1], metric_type="IP")
    for start in range(0, len(vectors), 1000):
        rows = [
            {"id": row, "vector": vectors[row].tolist()}
            | {name: int(values[row]) for name, values in fields.items()}
            for row in range(start, min(start + 1000, len(vectors)))
        ]
        client.insert("all", rows)

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        assert folder  # kept as long as the client
        text = ""
        if given is not None:  # milvus-lite reads no chained comparison
            text = f"{given.field} >= {given.low} and {given.field} < {given.high}"
        (found,) = client.search("all", data=[vector.tolist()], filter=text, limit=k)
        return [int(hit["id"]) for hit in found]

    return search


def faiss_hnsw(vectors: Floats, fields: dict[str, Any]) -> Search:
    """faiss's graph, the filter a bitmap that is made for each query, as a shop would have to."""
    import faiss

    index = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.add(vectors)

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        selector = None
        if given is not None:
            values = fields[given.field]
            kept = np.packbits((values >= given.low) & (values < given.high), bitorder="little")
            selector = faiss.IDSelectorBitmap(kept)
        parameters = faiss.SearchParametersHNSW(efSearch=ef, sel=selector)
        _, found = index.search(vector[None], k, params=parameters)
        return [int(row) for row in found[0] if row >= 0]

    return search


def faiss_flat(vectors: Floats, fields: dict[str, Any]) -> Search:
    """faiss comparing every vector."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        selector = None
        if given is not None:
            values = fields[given.field]
            kept = np.packbits((values >= given.low) & (values < given.high), bitorder="little")
            selector = faiss.IDSelectorBitmap(kept)
        _, found = index.search(vector[None], k, params=faiss.SearchParameters(sel=selector))
        return [int(row) for row in found[0] if row >= 0]

    return search


def hnswlib(vectors: Floats, fields: dict[str, Any]) -> Search:
    """hnswlib's graph; its filter is a Python function that is called for every vector visited."""
    import hnswlib as library

    index = library.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=M, ef_construction=EF_CONSTRUCTION)
    index.add_items(vectors, np.arange(len(vectors)), num_threads=1)

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        index.set_ef(ef)
        kept: Callable[[int], bool] | None = None
        if given is not None:
            values, low, high = fields[given.field], given.low, given.high

            def kept(row: int) -> bool:
                return bool(low <= values[row] < high)

        while True:
            try:
                found, _ = index.knn_query(vector[None], k=k, num_threads=1, filter=kept)
            except RuntimeError:  # it gives k rows or none
                k -= 1
                if k:
                    continue
                return []
            return [int(row) for row in found[0]]

    return search


def sqlite_vec(vectors: Floats, fields: dict[str, Any]) -> Search:
    """sqlite-vec, which compares every vector that the metadata columns leave."""
    import sqlite3

    import sqlite_vec as extension

    connection = sqlite3.connect(":memory:", check_same_thread=False)
    if not hasattr(connection, "enable_load_extension"):
        raise ImportError("this Python's sqlite3 was built without loadable extensions")
    connection.enable_load_extension(True)
    extension.load(connection)
    columns = ", ".join(f"{name} integer" for name in fields)
    connection.execute(
        f"CREATE VIRTUAL TABLE everything USING vec0("
        f"vector float[{vectors.shape[1]}] distance_metric=cosine, {columns})"
    )
    marks = ", ".join("?" for _ in fields)
    connection.executemany(
        f"INSERT INTO everything (rowid, vector, {', '.join(fields)}) VALUES (?, ?, {marks})",
        (
            (row, vectors[row].tobytes(), *(int(values[row]) for values in fields.values()))
            for row in range(len(vectors))
        ),
    )

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        where, parameters = "", [struct.pack(f"{len(vector)}f", *vector), k]
        if given is not None:
            where = f" AND {given.field} >= ? AND {given.field} < ?"
            parameters += [given.low, given.high]
        statement = f"SELECT rowid FROM everything WHERE vector MATCH ? AND k = ?{where}"
        return [row for (row,) in connection.execute(statement, parameters)]

    return search


def lancedb(vectors: Floats, fields: dict[str, Any]) -> Search:
    """lancedb without an index, filters before the search."""
    import lancedb as library

    folder = tempfile.TemporaryDirectory(prefix="vs-lance-")
    rows = [
        {"id": row, "vector": vectors[row]}
        | {name: int(values[row]) for name, values in fields.items()}
        for row in range(len(vectors))
    ]
    table = library.connect(folder.name).create_table("everything", data=rows)

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        assert folder
        query = table.search(vector).distance_type("dot").limit(k).select(["id"])
        if given is not None:
            query = query.where(
                f"{given.field} >= {given.low} AND {given.field} < {given.high}", prefilter=True
            )
        return [int(row["id"]) for row in query.to_list()]

    return search


ENGINES: dict[str, tuple[Callable[[Floats, dict[str, Any]], Search], bool]] = {
    "faiss HNSW": (faiss_hnsw, True),
    "faiss flat": (faiss_flat, False),
    "hnswlib": (hnswlib, True),
    "qdrant-client, local": (qdrant, False),
    "milvus-lite": (milvus, False),
    "sqlite-vec": (sqlite_vec, False),
    "lancedb, flat": (lancedb, False),
}
"""How each is built, and whether it is searched with an ef."""
