"""Threads that read batches at the same time, each with a share of the cores to itself."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def batch_threads(number: int, *, cores: int) -> Iterator[ThreadPoolExecutor]:
    """`number` threads, in each of which torch computes on `cores` cores."""
    # What a thread sets counts for threads that begin after it, too, so it is put back for those.
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            number,
            thread_name_prefix="encode",
            initializer=torch.set_num_threads,
            initargs=(cores,),
        ) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)
