"""The demo shop's services and data in a folder of their own, for benchmarks that need them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from shop import embedded

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Where the benchmark's database, Redis and files are."""

    environment: dict[str, str]
    data: Path
    """Photos (`media`) and checkpoints."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            return connection.execute(sql).fetchall()  # type: ignore[arg-type]

    def query(self, sql: str) -> Any:
        """The first column of the first row, or None."""
        return next((row[0] for row in self.rows(sql)), None)

    def manage(self, *arguments: str) -> None:
        """Run a management command, its output going to the terminal."""
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True)

    def worker_command(self, queues: str) -> list[str]:
        """A Celery worker of one child with its own beat, for `process`."""
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "workers.celery",
            "worker",
            "-B",
            "-c",
            "1",
        ]
        command += ["-Q", queues, "--loglevel", "WARNING", "--without-mingle"]
        return [*command, "--schedule", str(self.data / "beat")]

    @contextlib.contextmanager
    def process(self, command: Sequence[str], **extra: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process beside the benchmark, ended with the block."""
        started = subprocess.Popen(command, cwd=ROOT, env=self.environment | extra)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()

    @contextlib.contextmanager
    def web(
        self, *, settings: str = "shop.settings", threads: int = 4, **extra: str
    ) -> Iterator[str]:
        """The shop behind gunicorn on a free port of the loopback; its URL. `extra`: environment."""
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "shop.wsgi:application"]
        command += ["--bind", f"127.0.0.1:{port}", "--threads", str(threads)]
        command += ["--keep-alive", "60", "--log-level", "warning"]
        with self.process(command, DJANGO_SETTINGS_MODULE=settings, **extra):
            url = f"http://127.0.0.1:{port}/"
            wait_for(url + "api/health/")
            yield url


@contextlib.contextmanager
def start(name: str) -> Iterator[Stack]:
    """Services with their data below `.run/NAME`, photos and checkpoints below `var/NAME`."""
    data = ROOT / "var" / name
    with embedded.start(ROOT / ".run" / name) as services:
        environment = os.environ | {
            "DATABASE_URL": services.database_url,
            "REDIS_URL": services.redis_url,
            "DATA_DIR": str(data),
            "DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "PYTHONPATH": str(ROOT),
        }
        yield Stack(environment=environment, data=data)


def exists(name: str) -> bool:
    return (ROOT / "var" / name).exists()


def remove(name: str) -> None:
    """Delete what a run before left under `name`."""
    for folder in (ROOT / ".run" / name, ROOT / "var" / name):
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, *, seconds: float = 60.0) -> None:
    """Return once `url` answers at all; TimeoutError otherwise."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"{url} did not answer within {seconds:g} s")
