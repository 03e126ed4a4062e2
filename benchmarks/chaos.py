"""`make chaos`: tests/chaos with the full numbers of kills, restarts and edits, and what they counted."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import record

ORDER = re.compile(r"test_r(\d+)")


def collect(folder: Path) -> list[dict[str, Any]]:
    """What each test that got to its end wrote, in the order of the faults."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(found, key=_number)


def run(*, profile: str, seed: str, options: list[str]) -> int:
    """Run the tests and write results/chaos.json; pytest's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"CHAOS": profile, "CHAOS_FIGURES": folder}
        if seed:
            environment["CHAOS_SEED"] = seed
        command = [sys.executable, "-m", "pytest", "tests/chaos", *options]
        status = subprocess.run(command, cwd=record.ROOT, env=environment, check=False).returncode
        figures = {"profile": profile, "passed": status == 0, "tests": collect(Path(folder))}
        path = record.write("chaos" if profile == "long" else f"chaos_{profile}", figures)
    print(f"Figures: {path.relative_to(record.ROOT)}")
    return status


def _number(found: dict[str, Any]) -> int:
    match = ORDER.match(found["test"])
    return int(match[1]) if match else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=("short", "long"), default="long")
    parser.add_argument("--seed", default="", help="repeat the schedule of this seed")
    arguments, rest = parser.parse_known_args()
    sys.exit(run(profile=arguments.profile, seed=arguments.seed, options=rest))
