"""The process that embeds one suspected product after another for `trial`, and may die of it.

It is told what to do in lines of JSON through the socket that is its standard input, and answers in
such lines. Whatever may be deadly about a product happens here: the shop's own code, its storage,
the network, the database's driver.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import uuid
from pathlib import Path
from typing import IO, Any

READY, STEP, BEGUN, DONE = "ready", "step", "begun", "done"
FAULTS = DATABASE, DEFERRED, CHARGED = "database", "deferred", "charged"
"""How an attempt failed: the kinds of answer that have a code and a message."""

IDLE_SECONDS = 60.0
"""It ends when nobody has asked for anything for so long."""
SMALLEST_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
"""One white pixel."""


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Do what is asked until the other side is gone."""
    speaking = threading.Lock()  # photos are read and encoded on several threads

    def answer(kind: str, **more: Any) -> None:
        with speaking:
            answers.write(json.dumps({"kind": kind, **more}) + "\n")
            answers.flush()

    for line in requests:
        _perform(json.loads(line), answer)


def _perform(request: dict[str, Any], answer: Any) -> None:
    from django.db import InterfaceError, OperationalError, close_old_connections

    from visualsearch.exceptions import VisualSearchError
    from visualsearch.indexes import product_model
    from visualsearch.models import Checkpoint
    from visualsearch.upkeep import embedding

    close_old_connections()
    key = product_model()._meta.pk.to_python(request.get("product"))
    try:
        checkpoints = list(Checkpoint.objects.filter(pk__in=request["checkpoints"]).order_by("pk"))
        warm_up(checkpoints)
        if key is None:
            answer(READY)
            return
        answer(BEGUN)
        report = embedding.embed_products(
            [key],
            checkpoints=checkpoints,
            versions={key: request["version"]},
            lease=uuid.UUID(request["lease"]),
            step=lambda: answer(STEP),
            is_last=request["is_last"],
        )
    except (OperationalError, InterfaceError) as error:
        answer(DATABASE, code="database", message=str(error).strip())
    except (VisualSearchError, OSError) as error:
        answer(DEFERRED, code=getattr(error, "code", "system"), message=str(error).strip())
    except Exception as error:
        answer(CHARGED, code="error", message=f"{type(error).__name__}: {error}")
    else:
        fault = report.faults.get(key)
        answer(
            DONE,
            fault=None if fault is None else vars(fault),
            changed=key in report.changed,
            embedded=report.embedded,
        )


def warm_up(checkpoints: list[Any]) -> None:
    """Load networks and decoder: no product is blamed if that is deadly."""
    from visualsearch import encoding
    from visualsearch.exceptions import VisualSearchError

    with contextlib.suppress(VisualSearchError):
        encoding.decoder().decode(SMALLEST_PNG, size=8)
    for checkpoint in checkpoints:
        with contextlib.suppress(VisualSearchError):  # it is noted on what is embedded
            encoding.bulk_encoder(checkpoint)


def _prepare(databases: dict[str, dict[str, Any]]) -> None:
    """Bring Django up with the databases of the process that asks: tests have others than settings."""
    import django
    from django.conf import settings

    configured: dict[str, Any] = dict(settings.DATABASES)
    for alias, values in databases.items():
        configured[alias].update(values)
    django.setup()


def main() -> None:
    # A service manager that stops a worker tells all its processes; that is no product's fault, and
    # the end of the socket is the sign to go.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # When memory runs out, the kernel ends this process rather than the one that would notice.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    connection = socket.socket(fileno=os.dup(0))
    connection.settimeout(IDLE_SECONDS)
    with (
        contextlib.suppress(OSError),  # the other side is gone
        connection,
        connection.makefile("r", encoding="utf-8") as requests,
        connection.makefile("w", encoding="utf-8") as answers,
    ):
        _prepare(json.loads(requests.readline() or "{}"))
        serve(requests, answers)


if __name__ == "__main__":
    main()
