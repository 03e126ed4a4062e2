"""Vector libraries in the asking process: faiss and hnswlib.

They hold vectors and nothing else, so a filter is made of columns that the asking program keeps: a
bitmap for faiss, a Python function for hnswlib. Both write their index to a file when they are told
to; it is written once and its size counted, and searched in memory, as they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peer_workload import Floats, Range, kept

M, EF_CONSTRUCTION = 16, 128
"""As our index has them."""
Search = Callable[[Floats, Range | None, int, int], list[int]]
"""(vector, filter, k, ef) -> positions of the vectors found, the nearest first."""


def faiss_hnsw(vectors: Floats, fields: Any, folder: Path) -> Search:
    """faiss's graph; the filter is a bitmap that is made for each query, as a shop would have to."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.add(vectors)
    faiss.write_index(index, str(folder / "hnsw.faiss"))

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        parameters = faiss.SearchParametersHNSW(efSearch=ef, sel=_bitmap(fields, given))
        _, found = index.search(vector[None], k, params=parameters)
        return [int(row) for row in found[0] if row >= 0]

    return search


def faiss_flat(vectors: Floats, fields: Any, folder: Path) -> Search:
    """faiss comparing every vector that the bitmap leaves."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "flat.faiss"))

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        parameters = faiss.SearchParameters(sel=_bitmap(fields, given))
        _, found = index.search(vector[None], k, params=parameters)
        return [int(row) for row in found[0] if row >= 0]

    return search


def hnswlib(vectors: Floats, fields: Any, folder: Path) -> Search:
    """hnswlib's graph; its filter is a Python function that is called for every vector visited."""
    import hnswlib as library

    index = library.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=M, ef_construction=EF_CONSTRUCTION)
    index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
    index.save_index(str(folder / "hnswlib.bin"))

    def search(vector: Floats, given: Range | None, k: int, ef: int) -> list[int]:
        index.set_ef(ef)
        test: Callable[[int], bool] | None = None
        if given is not None:
            values, low, high = fields[given.field], given.low, given.high

            def test(row: int) -> bool:
                return bool(low <= values[row] < high)

        for rows in range(k, 0, -1):
            try:
                found, _ = index.knn_query(vector[None], k=rows, num_threads=1, filter=test)
            except RuntimeError:  # it gives all the rows that it was asked for, or none
                continue
            return [int(row) for row in found[0]]
        return []

    return search


def _bitmap(fields: Any, given: Range | None) -> Any:
    import faiss

    if given is None:
        return None
    return faiss.IDSelectorBitmap(np.packbits(kept(fields, given), bitorder="little"))
