"""p50 and p95 over HTTP of the four searches, beside two floors and the encoder alone, in one run.

The kinds of request take turns, so that noise of the machine falls on all of them alike. With them
take their turns the encoder's own time, on one query, and the bare statement that finds the ten
nearest with the `ef_search` that the probe has chosen for that kind; for a text also the bare statement
that ranks what has those of its words that any product has. No search can do without these, nor without what ten products by key take.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import psycopg

from benchmarks import record, stack

COLOURS = ["red", "black", "striped", "white", "blue", "grey", "light pink", "dark green", "beige"]
KINDS = [
    "dress",
    "jeans",
    "t-shirt",
    "sneakers",
    "shirt",
    "bikini",
    "jumper",
    "skirt",
    "jacket",
    "bag",
]
DETAILS = [
    "",
    "cotton",
    "wool",
    "for kids",
    "with pockets",
    "long",
    "with a print",
    "for summer",
    "linen",
]
SIZES = ["", "in small", "in large", "plus size"]
WARM_UP = 20
"""Turns that are not counted: the first load the encoder and open connections."""
CHANGES = ["in blue", "in black instead of white", "in red", "in white", "make it green"]

Request = tuple[str, str, bytes | None, dict[str, str]]
"""Method, path, body and headers."""


class Client:
    """One kept-alive connection, as a browser or a shop's front end has."""

    def __init__(self, base: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=60)

    def time(self, request: Request) -> tuple[float, Any]:
        """Milliseconds until the whole answer is here, and the answer."""
        method, path, body, headers = request
        started = time.perf_counter()
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        content = response.read()
        elapsed = (time.perf_counter() - started) * 1000
        if response.status != 200:
            raise RuntimeError(f"{method} {path} answered {response.status}: {content[:500]!r}")
        return elapsed, json.loads(content)


def photo_request(photo: bytes) -> Request:
    boundary = "visualsearchbenchmark"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="limit"\r\n\r\n10\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + photo + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return "POST", "/api/search/", body, headers


def makers(keys: list[int], photos: list[Path]) -> dict[str, Callable[[], Request]]:
    """A fresh random request of each kind."""
    pick = random.Random(0)
    json_headers = {"Content-Type": "application/json"}

    def composed() -> Request:
        query = {"image": {"product": pick.choice(keys)}, "modify": pick.choice(CHANGES)}
        return "POST", "/api/search/", json.dumps(query | {"limit": 10}).encode(), json_headers

    def products() -> Request:
        ids = ",".join(str(key) for key in pick.sample(keys, 10))
        return "GET", f"/floor/products/?ids={ids}", None, {}

    # Each text comes once in so many: what is measured is encoding, not a cache of encodings.
    texts = [" ".join(words) for words in itertools.product(COLOURS, KINDS, DETAILS, SIZES)]
    pick.shuffle(texts)
    sentences = itertools.cycle(texts)

    def text() -> Request:
        words = next(sentences).strip()
        return "GET", f"/api/search/?limit=10&q={quote(words)}", None, {}

    def faceted() -> Request:
        method, path, body, headers = text()
        return method, f"{path}&facets=colour,category,price", body, headers

    def similar() -> Request:
        return "GET", f"/api/products/{pick.choice(keys)}/similar/?limit=10", None, {}

    return {
        "empty DRF view": lambda: ("GET", "/floor/empty/", None, {}),
        "ten products by key": products,
        "similar items": similar,
        "text": text,
        "text with three facets": faceted,
        "photo": lambda: photo_request(pick.choice(photos).read_bytes()),
        "composed": composed,
    }


