"""Opens images in disposable child processes, so that a hostile one costs only its child.

The parent sends one framed request at a time over a socket pair and reads one framed answer;
`python -m visualsearch.decoding` is the other end. There is no multiprocessing, so this works in
Celery's prefork children, in the threads of a web server and after a fork. It needs POSIX.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

import PIL
from PIL import Image

import visualsearch
from visualsearch import images
from visualsearch.exceptions import (
    EncoderBusyError,
    EncoderUnavailableError,
    ImageDecodeError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_SIZE = 2048
IMAGES_PER_CHILD = 1000
"""A child is replaced after this many images: what it may have leaked goes with it."""

_START_TIMEOUT_S = 30.0
_ORPHAN_CHECK_S = 2.0

_REQUEST = struct.Struct("<II4d")  # bytes of the file, size of the result, box
_ANSWER = struct.Struct("<BI")  # kind of answer, bytes that follow
_READY, _PIXELS = 0, 1
_ERRORS: dict[int, type[ImageError]] = {
    2: ImageDecodeError,
    3: ImageFormatError,
    4: ImageTooLargeError,
}
_MAX_MESSAGE_BYTES = 1000
_WHOLE: images.Box = (0.0, 0.0, 1.0, 1.0)


class Decoder:
    """A pool of at most `processes` children, started when needed; safe to share by threads."""

    def __init__(
        self,
        *,
        processes: int = 2,
        timeout_s: float = 10.0,
        memory_bytes: int = 1 << 30,
        max_pixels: int = images.MAX_PIXELS,
    ) -> None:
        if processes < 1:
            raise ValueError(f"processes is {processes}: a decoder needs at least 1.")
        self.processes = processes
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.max_pixels = max_pixels
        self._pools: dict[int, _Pool] = {}

    def decode(
        self,
        data: bytes,
        *,
        size: int,
        box: images.Box | None = None,
        wait_s: float | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The letter-boxed picture as uint8 [size, size, 3].

        Raises the errors of `images.open_image`; ImageDecodeError also when the child crashes or
        takes longer than `timeout_s`; EncoderBusyError when no child becomes free in `wait_s`
        (`timeout_s` if not given); EncoderUnavailableError when none can be started.
        """
        images.check_box(box)
        wait_s = self.timeout_s if wait_s is None else wait_s
        return self._decode(data, size=size, box=box or _WHOLE, wait_s=wait_s)

    def decode_many(
        self, datas: Iterable[bytes], *, size: int
    ) -> Iterator[npt.NDArray[np.uint8] | ImageError]:
        """Each picture, or the error it gave, in order; a few are always in flight.

        `datas` is read in the caller's thread, and never more than a few images ahead.
        """

        def attempt(data: bytes) -> npt.NDArray[np.uint8] | ImageError:
            try:
                return self._decode(data, size=size, box=_WHOLE, wait_s=None)
            except ImageError as error:
                return error

        with ThreadPoolExecutor(self.processes, thread_name_prefix="decode") as threads:
            window: deque[Future[npt.NDArray[np.uint8] | ImageError]] = deque()
            try:
                for data in datas:
                    window.append(threads.submit(attempt, data))
                    if len(window) > 2 * self.processes:
                        yield window.popleft().result()
                while window:
                    yield window.popleft().result()
            finally:
                for future in window:
                    future.cancel()

    def close(self) -> None:
        """Ends the children; the next `decode` starts new ones."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()

    def pids(self) -> list[int]:
        """The children of this process, waiting or at work."""
        pool = self._pools.get(os.getpid())
        return [child.process.pid for child in list(pool.children)] if pool else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _decode(
        self, data: bytes, *, size: int, box: images.Box, wait_s: float | None
    ) -> npt.NDArray[np.uint8]:
        import numpy as np  # the children do without: it would double the time they take to start

        if not 1 <= size <= MAX_SIZE:
            raise ValueError(f"size is {size}: pixels a side must be from 1 to {MAX_SIZE}.")
        if len(data) > MAX_FILE_BYTES:
            raise ImageTooLargeError(
                f"The file has {len(data):,} bytes, more than the {MAX_FILE_BYTES:,} allowed: "
                "send a smaller one."
            )
        request = _REQUEST.pack(len(data), size, *box) + data
        kind, answer = self._pool().exchange(request, pixels=size * size * 3, wait_s=wait_s)
        if kind in _ERRORS:
            raise _ERRORS[kind](answer.decode("utf-8", "replace"))
        return np.frombuffer(answer, dtype=np.uint8).reshape(size, size, 3)

    def _pool(self) -> _Pool:
        """This process's own pool: after a fork, the parent's children are not ours to talk to."""
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            for stale in [other for other in list(self._pools) if other != pid]:
                inherited = self._pools.pop(stale, None)
                if inherited is not None:
                    inherited.forget()
            # setdefault is atomic: two threads of a fresh fork agree on one pool
            pool = self._pools.setdefault(pid, _Pool(self))
        return pool


class _Pool:
    """The children of one process, and which of them are free."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.children: list[_Child] = []
        self.idle: deque[_Child] = deque()
        self.free = threading.BoundedSemaphore(decoder.processes)

    def exchange(
        self, request: bytes, *, pixels: int, wait_s: float | None
    ) -> tuple[int, bytearray]:
        if not self.free.acquire(timeout=wait_s):
            raise EncoderBusyError(
                f"All {self.decoder.processes} image decoders were busy for {wait_s} s: try again, "
                "or raise VISUALSEARCH['DECODER_PROCESSES']."
            )
        try:
            child = self._take()
            try:
                try:
                    child.send(request, timeout_s=self.decoder.timeout_s)
                except (BrokenPipeError, ConnectionResetError):
                    # It died before it had read this image, so this image is not to blame.
                    self._discard(child)
                    child = self._start()
                    child.send(request, timeout_s=self.decoder.timeout_s)
                answer = child.receive(pixels=pixels)
            except TimeoutError as error:
                self._discard(child)
                raise ImageDecodeError(
                    f"The picture took longer than {self.decoder.timeout_s} s to decode: "
                    "export it again as JPEG, PNG or WebP."
                ) from error
            except OSError as error:
                raise ImageDecodeError(
                    f"The picture ended its decoder ({self._discard(child)}): "
                    "export it again as JPEG, PNG or WebP."
                ) from error
            except BaseException:
                self._discard(child)  # half an exchange: the next answer would be misread
                raise
            if child.served < IMAGES_PER_CHILD:
                self.idle.append(child)
            else:
                self._discard(child)
            return answer
        finally:
            self.free.release()

    def close(self) -> None:
        self.idle.clear()
        for child in list(self.children):
            self._discard(child)

    def forget(self) -> None:
        """Lets go of children that belong to the process this one was forked from."""
        for child in self.children:
            child.connection.close()
            child.process.returncode = 0  # not ours to wait for, so Popen must not ask

    def _take(self) -> _Child:
        while self.idle:
            try:
                child = self.idle.pop()
            except IndexError:  # another thread took it
                break
            if child.process.poll() is None:
                return child
            self._discard(child)
        return self._start()

    def _start(self) -> _Child:
        child = _Child(self.decoder)
        self.children.append(child)
        return child

    def _discard(self, child: _Child) -> str:
        """Ends a child, if it is still there, and says how it ended."""
        with contextlib.suppress(ValueError):
            self.children.remove(child)
        return child.end()


