"""Writes the figures of a benchmark to results/NAME.json, with what one needs to repeat them."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parent.parent


def write(name: str, figures: Any) -> Path:
    """Write `figures` with the command, commit and machine that gave them; the file's path."""
    record = {"command": command(), "commit": commit(), "machine": machine(), "figures": figures}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(_dump(record))
    return path


def _dump(record: Any) -> str:
    """JSON in which what holds no further level takes one line: a difference shows what changed."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    # No string has a line break of its own in JSON.
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda leaf: re.sub(r"\n\s+", " ", leaf[0]), text) + "\n"


def command() -> str:
    """What was typed, with files by their name: where they lie is this machine's affair."""
    module = Path(sys.argv[0]).stem
    words = ["python", "-m", "benchmarks" if module == "__main__" else f"benchmarks.{module}"]
    return " ".join(words + [Path(w).name if Path(w).exists() else w for w in sys.argv[1:]])


def commit() -> str:
    """The commit that was measured, marked when what was measured differs from it."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        # Results of the commands before it differ from the commit and change nothing.
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((ln.split(":")[1].strip() for ln in lines if "model name" in ln), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        # of those, the ones this process may run on (taskset, a container's share)
        "cores_used": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
    }
