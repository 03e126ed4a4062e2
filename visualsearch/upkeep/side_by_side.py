"""Batches of photos in the network side by side: on a CPU several, each on a core of its own."""

from __future__ import annotations

import contextlib
import importlib.util
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self

from visualsearch.conf import get_settings
from visualsearch.onnx_encoder import available_cpus

MOST = 4
"""What each batch needs is memory, too."""


class SideBySide:
    """Encodes batches in threads, which begin with the first; what fails ends all.

    One batch on all cores is as slow as the core that something else, such as a decoder, needs
    too: at every layer the others wait for it. So each batch has a core, or a share of them.
    """

    def __init__(self, encode: Callable[[Any], None]) -> None:
        self.encode = encode
        self.undo = contextlib.ExitStack()
        self.running: deque[Future[None]] = deque()
        self.threads: ThreadPoolExecutor | None = None
        self.at_once = 1

    def submit(self, batch: Any) -> None:
        """Begin with the batch, once so few are at work that it can be."""
        if self.threads is None:
            self.threads, self.at_once = self.undo.enter_context(_threads())
        while len(self.running) >= self.at_once:
            self.running.popleft().result()
        self.running.append(self.threads.submit(self.encode, batch))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.undo:
            while self.running and kind is None:
                self.running.popleft().result()


def most() -> int:
    """Batches that may be encoded at once; torch is not loaded to say so."""
    return 1 if get_settings().ENCODER else min(available_cpus(), MOST)


@contextmanager
def _threads() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads, and how many: several only where torch reads photos on the CPU."""
    number = most()
    if number == 1 or not _torch_reads_on_the_cpu():
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as pool:
            yield pool, 1
        return
    from visualsearch.ml.batch_threads import batch_threads

    with batch_threads(number, cores=available_cpus() // number) as pool:
        yield pool, number


def _torch_reads_on_the_cpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    from visualsearch.ml import checkpoints

    return checkpoints.pick_device(get_settings().DEVICE).type == "cpu"
