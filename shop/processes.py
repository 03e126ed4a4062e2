"""Run the demo's programs as one tree that ends whole, whichever way its owner ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from shop.embedded import PROJECT
from shop.embedded_servers import die_with_parent

PATIENCE_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """One child: its command, where its output goes, and the signals that end it, mildest first."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    ending: tuple[signal.Signals, ...]
    lasting: bool
    """Whether it should run until it is told to end."""

    def last_words(self, lines: int = 12) -> str:
        text = self.log.read_text(errors="replace").strip()
        return "\n".join(text.splitlines()[-lines:])


class ProgramFailedError(RuntimeError):
    """A program of the tree ended by itself."""


class ProcessTree:
    """Start programs in sessions of their own and end every one of them, children included."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.programs: list[Program] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        environment: dict[str, str] | None = None,
        ending: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGQUIT),
        lasting: bool = True,
    ) -> Program:
        """Run `python ARGUMENTS`; should this process be killed, the kernel sends the last of `ending`."""
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=PROJECT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C reaches only the owner, which then ends the tree in order.
                start_new_session=True,
                preexec_fn=die_with_parent(ending[-1]),
            )
        program = Program(name=name, process=process, log=log, ending=ending, lasting=lasting)
        self.programs.append(program)
        return program

    def check(self) -> None:
        """Raise ProgramFailedError if a lasting program has ended, or any other with an error."""
        for program in self.programs:
            status = program.process.poll()
            if status or (status == 0 and program.lasting):
                raise ProgramFailedError(
                    f"{program.name} ended with status {status}; its last words "
                    f"({program.log}):\n{program.last_words()}"
                )

    def stop(self) -> None:
        """Ask, insist, kill; then sweep up what the programs left behind."""
        running = [program for program in self.programs if program.process.poll() is None]
        steps = max((len(program.ending) for program in running), default=0)
        for step in range(steps):
            for program in running:
                if step < len(program.ending) and program.process.poll() is None:
                    program.process.send_signal(program.ending[step])
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline and any(p.process.poll() is None for p in running):
                time.sleep(0.05)
        for program in self.programs:
            # The group outlives its leader when the leader's own children did not end.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait()
        self.programs.clear()

    def __enter__(self) -> ProcessTree:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
