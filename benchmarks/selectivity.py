"""Recall@10 and rows of searches under filters, against exact search in numpy.

The searches are those that the views make (`searching.search`), with the filters that a visitor may
give. A filter leaves from all products to one in ten thousand: by chance (colours), or those that
are nearest to what is asked for (price below) or farthest from it (price above). The queries are
products, sentences outside the cloud of photos, and "like this but…". Every answer must have
min(10, matching) rows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import cpu, planted, record, stack

K = 10
TIE = 1e-5
"""Scores that differ by less are equal."""
WARM_UP = 3


@dataclass
class Cell:
    """What one kind of query found under one kind of filter."""

    matching: int
    found: int = 0
    wanted: int = 0
    short: int = 0
    """Answers with fewer rows than they could have."""
    milliseconds: list[float] = field(default_factory=list)
    cpu_milliseconds: list[float] = field(default_factory=list)
    """Of this process and of Postgres's that answered it: what another program takes is not in it."""

    def figures(self) -> dict[str, Any]:
        return {
            "matching": self.matching,
            "queries": len(self.milliseconds),
            "recall_at_10": round(self.found / self.wanted, 4) if self.wanted else 1.0,
            "answers_with_too_few_rows": self.short,
            "p50_ms": round(statistics.median(self.milliseconds), 2),
            "p95_ms": round(_p95(self.milliseconds), 2),
            "p50_cpu_ms": round(statistics.median(self.cpu_milliseconds), 2),
            "most_cpu_ms": round(max(self.cpu_milliseconds), 2),
        }


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query as searches take it, and its vector as Postgres sees it."""

    kind: str
    arguments: dict[str, Any]
    scores: Any
    """Of every product, float32 [N]; -inf of its own."""
    own: int | None
    """Index of the product that is asked about, which is not among the results."""


def run(
    *, name: str, products: int, width: int, axes: int, queries: int, write: bool = True
) -> dict[str, Any]:
    """Write results/selectivity_PRODUCTS.json."""
    with stack.start(name) as services:
        os.environ.update(
            services.environment
            | {"DJANGO_SETTINGS_MODULE": "benchmarks.load_settings", "ENCODER": planted.ENCODER}
        )
        services.manage("migrate", "--verbosity", "0")
        import django

        django.setup()
        figures = measure(products=products, width=width, axes=axes, queries=queries)
    _print(figures)
    if write:
        print(f"written to {record.write(f'selectivity_{products}', figures)}")
    return figures


def measure(*, products: int, width: int, axes: int, queries: int) -> dict[str, Any]:
    """Recall and rows by kind of query, correlation and selectivity.

    At each of `axes` products the prices are set anew, to the rank of nearness to it, and `queries`
    queries of each kind are made beside it.
    """
    import numpy as np

    checkpoint, keys, vectors = planted.make(products, width=width)
    colours = planted.set_colours(keys)
    chance = _colour_order(keys)
    cells: dict[tuple[str, str, float], Cell] = {}
    random = np.random.default_rng(3)
    for axis in random.choice(products, size=axes, replace=False).tolist():
        order = np.argsort(-(vectors @ vectors[axis]), kind="stable")
        ranks = np.empty(products, dtype=np.int64)
        ranks[order] = np.arange(products)
        planted.set_prices(keys, ranks)
        asked = list(_queries(checkpoint, keys, vectors, order, axis, queries))
        process = cpu.of_backend()
        for each in asked[:: max(1, len(asked) // WARM_UP)]:
            _search(each, {})
        for percent in planted.SELECTIVITIES:
            count = planted.matches(percent, products)
            conditions: dict[str, tuple[dict[str, Any], Any]] = {
                "uncorrelated": ({"colour": colours[percent]}, chance < count),
                "correlated": ({"price__lt": count}, ranks < count),
                "anti-correlated": ({"price__gte": products - count}, ranks >= products - count),
            }
            if count == products:
                conditions = {"none": ({}, ranks >= 0)}
            for correlation, (filters, there) in conditions.items():
                for each in asked:
                    cell = cells.setdefault((each.kind, correlation, percent), Cell(count))
                    _measure_one(cell, each, filters, there, keys, process)
        print(f"axis {axis} done", flush=True)
    found: dict[str, Any] = {}
    for (kind, correlation, percent), cell in cells.items():
        found.setdefault(kind, {}).setdefault(correlation, {})[f"{percent:g}"] = cell.figures()
    figures = [cell.figures() for cell in cells.values()]
    return {
        "products": products,
        "width": width,
        "ef_search": {
            kind: each["ef_search"] for kind, each in checkpoint.recall.get("kinds", {}).items()
        },
        "seconds": checkpoint.metrics["seconds"],
        "least_recall": min(each["recall_at_10"] for each in figures),
        "answers_with_too_few_rows": sum(each["answers_with_too_few_rows"] for each in figures),
        "queries": sum(each["queries"] for each in figures),
        "kinds": found,
    }


def _queries(
    checkpoint: Any, keys: Any, vectors: Any, order: Any, axis: int, queries: int
) -> Iterator[Asked]:
    """Of each kind, beside the axis: products among its nearest, and sentences about it."""
    import numpy as np

    from shop.models import Product
    from visualsearch import encoding

    def scores(vector: Any, own: int | None) -> Any:
        # As Postgres sees it: queries are bound as halfvec.
        found = vectors @ vector.astype(np.float16).astype(np.float32)
        if own is not None:
            found[own] = -np.inf
        return found

    encoder = encoding.bulk_encoder(checkpoint)
    near = order[:: max(1, min(3, len(order) // queries))][:queries].tolist()
    rows = Product.objects.in_bulk([int(keys[number]) for number in near])
    for turn, number in enumerate(near):
        product = rows[int(keys[number])]
        words = f"near {axis} {turn}"
        (text,) = encoder.encode_text([words])
        (composed,) = encoder.compose(vectors[number][None], text[None])
        yield Asked(
            kind="image",
            arguments={"image": product},
            scores=scores(vectors[number], number),
            own=number,
        )
        yield Asked(
            kind="text",
            arguments={"text": words, "hybrid": {"semantic_ratio": 1}},
            scores=scores(text, None),
            own=None,
        )
        yield Asked(
            kind="composed",
            arguments={"image": product, "modify": words},
            scores=scores(composed, number),
            own=number,
        )


def _measure_one(
    cell: Cell, asked: Asked, filters: dict[str, Any], there: Any, keys: Any, process: Any
) -> None:
    import numpy as np

    scores = np.where(there, asked.scores, -np.inf)
    wanted = min(K, int(np.isfinite(scores).sum()))
    started, used = time.perf_counter(), process()
    found = _search(asked, filters)
    cell.milliseconds.append((time.perf_counter() - started) * 1000)
    cell.cpu_milliseconds.append(process() - used)
    at = np.searchsorted(keys, found).astype(int)
    bar = np.partition(scores, -wanted)[-wanted] - TIE if wanted else np.inf
    cell.found += len({int(n) for n in at if scores[n] >= bar})
    cell.wanted += wanted
    cell.short += len(found) != wanted


def _search(asked: Asked, filters: dict[str, Any]) -> list[int]:
    """Keys of the hits, their products loaded, as a view has them."""
    from visualsearch.search import searching

    results = searching.search(**asked.arguments, filters=filters, limit=K)
    if results.degraded:
        raise SystemExit(f"{asked.kind} was answered degraded: {results.reason}")
    return [hit.product.pk for hit in results]


def _colour_order(keys: Any) -> Any:
    """Place of every product in the order by colour: the first n have the colours of n products."""
    import numpy as np

    from shop.models import Product

    places = dict(Product.objects.values_list("pk", "colour"))
    numbers = np.array([int(places[int(key)].rpartition(" ")[2]) for key in keys])
    order = np.argsort(numbers, kind="stable")
    found = np.empty(len(keys), dtype=np.int64)
    found[order] = np.arange(len(keys))
    return found


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def _print(figures: dict[str, Any]) -> None:
    for kind, correlations in figures["kinds"].items():
        for correlation, by_percent in correlations.items():
            for percent, cell in by_percent.items():
                print(
                    f"{kind:9s} {correlation:16s} {percent:>5s} %  {cell['matching']:7d} matching  "
                    f"recall {cell['recall_at_10']:.3f}  short {cell['answers_with_too_few_rows']}  "
                    f"p50 {cell['p50_ms']:7.2f} ms  p95 {cell['p95_ms']:7.2f} ms  "
                    f"CPU p50 {cell['p50_cpu_ms']:6.2f} most {cell['most_cpu_ms']:6.2f} ms"
                )
    print(
        f"least recall {figures['least_recall']}, answers with too few rows: "
        f"{figures['answers_with_too_few_rows']} of {figures['queries']}"
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="selectivity", help="of the data's folders")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--axes", type=int, default=10, help="products that prices are ranked by")
    parser.add_argument("--queries", type=int, default=10, help="of each kind at each axis")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    run(**vars(parser.parse_args()))
