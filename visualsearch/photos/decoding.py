"""Opens images in disposable child processes, so that a hostile one costs only its child.

Each child (decoding_child.py) is at the other end of a socket pair (decoding_parent.py) and answers
one lot of images at a time. There is no multiprocessing, so this works in Celery's prefork
children, in the threads of a web server and after a fork. It needs POSIX.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from visualsearch.exceptions import (
    DecoderEndedError,
    EncoderBusyError,
    ImageError,
    ImageTooLargeError,
)
from visualsearch.photos import images
from visualsearch.photos.decoding_child import ERRORS, REQUEST, WHOLE
from visualsearch.photos.decoding_parent import Child

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_FILE_BYTES = 64 * 1024 * 1024
AHEAD_BYTES = 64 * 1024 * 1024
"""Of files that were read and are not given back yet."""
LOT, LOT_BYTES = 8, 1024 * 1024
"""Pictures, and bytes of their files, that go to a child in one go: to hand over a small photo takes
half as long as to decode it. A file that is larger goes alone."""
MAX_SIZE = 2048
IMAGES_PER_CHILD = 1000
"""A child is replaced after this many images: what it may have leaked goes with it."""


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
        (found,) = self._decode([data], size=size, box=box or WHOLE, wait_s=wait_s)
        if isinstance(found, ImageError):
            raise found
        return found

    def decode_many(
        self, datas: Iterable[bytes], *, size: int, ahead: int | None = None
    ) -> Iterator[npt.NDArray[np.uint8] | ImageError]:
        """Each picture, or the error it gave, in order; the children work while the caller does.

        `datas` is read in the caller's thread, and never more than `ahead` pictures (twice the
        processes if not given) or AHEAD_BYTES of their files ahead.
        """
        ahead = max(2 * self.processes, ahead or 0)
        most = min(LOT, ahead // (2 * self.processes))
        with ThreadPoolExecutor(self.processes, thread_name_prefix="decode") as threads:
            window: deque[_Lot] = deque()
            lot: list[bytes] = []
            pictures = size_in_bytes = 0  # of the window and the lot

            def submit() -> None:
                window.append(_Lot(threads.submit(self._decode_lot, lot, size=size), lot))

            try:
                for data in datas:
                    if lot and sum(map(len, lot)) + len(data) > LOT_BYTES:
                        submit()
                        lot = []
                    lot.append(data)
                    pictures += 1
                    size_in_bytes += len(data)
                    if len(lot) >= most:
                        submit()
                        lot = []
                    while window and (
                        pictures > ahead or (pictures > 1 and size_in_bytes > AHEAD_BYTES)
                    ):
                        pictures -= len(window[0].datas)
                        size_in_bytes -= sum(map(len, window[0].datas))
                        yield from window.popleft().future.result()
                if lot:
                    submit()
                while window:
                    yield from window.popleft().future.result()
            finally:
                for each in window:
                    each.future.cancel()

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

    def _decode_lot(
        self, datas: Sequence[bytes], *, size: int
    ) -> list[npt.NDArray[np.uint8] | ImageError]:
        """Each picture or its error. If the child ends over them, each is tried alone: one is to blame."""
        if len(datas) > 1:
            with contextlib.suppress(DecoderEndedError):
                return self._decode(datas, size=size, box=WHOLE, wait_s=None)
        found: list[npt.NDArray[np.uint8] | ImageError] = []
        for data in datas:
            try:
                found += self._decode([data], size=size, box=WHOLE, wait_s=None)
            except DecoderEndedError as error:
                found.append(error)
        return found

    def _decode(
        self, datas: Sequence[bytes], *, size: int, box: images.Box, wait_s: float | None
    ) -> list[npt.NDArray[np.uint8] | ImageError]:
        """Each picture, or the error that it gave; DecoderEndedError if the child ended over them."""
        import numpy as np  # the children do without: it would double the time they take to start

        if not 1 <= size <= MAX_SIZE:
            raise ValueError(f"size is {size}: pixels a side must be from 1 to {MAX_SIZE}.")
        sent = [data for data in datas if len(data) <= MAX_FILE_BYTES]
        answers: Iterator[tuple[int, bytearray]] = iter(())
        if sent:
            requests = [REQUEST.pack(len(data), size, *box) + data for data in sent]
            answers = iter(self._pool().exchange(requests, pixels=size * size * 3, wait_s=wait_s))

        def answer(data: bytes) -> npt.NDArray[np.uint8] | ImageError:
            if len(data) > MAX_FILE_BYTES:
                return ImageTooLargeError(
                    f"The file has {len(data):,} bytes, more than the {MAX_FILE_BYTES:,} allowed: "
                    "send a smaller one."
                )
            kind, content = next(answers)
            if kind in ERRORS:
                return ERRORS[kind](content.decode("utf-8", "replace"))
            return np.frombuffer(content, dtype=np.uint8).reshape(size, size, 3)

        return [answer(data) for data in datas]

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


@dataclass(frozen=True)
class _Lot:
    future: Future[list[npt.NDArray[np.uint8] | ImageError]]
    datas: Sequence[bytes]


class _Pool:
    """The children of one process, and which of them are free."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.children: list[Child] = []
        self.idle: deque[Child] = deque()
        self.free = threading.BoundedSemaphore(decoder.processes)

    def exchange(
        self, requests: Sequence[bytes], *, pixels: int, wait_s: float | None
    ) -> list[tuple[int, bytearray]]:
        """Kind and content of the answer to each; DecoderEndedError if the child ended over them."""
        if not self.free.acquire(timeout=wait_s):
            raise EncoderBusyError(
                f"All {self.decoder.processes} image decoders were busy for {wait_s} s: try again, "
                "or raise VISUALSEARCH['DECODER_PROCESSES']."
            )
        try:
            child = self._take()
            try:
                try:
                    child.send(requests, timeout_s=self.decoder.timeout_s)
                except ConnectionError:
                    # It died before it began with these images, so none of them is to blame.
                    self._discard(child)
                    child = self._start()
                    child.send(requests, timeout_s=self.decoder.timeout_s)
                answers = [child.receive(pixels=pixels) for _ in requests]
            except TimeoutError as error:
                self._discard(child)
                raise DecoderEndedError(
                    f"The picture took longer than {self.decoder.timeout_s} s to decode: "
                    "export it again as JPEG, PNG or WebP."
                ) from error
            except OSError as error:
                raise DecoderEndedError(
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
            return answers
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

    def _take(self) -> Child:
        while self.idle:
            try:
                child = self.idle.pop()
            except IndexError:  # another thread took it
                break
            if child.process.poll() is None:
                return child
            self._discard(child)
        return self._start()

    def _start(self) -> Child:
        child = Child(
            timeout_s=self.decoder.timeout_s,
            memory_bytes=self.decoder.memory_bytes,
            max_pixels=self.decoder.max_pixels,
        )
        self.children.append(child)
        return child

    def _discard(self, child: Child) -> str:
        """Ends a child, if it is still there, and says how it ended."""
        with contextlib.suppress(ValueError):
            self.children.remove(child)
        return child.end()
