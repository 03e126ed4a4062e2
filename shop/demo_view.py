"""What `make demo` shows: one live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

STEPS = {
    "services": "PostgreSQL and Redis",
    "database": "Database tables",
    "page": "Shop",
    "draw": "Catalogue",
    "train": "Training",
    "index": "Index",
}
PLAIN_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class State:
    """What the database says at one moment."""

    products: int = 0
    photos: int = 0
    drawn: bool = False
    run: dict[str, Any] = field(default_factory=dict)
    live: str = ""
    embeddings: int = 0
    pending: int = 0
    failed: int = 0

    @property
    def searchable(self) -> bool:
        """A checkpoint is live and every product has been looked at."""
        return self.drawn and bool(self.live) and self.pending == 0

    @property
    def problem(self) -> str:
        """Why there will be no checkpoint, or nothing."""
        if self.live or self.run.get("state") not in {"failed", "cancelled", "succeeded"}:
            return ""
        reason = self.run.get("error") or self.run.get("verdict")
        return f"the training run {self.run['state']}, and no checkpoint is live: {reason or 'no reason given'}"

    def summary(self) -> str:
        return (
            f"{self.products} products, {self.pending} pending; training: "
            f"{describe_run(self.run)}; live checkpoint: {self.live or 'none'}"
        )


def read_state(*, drawn: bool) -> State:
    from shop.models import Product, ProductImage
    from visualsearch.models import Checkpoint, Embedding, IndexEntry, TrainingRun

    run = TrainingRun.objects.order_by("-created_at").first()
    described: dict[str, Any] = {}
    if run:
        names = ("state", "stage", "done", "total", "eta_seconds", "history", "error", "metrics")
        described = {name: getattr(run, name) for name in names}
        checkpoint = Checkpoint.objects.filter(run=run).first()
        described["verdict"] = checkpoint.verdict if checkpoint else ""
    live = Checkpoint.objects.live()
    counts = IndexEntry.objects.all().counts()
    return State(
        products=Product.objects.count(),
        photos=ProductImage.objects.count(),
        drawn=drawn,
        run=described,
        live=str(live) if live else "",
        embeddings=Embedding.objects.filter(checkpoint=live).count() if live else 0,
        pending=counts["pending"],
        failed=counts["failed"],
    )


def describe_run(run: dict[str, Any]) -> str:
    """One line: "epoch 3 of 12, loss 1.234, 41 s left"."""
    if not run:
        return "not requested yet"
    if run["state"] != "running":
        return run["state"] + (f": {run['error']}" if run["error"] else "")
    words = [run["stage"] or "starting"]
    last: dict[str, Any] = next(
        (entry for entry in reversed(run["history"] or []) if isinstance(entry, dict)), {}
    )
    if epoch := last.get("epoch"):
        words.append(f"epoch {epoch}" + (f" of {last['epochs']}" if last.get("epochs") else ""))
    if isinstance(last.get("loss"), int | float):
        words.append(f"loss {last['loss']:.3f}")
    if run["eta_seconds"] is not None:
        words.append(f"{duration(run['eta_seconds'])} left")
    return ", ".join(words)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class View:
    """Draws the state: a live table on a terminal, else a line whenever something changed."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.began = time.monotonic()
        self.current = ""
        self.finished: dict[str, str] = {}
        self.header: list[str] = []
        self.state = State()
        self._said: dict[str, str] = {}
        self._said_at = 0.0
        self._live: Live | None = None
        if self.console.is_terminal:
            # No refresh thread: the demo starts processes, and it draws often enough by itself.
            self._live = Live(console=self.console, auto_refresh=False, transient=False)
            self._live.start()

    def step(self, name: str) -> None:
        if self.current:
            self.finished[self.current] = duration(time.monotonic() - self.began)
        self.current = name
        self._show(f"{STEPS[name]} …")

    def page_is_up(self, url: str, login: str, seconds: float) -> None:
        self.finished["page"] = f"up after {seconds:.1f} s"
        self.current = ""
        self.header = [
            f"Shop    {url}",
            f"Admin   {url}admin/   user {login}, password {login}",
            "Ctrl-C ends everything.",
        ]
        if self._live is None:
            for line in self.header:
                self.say(line)
        self._show(f"{STEPS['page']}: {self.finished['page']}")

    def refresh(self, *, drawn: bool) -> State:
        self.state = read_state(drawn=drawn)
        if self._live is not None:
            self._show("")
            return self.state
        now = time.monotonic()
        for name, text in self._lines().items():
            # What comes after the first comma only counts up or down: that is said now and then.
            kind = text.split(",")[0]
            if self._said.get(name) != kind or (
                name == self._unfinished() and now - self._said_at > PLAIN_EVERY_S
            ):
                self.say(f"{STEPS[name]}: {text}")
                self._said[name], self._said_at = kind, now
        return self.state

    def say(self, text: str) -> None:
        # The terminal may be gone: that must not keep the servers running.
        with contextlib.suppress(OSError):
            self.console.print(escape(text))

    def stopping(self) -> None:
        """The last thing drawn, while the programs end."""
        self.close()
        self.say("Ending the programs …")

    def close(self) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None

    def _unfinished(self) -> str:
        """The step that everything waits for, or nothing."""
        state = self.state
        if not state.drawn:
            return "draw"
        if not state.live:
            return "train"
        return "" if state.searchable else "index"

    def _lines(self) -> dict[str, str]:
        state = self.state
        size = f"{state.products} products with {state.photos} photos"
        lines = {"draw": f"ready, {size}" if state.drawn else f"drawing, {size} so far"}
        lines["train"] = f"{state.live} is live" if state.live else describe_run(state.run)
        if state.live and state.run.get("state") in {"queued", "running"}:
            lines["train"] += f"; retraining: {describe_run(state.run)}"
        if state.searchable:
            lines["index"] = f"searchable, {state.embeddings} embeddings"
        elif state.live:
            lines["index"] = f"indexing, {state.pending} products to go"
        else:
            lines["index"] = "waits for a checkpoint"
        lines["index"] += f", {state.failed} failed" if state.failed else ""
        return lines

    def _show(self, line: str) -> None:
        if self._live is None:
            if line:
                self.say(line)
            return
        with contextlib.suppress(OSError):
            self._live.update(self._table(), refresh=True)

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        lines = self._lines() if self.header else {}
        for name, title in STEPS.items():
            done = name in self.finished or (
                name in lines
                and {
                    "draw": self.state.drawn,
                    "train": bool(self.state.live),
                    "index": self.state.searchable,
                }[name]
            )
            active = name == self.current or (name in lines and not done)
            mark = "[green]✓[/]" if done else "[yellow]…[/]" if active else " "
            bar: RenderableType = ""
            run = self.state.run
            if name == "train" and run.get("state") == "running" and run.get("total"):
                bar = ProgressBar(total=run["total"], completed=run["done"], width=24)
            text = self.finished.get(name, lines.get(name, ""))
            table.add_row(mark, title, escape(text), bar)
        return Group(*(escape(line) for line in self.header), table)
