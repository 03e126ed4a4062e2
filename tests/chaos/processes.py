"""Ends processes without warning: a worker's children, or a worker with all that belongs to it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import psutil


def kill_children(worker: subprocess.Popen[bytes]) -> int:
    """kill -9 of the processes in which the worker's tasks run; how many there were."""
    killed = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(worker.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
                killed += 1
    return killed


def kill_tree(worker: subprocess.Popen[bytes]) -> None:
    """kill -9 of a worker and all its processes, as when its host dies."""
    parent = psutil.Process(worker.pid)
    for process in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    worker.wait()


@contextlib.contextmanager
def standing_still(*workers: subprocess.Popen[bytes]) -> Iterator[None]:
    """SIGSTOP of workers and all their processes; SIGCONT to those that are there afterwards."""
    trees = [psutil.Process(worker.pid) for worker in workers]
    stopped = [*trees, *(child for tree in trees for child in tree.children(recursive=True))]
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def python(code: str) -> list[str]:
    """The command that runs `code` with this interpreter."""
    return [sys.executable, "-c", code]
