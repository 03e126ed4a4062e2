"""The disposable process that opens one image after another for `decoding`, and its protocol.

It reads framed lots of requests from the socket that is its standard input and writes framed
answers, those of a lot together. It imports Pillow and nothing larger, so that it starts in a
twentieth of a second.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from visualsearch.exceptions import (
    ImageDecodeError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
)
from visualsearch.photos import images

LOT = struct.Struct("<II")  # pictures in it, bytes that follow
REQUEST = struct.Struct("<II4d")  # bytes of the file, size of the result, box
ANSWER = struct.Struct("<BI")  # kind of answer, bytes that follow
READY, BEGUN, PIXELS = 0, 1, 2
ERRORS: dict[int, type[ImageError]] = {
    3: ImageDecodeError,
    4: ImageFormatError,
    5: ImageTooLargeError,
}
MAX_MESSAGE_BYTES = 1000
WHOLE: images.Box = (0.0, 0.0, 1.0, 1.0)

ORPHAN_CHECK_S = 2.0
"""How often an idle child looks whether its parent is still there."""


def serve(*, parent: int, timeout_s: float, max_pixels: int) -> None:
    """The child's loop; it ends when its parent closes the socket or is gone."""
    connection = socket.socket(fileno=0)
    # Asked for now and then rather than with PR_SET_PDEATHSIG, which follows the *thread* that
    # started the child. The socket alone would not do: a fork of the parent keeps it open.
    connection.settimeout(ORPHAN_CHECK_S)

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

    def answer(*answers: tuple[int, bytes]) -> None:
        connection.settimeout(timeout_s)
        connection.sendall(
            b"".join([ANSWER.pack(kind, len(content)) + content for kind, content in answers])
        )
        connection.settimeout(ORPHAN_CHECK_S)

    answer((READY, b""))
    while header := read(LOT.size):
        count, length = LOT.unpack(header)
        lot = read(length)
        if lot is None:
            return
        answer((BEGUN, b""))
        answers = []
        for size, box, data in _requests(lot, count):
            allow_cpu(timeout_s)
            answers.append(decode(data, size=size, box=box, max_pixels=max_pixels))
        answer(*answers)


def _requests(lot: bytearray, count: int) -> Iterator[tuple[int, images.Box, bytes]]:
    """Size, box and file of each picture of a lot."""
    view, start = memoryview(lot), 0
    for _ in range(count):
        length, size, left, top, right, bottom = REQUEST.unpack_from(lot, start)
        start += REQUEST.size
        yield size, (left, top, right, bottom), bytes(view[start : start + length])
        start += length


def decode(data: bytes, *, size: int, box: images.Box, max_pixels: int) -> tuple[int, bytes]:
    try:
        picture = images.open_image(
            data, max_pixels=max_pixels, box=None if box == WHOLE else box, size_hint=size
        )
        return PIXELS, images.letterbox(picture, size=size).tobytes()
    except MemoryError:
        error: ImageError = ImageTooLargeError("The picture needs too much memory to decode.")
    except ImageError as caught:
        error = caught
    kind = next(kind for kind, cls in ERRORS.items() if isinstance(error, cls))
    return kind, str(error).encode()[:MAX_MESSAGE_BYTES]


def confine(memory_bytes: int) -> None:
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


def allow_cpu(seconds: float) -> None:
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
    confine(int(memory_bytes))
    serve(parent=int(parent), timeout_s=float(timeout_s), max_pixels=int(max_pixels))


if __name__ == "__main__":
    main()
