"""Many photos at once: products drawn by several processes, in order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence

from shop.drawing.catalogue import DrawnProduct, product

Drawn = tuple[DrawnProduct, tuple[bytes, bytes]]
AHEAD = 64  # products per process that may wait to be taken


def photographed(numbers: Sequence[int], seed: int, workers: int) -> Iterator[Drawn]:
    """The products of these numbers with their two photos as JPEG files."""
    if workers == 1 or len(numbers) < 8:
        yield from map(_photograph, [(number, seed) for number in numbers])
        return
    # Started clean rather than forked: a child must not share the parent's database connection.
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(numbers))) as pool:
        for start in range(0, len(numbers), AHEAD * workers):
            chunk = [(number, seed) for number in numbers[start : start + AHEAD * workers]]
            yield from pool.imap(_photograph, chunk, chunksize=4)


def _photograph(task: tuple[int, int]) -> Drawn:
    number, seed = task
    drawn = product(number, seed=seed)
    return drawn, drawn.photos()
