"""Shoppers who search at a fixed rate, whether or not those before are answered."""

from __future__ import annotations

import http.client
import json
import queue
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

WORDS = ["red dress", "black jeans", "striped t-shirt", "white sneakers", "blue shirt", "bikini",
         "grey wool jumper", "long skirt", "kids jacket", "leather bag"]  # fmt: skip
SHOPPERS = 24
PATIENCE_S = 120.0


@dataclass
class Answer:
    at: float
    """Seconds since the load began."""
    kind: str
    about: Any
    """The product or the words that were asked for."""
    status: int
    seconds: float
    body: dict[str, Any] = field(default_factory=dict)


def is_error(answer: Answer) -> bool:
    return answer.status != 200 or bool(answer.body.get("degraded"))


def times(answers: Sequence[Answer]) -> dict[str, Any]:
    """Milliseconds until the answers were there."""
    spent = [1000 * answer.seconds for answer in answers]
    return {
        "answers": len(answers),
        "p50_ms": round(statistics.median(spent), 1) if spent else None,
        "p95_ms": round(statistics.quantiles(spent, n=20)[-1], 1) if len(spent) > 1 else None,
    }


class Answers(list[Answer]):
    """In the order in which they came."""

    began = 0.0


@contextmanager
def load(url: str, products: Sequence[Any], *, rate: float) -> Iterator[Answers]:
    """Requests about `products` at `rate` a second until the block ends; the answers so far."""
    answers, stop = Answers(), threading.Event()
    answers.began = time.monotonic()
    waiting: queue.Queue[tuple[str, Any] | None] = queue.Queue()

    def ring() -> None:
        pick, due = random.Random(0), time.monotonic()
        while not stop.is_set():
            kind = pick.choices(["similar", "product", "text"], [4, 4, 2])[0]
            waiting.put((kind, pick.choice(WORDS) if kind == "text" else pick.choice(products)))
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))

    def shop() -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        while (asked := waiting.get()) is not None:
            answers.append(_ask(connection, *asked, began=answers.began))

    threads = [threading.Thread(target=shop, daemon=True) for _ in range(SHOPPERS)]
    ringer = threading.Thread(target=ring, daemon=True)
    for thread in (*threads, ringer):
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        ringer.join()
        while not waiting.empty():  # a server that is too slow has left some
            waiting.get()
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join(PATIENCE_S)


def _ask(connection: http.client.HTTPConnection, kind: str, about: Any, *, began: float) -> Answer:
    method, body, headers = "GET", None, {}
    if kind == "similar":
        path = f"/api/products/{about}/similar/?limit=10"
    else:
        method, path = "POST", "/api/search/"
        # Vectors alone: recall is against the nearest vectors, not against words that match.
        words = {"q": about, "hybrid": {"semantic_ratio": 1}}
        body = json.dumps(
            (words if kind == "text" else {"image": {"product": about}}) | {"limit": 10}
        )
        headers = {"Content-Type": "application/json"}
    started = time.monotonic()
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        found, status = json.loads(content), response.status
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        found, status = {"error": f"{type(error).__name__}: {error}"}, 0
    return Answer(
        at=started - began,
        kind=kind,
        about=about,
        status=status,
        seconds=time.monotonic() - started,
        body=found,
    )


def wait(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"Waited {PATIENCE_S:g} s for {what}.")
        time.sleep(0.1)