def forwards(folder: Path, image_size: int) -> dict[str, Callable[[], object]]:
    """What the encoder of the checkpoint in `folder` does for one query of each kind."""
    from visualsearch.onnx_encoder import OnnxEncoder

    # As many threads as a web process has for each of its two turns at the encoder.
    encoder = OnnxEncoder(folder, threads=max(1, len(os.sched_getaffinity(0)) // 2))
    pixels = np.random.default_rng(0).integers(
        0, 256, (1, image_size, image_size, 3), dtype=np.uint8
    )
    image = encoder.encode_image(pixels)
    return {
        "text": lambda: encoder.encode_text([CHANGES[0]]),
        "photo": lambda: encoder.encode_image(pixels),
        "composed": lambda: encoder.compose(image, encoder.encode_text([CHANGES[0]])),
    }


def statements(
    connection: psycopg.Connection[Any], folder: Path, checkpoint: dict[str, Any], keys: list[int]
) -> dict[str, Callable[[], object]]:
    """The bare HNSW statement by kind of query, on one query vector after the other."""
    from visualsearch.onnx_encoder import OnnxEncoder

    encoder, table = OnnxEncoder(folder), f"visualsearch_embedding_c{checkpoint['id']}"
    pick = random.Random(1)
    rows = connection.execute(
        f"SELECT vector::vector::real[] FROM {table} WHERE product_id = ANY(%s)",  # type: ignore[arg-type]
        [pick.sample(keys, min(100, len(keys)))],
    ).fetchall()
    photos = np.array([row[0] for row in rows], dtype=np.float32)
    words = [" ".join(pick.choice(each) for each in (COLOURS, KINDS, DETAILS)) for _ in photos]
    texts, changes = (
        encoder.encode_text(words),
        encoder.encode_text([*map(pick.choice, [CHANGES] * len(photos))]),
    )
    kinds = {"photo": photos, "text": texts, "composed": encoder.compose(photos, changes)}

    def asking(kind: str, vectors: Any) -> Callable[[], object]:
        found = checkpoint["recall"].get("kinds", {}).get("image" if kind == "photo" else kind)
        ef = found["ef_search"] if found else 0
        queries = itertools.cycle(
            "[" + ",".join(f"{number:.6g}" for number in row) + "]" for row in vectors.tolist()
        )
        halfvec = f"halfvec({vectors.shape[1]})"
        # Where no probe had an index to measure, all vectors are compared, without the index.
        vector = f"vector::{halfvec}" if found else "vector"
        sql = f"SELECT product_id FROM {table} ORDER BY {vector} <#> %s::{halfvec} LIMIT 10"

        def ask() -> object:
            if ef:
                connection.execute(f"SET hnsw.ef_search = {int(ef)}")  # type: ignore[arg-type]
            return connection.execute(sql, [next(queries)]).fetchall()  # type: ignore[arg-type]

        return ask

    return {kind: asking(kind, vectors) for kind, vectors in kinds.items()}


def ranking(connection: psycopg.Connection[Any]) -> Callable[[], object]:
    """The bare full-text statement: the 100 that rank best among those with all words of a text that
    any product has.
    """
    pick = random.Random(1)
    asked = []
    for _ in range(300):
        text = " ".join(pick.choice(each) for each in (COLOURS, KINDS, DETAILS, SIZES))
        ((query,),) = connection.execute(
            "SELECT string_agg(quote_literal(lexeme), ' & ') "
            "FROM unnest(tsvector_to_array(to_tsvector('english', %s))) AS lexeme "
            "WHERE EXISTS (SELECT FROM visualsearch_searchword WHERE word = lexeme)",
            [text],
        ).fetchall()
        asked.append(query or "")
    queries = itertools.cycle(asked)

    def ask() -> object:
        query = next(queries)
        return connection.execute(
            "SELECT product_id FROM visualsearch_searchdocument WHERE document @@ %s::tsquery "
            "ORDER BY ts_rank(document, %s::tsquery) DESC LIMIT 100",
            [query, query],
        ).fetchall()

    return ask


def summary(
    times: dict[str, list[float]],
    encoding: dict[str, list[float]],
    searching: dict[str, list[float]],
) -> dict[str, dict[str, float]]:
    """Milliseconds, and multiples of ten products by key, also without the encoder's own time."""
    floor = statistics.median(times["ten products by key"])
    rows = {}
    for kind, values in times.items():
        middle = statistics.median(values)
        rows[kind] = {
            "p50_ms": round(middle, 2),
            "p95_ms": round(statistics.quantiles(values, n=20)[-1], 2),
            "times_ten_products_by_key": round(middle / floor, 2),
        }
        if kind in encoding:
            forward = statistics.median(encoding[kind])
            rows[kind] |= {
                "encoder_p50_ms": round(forward, 2),
                "without_encoder_times_ten_products": round((middle - forward) / floor, 2),
            }
        if kind in searching and kind in encoding:
            bare = statistics.median(searching[kind])
            rows[kind] |= {"bare_statement_p50_ms": round(bare, 2)}
            if kind == "text":
                words = statistics.median(searching["words"])
                rows[kind] |= {"bare_words_p50_ms": round(words, 2)}
                bare += words
            rows[kind] |= {
                "necessary_times_ten_products": round((floor + forward + bare) / floor, 2),
            }
    return rows


def run(*, name: str, requests: int) -> None:
    """Measure what `benchmarks.pipeline` has indexed under `name`; results/http_latency_NAME.json."""
    with stack.start(name) as services:
        keys = [key for (key,) in services.rows("SELECT id FROM shop_product ORDER BY id")]
        photos = sorted((services.data / "media").rglob("*.jpg"))[:500]
        if not keys or not photos:
            raise SystemExit(f"Nothing is indexed: run `python -m benchmarks --name {name}` first.")
        ((number, folder, image_size, recall),) = services.rows(
            "SELECT id, folder, image_size, recall FROM visualsearch_checkpoint "
            "WHERE state = 'live'"
        )
        root = services.data / "checkpoints" / folder
        with (
            services.web(settings="benchmarks.floor_settings") as url,
            psycopg.connect(services.environment["DATABASE_URL"], autocommit=True) as connection,
        ):
            bare = statements(connection, root, {"id": number, "recall": recall}, keys)
            bare |= {"words": ranking(connection)}
            times, encoding, searching = _measure(
                Client(url),
                makers(keys, photos),
                forwards(root, image_size),
                bare,
                requests=requests,
            )
            web = web_processes()
    latency = summary(times, encoding, searching)
    for kind, row in latency.items():
        print(
            f"{kind:22s} p50 {row['p50_ms']:8.2f} ms   p95 {row['p95_ms']:8.2f} ms   "
            f"{row['times_ten_products_by_key']:6.2f} x"
        )
    print(f"web processes: {json.dumps(web)}")
    figures = {
        "products": len(keys),
        "requests_of_each_kind": requests,
        "ef_search": {
            kind: [each["ef_search"], each["recall"]]
            for kind, each in recall.get("kinds", {}).items()
        },
        "latency": latency,
        "web_processes": web,
    }
    print(f"written to {record.write(f'http_latency_{name}', figures)}")


def web_processes() -> list[dict[str, Any]]:
    """Memory of gunicorn's processes that no other process shares, and whether torch is in it."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "gunicorn" not in " ".join(process.cmdline()):
                continue
        except psutil.NoSuchProcess:  # a child of PostgreSQL's that has just ended
            continue
        mapped = [each.path for each in process.memory_maps()]
        found.append(
            {
                "megabytes": round(process.memory_full_info().uss / 1e6, 1),
                "torch": any("libtorch" in path for path in mapped),
            }
        )
    return found


def _measure(
    client: Client,
    kinds: dict[str, Callable[[], Request]],
    alone: dict[str, Callable[[], object]],
    bare: dict[str, Callable[[], object]],
    *,
    requests: int,
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds of each request, of the encoder alone and of the bare statement, by kind."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    encoding: dict[str, list[float]] = {kind: [] for kind in alone}
    searching: dict[str, list[float]] = {kind: [] for kind in bare}
    for turn in range(WARM_UP + requests):
        is_counted = turn >= WARM_UP
        for kind, make in kinds.items():
            elapsed, answer = client.time(make())
            if isinstance(answer, dict) and answer.get("degraded"):
                raise SystemExit(f"{kind} was answered degraded: {answer}")
            if is_counted:
                times[kind].append(elapsed)
        for given, taken in ((alone, encoding), (bare, searching)):
            for kind, work in given.items():
                started = time.perf_counter()
                work()
                if is_counted:
                    taken[kind].append((time.perf_counter() - started) * 1000)
    return times, encoding, searching


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="drawn")
    parser.add_argument("--requests", type=int, default=300, help="requests of each kind")
    run(**vars(parser.parse_args()))
