"""A real embed worker, and the memory of its processes every second.

Memory is what belongs to the worker's processes alone and has no file behind it. Its growth is the
slope of a line through what there was in the second half of the worker's work, by products done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import stack


@dataclasses.dataclass(frozen=True)
class Sample:
    """The memory of a worker at one moment."""

    at: float
    """Seconds, by time.monotonic()."""
    megabytes: dict[str, float]
    """Of its processes, by what they are."""

    @property
    def total(self) -> float:
        """Without the process that suspects are embedded in, which comes when there are any, and ends."""
        return sum(each for kind, each in self.megabytes.items() if kind != "trial")


class Worker:
    """An embed worker in a session of its own, and the memory of its processes every second."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.samples: list[Sample] = []
        self.done: list[tuple[float, int]] = []
        """Moments, and how many products were done then."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """SIGKILL to every process of it at once."""
        self._stop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        self._stop()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def memory(self) -> dict[str, Any]:
        """In the second half of the products it has done: where it stood, and how it grew."""
        half = self._second_half()
        if len(half) < 4:
            return {"samples": len(self.samples)}
        quarter = len(half) // 4
        early, late = half[:quarter], half[-quarter:]

        def middle(samples: list[Sample]) -> float:
            return round(statistics.median(each.total for each in samples), 1)

        return {
            "samples": len(self.samples),
            "products": self.done[-1][1] - self.done[0][1],
            "second_half": {
                "samples": len(half),
                "megabytes_first_quarter": middle(early),
                "megabytes_last_quarter": middle(late),
                "growth": round(middle(late) / middle(early), 3),
                "megabytes_per_10000_products": round(self._slope(half), 2),
                "megabytes_last": {k: round(v, 1) for k, v in half[-1].megabytes.items()},
            },
            "megabytes_afterwards": middle(self.samples[-5:]),
            "megabytes_most": round(max(sum(s.megabytes.values()) for s in self.samples), 1),
        }

    def _second_half(self) -> list[Sample]:
        import numpy as np

        if not self.done:
            return []
        moments, done = zip(*self.done, strict=True)
        since = np.interp((done[0] + done[-1]) / 2, done, moments)
        return [each for each in self.samples if since <= each.at <= moments[-1]]

    def _slope(self, samples: list[Sample]) -> float:
        import numpy as np

        done = np.interp([each.at for each in samples], *zip(*self.done, strict=True))
        if np.ptp(done) == 0:
            return 0.0
        return float(np.polyfit(done, [each.total for each in samples], 1)[0] * 10_000)

    def _stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        while not self._ended.wait(1.0):
            with contextlib.suppress(psutil.Error, OSError):
                main = psutil.Process(self.process.pid)
                family = [main, *main.children(recursive=True)]
                sizes: dict[str, float] = {}
                for each in family:
                    kind = self._kind(each)
                    sizes[kind] = sizes.get(kind, 0.0) + private_megabytes(each.pid)
                self.samples.append(Sample(time.monotonic(), sizes))

    def _kind(self, process: Any) -> str:
        if process.pid == self.process.pid:
            return "master"
        line = " ".join(process.cmdline())
        if "decoding_child" in line:
            return "decoders"
        if "trial_child" in line:
            return "trial"
        return "child and beat"


def private_megabytes(pid: int) -> float:
    """Memory of one process that no other shares and that has no file behind it."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    # Clean pages can be read again from their file, or are shared by a fork that wrote nothing.
    return int(re.findall(r"^Private_Dirty:\s+(\d+) kB", rollup, re.M)[0]) * 1024 / 1e6


def start_worker(services: stack.Stack) -> Worker:
    command = services.worker_command("embed")
    return Worker(
        subprocess.Popen(command, cwd=stack.ROOT, env=services.environment, start_new_session=True)
    )


@contextlib.contextmanager
def embed_worker(services: stack.Stack) -> Iterator[Worker]:
    worker = start_worker(services)
    try:
        yield worker
    finally:
        worker.end()
