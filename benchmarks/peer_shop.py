"""Our search in Postgres, asked as a shop asks it, and the floors below it.

The floors are SELECT 1, ten products by key through the ORM and through DRF, and the bare HNSW
statement of pgvector's manual, joined to the products where there is a filter, with and without its
iterative scan. Ours is `searching.search` and the REST view, in this process: hits are the shop's
own products, filtered by columns as they are at this moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import cpu, peer_timing, peer_workload, planted
from benchmarks.peer_timing import Ask, Limits
from benchmarks.peer_workload import NO_FILTER, K, Range, Workload

OURS = "visualsearch"
OURS_OVER_DRF = "visualsearch, REST view"
ITERATIVE = "bare HNSW statement, iterative scan"
COLUMNS = {"chance": "stock", "rank": "price"}
"""Which of the shop's columns holds the number that the other engines filter by."""


def build(products: int, *, width: int, queries: int, folder: Path) -> Workload:
    """A shop of that many products with an index, and what all engines are going to be asked."""
    _, keys, vectors = planted.make(products, width=width)
    workload = peer_workload.make(vectors, queries=queries)
    planted.set_prices(keys, workload.fields["rank"])
    planted.set_stocks(keys, workload.fields["chance"])
    _give_photos(keys)
    workload.save(folder)
    return workload


