"""Progress of a command: one line that moves on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from typing import Any

BAR_WIDTH = 24
PLAIN_EVERY_SECONDS = 10.0
DRAW_EVERY_SECONDS = 0.1


class ProgressLine:
    """`stream` is a command's stdout or stderr; as a context manager it ends the line."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.is_terminal = bool(getattr(stream, "isatty", lambda: False)())
        self._stage = ""
        self._shown_at = 0.0
        self._width = 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def show(
        self, stage: str, done: int = 0, total: int = 0, *, eta: float | None = None, note: str = ""
    ) -> None:
        now = time.monotonic()
        pause = DRAW_EVERY_SECONDS if self.is_terminal else PLAIN_EVERY_SECONDS
        last = bool(total) and done >= total
        if (
            stage == self._stage
            and now - self._shown_at < pause
            and not (last and self.is_terminal)
        ):
            return
        if stage != self._stage:
            self.end()
        self._stage, self._shown_at = stage, now
        if self.is_terminal:
            text = _line(stage, done, total, eta=eta, note=note, bar=True)
            self.stream.write("\r" + text.ljust(self._width), ending="")
            self._width = len(text)
            self.stream.flush()
        else:
            self.stream.write(_line(stage, done, total, eta=eta, note=note, bar=False))

    def end(self) -> None:
        """Leave what was shown last standing."""
        if self.is_terminal and self._width:
            self.stream.write("")
        self._stage, self._width = "", 0


def duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _line(stage: str, done: int, total: int, *, eta: float | None, note: str, bar: bool) -> str:
    words = [f"{stage:<11}"]
    if total:
        if bar:
            filled = round(BAR_WIDTH * min(1.0, done / total))
            words.append(f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}]")
        words.append(f"{done}/{total}")
    if note:
        words.append(note)
    if eta is not None:
        words.append(f"{duration(eta)} left")
    return "  ".join(words).rstrip()