class _Child:
    """One decoding process and the socket to it."""

    def __init__(self, decoder: Decoder) -> None:
        self.served = 0
        self.deadline = 0.0
        self.connection, theirs = socket.socketpair()
        limits = (os.getpid(), decoder.timeout_s, decoder.memory_bytes, decoder.max_pixels)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [_python(), "-P", "-m", "visualsearch.decoding", *map(str, limits)],
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
            if self.receive(pixels=0)[0] != _READY:
                raise ConnectionError("it did not say that it is ready")
        except OSError as error:
            self.process.kill()
            said = self.process.stderr.read().decode("utf-8", "replace").strip()[-2000:]
            raise EncoderUnavailableError(
                f"The image decoder `{_python()} -m visualsearch.decoding` did not start "
                f"({error}; {self.end()}): {said or 'it said nothing'}"
            ) from error
        finally:
            self.process.stderr.close()

    def send(self, request: bytes, *, timeout_s: float) -> None:
        self.deadline = time.monotonic() + timeout_s
        self.connection.settimeout(timeout_s)
        self.connection.sendall(request)
        self.served += 1

    def receive(self, *, pixels: int) -> tuple[int, bytearray]:
        """Kind and content of the next answer; OSError for anything else, TimeoutError if late."""
        kind, length = _ANSWER.unpack(self._read(_ANSWER.size))
        limit = pixels if kind == _PIXELS else _MAX_MESSAGE_BYTES
        if length > limit or (kind == _PIXELS and length != pixels):
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


