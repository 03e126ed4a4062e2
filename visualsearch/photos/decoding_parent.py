"""Starts a decoding process, talks to it through a socket, and ends it: the side of `decoding`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import PIL

import visualsearch
from visualsearch.exceptions import EncoderUnavailableError
from visualsearch.photos.decoding_child import ANSWER, BEGUN, LOT, MAX_MESSAGE_BYTES, PIXELS, READY

_START_TIMEOUT_S = 30.0


class Child:
    """One decoding process and the socket to it."""

    def __init__(self, *, timeout_s: float, memory_bytes: int, max_pixels: int) -> None:
        self.served = 0
        self.deadline = 0.0
        self.connection, theirs = socket.socketpair()
        limits = (os.getpid(), timeout_s, memory_bytes, max_pixels)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [
                        _python(),
                        "-P",
                        "-m",
                        "visualsearch.photos.decoding_child",
                        *map(str, limits),
                    ],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    env=_environment(),
                )
            except OSError as error:
                self.connection.close()
                raise EncoderUnavailableError(
                    f"No image decoder could be started with {_python()!r} ({error})."
                ) from error
        assert self.process.stderr is not None
        try:
            self.deadline = time.monotonic() + _START_TIMEOUT_S
            if self.receive(pixels=0)[0] != READY:
                raise ConnectionError("it did not say that it is ready")
        except OSError as error:
            self.process.kill()
            said = self.process.stderr.read().decode("utf-8", "replace").strip()[-2000:]
            raise EncoderUnavailableError(
                f"The image decoder `{_python()} -m visualsearch.photos.decoding_child` did not start "
                f"({error}; {self.end()}): {said or 'it said nothing'}"
            ) from error
        finally:
            self.process.stderr.close()

    def send(self, requests: Sequence[bytes], *, timeout_s: float) -> None:
        """Hands over a lot of images; ConnectionError if the child is gone before it begins."""
        self.deadline = time.monotonic() + timeout_s
        self.connection.settimeout(timeout_s)
        lot = LOT.pack(len(requests), sum(map(len, requests)))
        self.connection.sendall(b"".join([lot, *requests]))
        if self.receive(pixels=0)[0] != BEGUN:
            raise ConnectionError("it did not say that it has begun")
        self.served += len(requests)

    def receive(self, *, pixels: int) -> tuple[int, bytearray]:
        """Kind and content of the next answer; OSError for anything else, TimeoutError if late."""
        kind, length = ANSWER.unpack(self._read(ANSWER.size))
        limit = pixels if kind == PIXELS else MAX_MESSAGE_BYTES
        if length > limit or (kind == PIXELS and length != pixels):
            raise ConnectionError(f"it answered with {length} bytes of kind {kind}")
        return kind, self._read(length)

    def end(self) -> str:
        self.connection.close()
        # A crash closes the socket a moment before its exit status is there to be read.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=0.05)
        self.process.kill()
        status = self.process.wait()
        return f"{signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def _read(self, count: int) -> bytearray:
        buffer = bytearray(count)
        view = memoryview(buffer)
        while view:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
            received = self.connection.recv_into(view)
            if not received:
                raise ConnectionResetError("it went away")
            view = view[received:]
        return buffer


def _python() -> str:
    """The interpreter: a server that embeds Python may give its own name as sys.executable."""
    executable = Path(sys.executable or "")
    if executable.name.startswith(("python", "pypy")):
        return str(executable)
    return str(Path(sys.exec_prefix, "bin", "python3"))


def _environment() -> dict[str, str]:
    """What a child needs to import this package and Pillow; no secret of the shop's goes along."""
    folders = dict.fromkeys(str(Path(str(m.__file__)).parents[1]) for m in (visualsearch, PIL))
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(folders)}
