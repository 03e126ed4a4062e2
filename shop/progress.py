"""One line of progress: rewritten in place on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from typing import IO, Protocol


class Output(Protocol):
    """Django's OutputWrapper, or any text file."""

    def write(self, text: str, /) -> object: ...


class ProgressLine:
    """Says how far a long command is: count, rate, time left."""

    def __init__(self, out: IO[str], *, total: int, what: str, quiet: bool = False) -> None:
        self._out, self._total, self._what, self._quiet = out, total, what, quiet
        self._start = time.monotonic()
        self._terminal = bool(getattr(out, "isatty", lambda: False)())
        self._shown = 0.0
        self._width = 0

    def update(self, done: int) -> None:
        now = time.monotonic()
        if self._quiet or now - self._shown < (0.2 if self._terminal else 5.0):
            return
        self._shown = now
        self._show(self._text(done, now))

    def finish(self, done: int) -> None:
        if not self._quiet:
            self._show(self._text(done, time.monotonic()))
            if self._terminal:
                self._out.write("\n")
            self._out.flush()

    def _text(self, done: int, now: float) -> str:
        rate = done / max(now - self._start, 1e-6)
        text = f"{done:,} of {self._total:,} {self._what}, {rate:,.0f}/s"
        if 0 < done < self._total:
            text += f", {(self._total - done) / rate:,.0f} s left"
        return text

    def _show(self, text: str) -> None:
        if self._terminal:
            self._out.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._out.write(text + "\n")
        self._out.flush()