def _serve(*, parent: int, timeout_s: float, max_pixels: int) -> None:
    """The child's loop; it ends when its parent closes the socket or is gone."""
    connection = socket.socket(fileno=0)
    # Asked for now and then rather than with PR_SET_PDEATHSIG, which follows the *thread* that
    # started the child. The socket alone would not do: a fork of the parent keeps it open.
    connection.settimeout(_ORPHAN_CHECK_S)

    def read(count: int) -> bytearray | None:
        buffer = bytearray(count)
        view = memoryview(buffer)
        while view:
            try:
                received = connection.recv_into(view)
            except TimeoutError:
                if os.getppid() != parent:
                    return None
                continue
            if not received:
                return None
            view = view[received:]
        return buffer

    def answer(kind: int, content: bytes) -> None:
        connection.settimeout(timeout_s)
        connection.sendall(_ANSWER.pack(kind, len(content)) + content)
        connection.settimeout(_ORPHAN_CHECK_S)

    answer(_READY, b"")
    while header := read(_REQUEST.size):
        length, size, *box = _REQUEST.unpack(header)
        data = read(length)
        if data is None:
            return
        _allow_cpu(timeout_s)
        answer(*_decode(bytes(data), size=size, box=tuple(box), max_pixels=max_pixels))


def _decode(data: bytes, *, size: int, box: images.Box, max_pixels: int) -> tuple[int, bytes]:
    try:
        picture = images.open_image(
            data, max_pixels=max_pixels, box=None if box == _WHOLE else box, size_hint=size
        )
        return _PIXELS, images.letterbox(picture, size=size).tobytes()
    except MemoryError:
        error: ImageError = ImageTooLargeError("The picture needs too much memory to decode.")
    except ImageError as caught:
        error = caught
    kind = next(kind for kind, cls in _ERRORS.items() if isinstance(error, cls))
    return kind, str(error).encode()[:_MAX_MESSAGE_BYTES]


def _confine(memory_bytes: int) -> None:
    """What a hijacked decoder may do: little. A system without one of the limits goes without."""
    import resource

    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_NOFILE: 16,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    # If the machine runs out of memory, let it be this process that goes.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _allow_cpu(seconds: float) -> None:
    """Processor time for one more image, after which the kernel ends this process."""
    import resource

    soft = math.ceil(time.process_time() + seconds) + 1
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def main() -> None:
    """Entry point of a child: parent's pid, seconds an image, bytes of memory, pixels."""
    parent, timeout_s, memory_bytes, max_pixels = sys.argv[1:]
    # Ctrl-C and a stopping service signal the whole group; the parent decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Image.preinit()
    _confine(int(memory_bytes))
    _serve(parent=int(parent), timeout_s=float(timeout_s), max_pixels=int(max_pixels))


if __name__ == "__main__":
    main()