def measure(workload: Workload, *, limits: Limits) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, its figures) of each floor and of ours, as they come."""
    _index_stock()
    shop = _Shop(workload)
    numpy_scan = {"numpy_scan_ms": peer_timing.scan(workload)}
    floors: dict[str, Ask] = {
        "SELECT 1": shop.select_one,
        "ten products by key, ORM": shop.ten_products,
        "ten products by key, REST view": shop.ten_products_view,
    }
    for name, ask in floors.items():
        figures = peer_timing.speed(ask, limits=limits, clock=shop.clock)
        figures.pop("answers")
        yield name, {"cases": {NO_FILTER: figures}} | numpy_scan
    ways: dict[str, Callable[[Range | None], Ask | None]] = {
        "bare HNSW statement": lambda given: shop.statement(given, "off"),
        ITERATIVE: lambda given: shop.statement(given, "relaxed_order"),
        OURS: shop.search,
        OURS_OVER_DRF: shop.view,
    }
    for name, way in ways.items():
        found: dict[str, Any] = {"cases": {}} | shop.about() | numpy_scan
        for case_name, case in workload.cases.items():
            ask_case = way(case.given)
            if ask_case is not None:
                found["cases"][case_name] = peer_timing.case(
                    ask_case, workload, case, limits=limits, clock=shop.clock
                )
                yield name, found
        yield name, found | {"memory_mib": _memory_of_postgres()}


class _Shop:
    """The ways to ask the shop for the nearest of the workload's queries."""

    def __init__(self, workload: Workload) -> None:
        import numpy as np

        from shop.models import Product
        from visualsearch.models import Checkpoint
        from visualsearch.queries import photo_tokens
        from visualsearch.search import nearest
        from visualsearch.tables import partitions

        checkpoint = Checkpoint.objects.live()
        assert checkpoint is not None
        self.checkpoint = checkpoint
        self.workload = workload
        self.keys = np.array(Product.objects.order_by("pk").values_list("pk", flat=True))
        self.keys = self.keys[: len(workload.vectors)]
        self.tokens = [photo_tokens.make(checkpoint.pk, vector) for vector in workload.asked]
        self.texts = ["[" + ",".join(f"{n:.6g}" for n in row) + "]" for row in workload.asked]
        self.table = partitions.partition_name(checkpoint)
        self.index = partitions.index_name(checkpoint)
        self.ef = nearest.ef_search(checkpoint, nearest.Kind.IMAGE)
        self.clock = cpu.of_backend()
        random = np.random.default_rng(2)
        self.tens = [random.choice(self.keys, size=K, replace=False).tolist() for _ in self.tokens]

    def about(self) -> dict[str, Any]:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_table_size(%s::regclass), pg_relation_size(%s::regclass)",
                [self.table, self.index],
            )
            table, index = cursor.fetchone()
        seconds = self.checkpoint.metrics["seconds"]
        return {
            "build_seconds": round(seconds["embeddings stored"] + seconds["HNSW index"], 2),
            "disk_mib": round((table + index) / 2**20, 1),
            "ef": self.ef,
        }

    def select_one(self, number: int) -> list[int]:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return [row[0] for row in cursor.fetchall()]

    def ten_products(self, number: int) -> list[int]:
        from shop.models import Product

        found = Product.objects.prefetch_related("images").in_bulk(self.tens[number])
        return list(found)

    def ten_products_view(self, number: int) -> list[int]:
        from django.test import RequestFactory

        from benchmarks.floor_urls import ProductsView

        ids = ",".join(str(key) for key in self.tens[number])
        response = ProductsView.as_view()(RequestFactory().get("/", {"ids": ids})).render()
        return [each["id"] for each in json.loads(response.content)]

    def statement(self, given: Range | None, iterative: str) -> Ask:
        from django.db import connection, transaction

        where, values = "", []
        if given is not None:
            column = COLUMNS[given.field]
            where = (
                f"JOIN shop_product AS p ON p.id = e.product_id "
                f"WHERE p.{column} >= %s AND p.{column} < %s "
            )
            values = [given.low, given.high]
        kind = f"halfvec({self.checkpoint.width})"
        statement = (
            f"SELECT e.product_id FROM {self.table} AS e {where}"
            f"ORDER BY e.vector::{kind} <#> %s::{kind} LIMIT {K}"
        )

        def ask(number: int) -> list[int]:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('hnsw.ef_search', %s, true), "
                    "set_config('hnsw.iterative_scan', %s, true)",
                    [str(self.ef), iterative],
                )
                cursor.execute(statement, [*values, self.texts[number]])
                return self._positions([row[0] for row in cursor.fetchall()])

        return ask

    def search(self, given: Range | None) -> Ask:
        from shop.models import Product
        from visualsearch.search import searching

        queryset = None
        if given is not None:
            name = COLUMNS[given.field]
            queryset = Product.objects.filter(
                **{f"{name}__gte": given.low, f"{name}__lt": given.high}
            )

        def ask(number: int) -> list[int]:
            results = searching.search(image=self.tokens[number], queryset=queryset, limit=K)
            return self._positions([hit.product.pk for hit in results])

        return ask

    def view(self, given: Range | None) -> Ask | None:
        """None for the filter by chance: the demo shop lets nobody filter by stock."""
        from django.test import RequestFactory

        from visualsearch.api.views import SearchView

        filters = {}
        if given is not None:
            if COLUMNS[given.field] != "price":
                return None
            filters = {"price__gte": given.low, "price__lt": given.high}
        view, factory = SearchView.as_view(), RequestFactory(SERVER_NAME="127.0.0.1")

        def ask(number: int) -> list[int]:
            body = {"image": {"token": self.tokens[number]}, "filter": filters, "limit": K}
            request = factory.post("/", body, content_type="application/json")
            response = view(request).render()
            answer = json.loads(response.content)
            if "hits" not in answer:
                raise RuntimeError(f"The search view answered {response.status_code}: {answer}")
            return self._positions([hit["id"] for hit in answer["hits"]])

        return ask

    def _positions(self, keys: list[int]) -> list[int]:
        import numpy as np

        found: list[int] = np.searchsorted(self.keys, keys).tolist()
        return found


def _give_photos(keys: Any) -> None:
    """A row for a photo of each product, for the view that gives ten; its file is never opened."""
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "INSERT INTO shop_productimage (product_id, original, position) "
            "SELECT key, 'p/' || key || '.jpg', 0 FROM unnest(%s::bigint[]) AS given (key) "
            "WHERE NOT EXISTS (SELECT FROM shop_productimage AS i WHERE i.product_id = key)",
            [keys.tolist()],
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE shop_productimage")


def _index_stock() -> None:
    """As a shop has it on what it filters by; prices have one, stocks have none in the demo shop."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX IF NOT EXISTS peers_stock ON shop_product (stock)")
        cursor.execute("ANALYZE shop_product")


def _memory_of_postgres() -> float | None:
    """MiB of all of Postgres's processes, what they share counted once; None where it cannot be read."""
    import psutil
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    try:
        server = psutil.Process(pid).parent()
        if server is None:
            return None
        family = [server, *server.children()]
        return round(sum(each.memory_full_info().pss for each in family) / 2**20, 1)
    except (psutil.Error, AttributeError):
        return None
