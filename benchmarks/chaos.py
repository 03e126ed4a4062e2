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
DONE = (
    ("kills", "kills"),
    ("restarts", "restarts"),
    ("stops", "stops"),
    ("frozen", "frozen"),
    ("faults", "faults"),
    ("rollbacks", "rollbacks"),
    ("clicks", "clicks"),
    ("runs", "training runs"),
    ("full_disks", "full disks"),
    ("messages", "messages"),
    ("saves", "saves"),
    ("edits", "edits"),
    ("deleted", "deleted"),
    ("hidden", "hidden"),
    ("drifted", "drifted"),
    ("poison", "deadly photos"),
    ("bad_files", "bad files"),
    ("products", "products"),
)
"""What a test counts -> what it says in the table."""


def run(*, profile: str, seed: str, options: list[str]) -> int:
    """Run the tests one by one; how many failed.

    What each counted is in results/chaos.json as soon as it has ended, so that a run that is cut
    short loses nothing; one that `options` choose (`-k r03`) takes the place of its earlier figures.
    """
    name = "chaos" if profile == "long" else f"chaos_{profile}"
    path, failed = record.RESULTS / f"{name}.json", 0
    for test in chosen(profile, options):
        found = perform(test, profile=profile, seed=seed)
        if found is None:
            continue
        failed += not found["passed"]
        tests = {each["test"]: each for each in _before(path, profile)} | {found["test"]: found}
        every = sorted(tests.values(), key=_number)
        passed = all(each["passed"] for each in every)
        record.write(name, {"profile": profile, "passed": passed, "tests": every})
        print(f"{found['test']}: {'passed' if found['passed'] else 'FAILED'}", flush=True)
    print(f"Figures: {path.relative_to(record.ROOT)}")
    return failed


def chosen(profile: str, options: list[str]) -> list[str]:
    """Ids of the tests that pytest would run."""
    command = [sys.executable, "-m", "pytest", "tests/chaos", "--collect-only", "-q", *options]
    environment = os.environ | {"CHAOS": profile}
    listed = subprocess.run(
        command, cwd=record.ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return [line for line in listed.stdout.splitlines() if "::test_r" in line]


def perform(test: str, *, profile: str, seed: str) -> dict[str, Any] | None:
    """What one test counted, and whether it passed; None if it was skipped.

    In a process and with servers of its own: what one leaves behind is not in the next one's way.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"CHAOS": profile, "CHAOS_FIGURES": folder}
        if seed:
            environment["CHAOS_SEED"] = seed
        command = [sys.executable, "-m", "pytest", "-q", test]
        done = subprocess.run(command, cwd=record.ROOT, env=environment, check=False)
        counted = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    name = test.partition("::")[2]
    if not counted and done.returncode == 0:
        return None
    found = counted[0] if counted else {"test": name}
    return found | {"passed": done.returncode == 0, "commit": record.commit()}


def table() -> list[str]:
    """The rows of docs/operations.md: the long profile's figures, or the short one's where there are none."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for profile, name in (("short", "chaos_short"), ("long", "chaos")):
        for each in _read(record.RESULTS / f"{name}.json"):
            if each["passed"]:
                found[each["test"]] = (profile, each)
    rows = sorted(found.values(), key=lambda row: _number(row[1]))
    return [_row(profile, each) for profile, each in rows]


def _read(path: Path) -> list[dict[str, Any]]:
    """What each test counted; of files of a run as a whole, its commit and verdict are each test's."""
    if not path.exists():
        return []
    written = json.loads(path.read_text())
    of_all = {"passed": written["figures"]["passed"], "commit": written["commit"]}
    return [of_all | each for each in written["figures"]["tests"]]


def _row(profile: str, found: dict[str, Any]) -> str:
    done = ", ".join(f"{found[key]:,} {words}" for key, words in DONE if found.get(key))
    cells = (
        f"R{_number(found)[0]}",
        f"`{found['test']}`",
        done or "files gone",
        *(str(found.get(key, "–")) for key in ("seconds", "lost", "falsely_quarantined")),
        profile,
    )
    return f"| {' | '.join(cells)} |"


def _before(path: Path, profile: str) -> list[dict[str, Any]]:
    """What earlier runs wrote of tests that there still are."""
    there = {test.partition("::")[2] for test in chosen(profile, [])}
    return [each for each in _read(path) if each["test"] in there]


def _number(found: dict[str, Any]) -> tuple[int, str]:
    match = ORDER.match(found["test"])
    return int(match[1]) if match else 0, found["test"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=("short", "long"), default="long")
    parser.add_argument("--seed", default="", help="repeat the schedule of this seed")
    parser.add_argument(
        "--table", action="store_true", help="only print the table of the documents"
    )
    arguments, rest = parser.parse_known_args()
    if arguments.table:
        print("\n".join(table()))
        sys.exit()
    sys.exit(run(profile=arguments.profile, seed=arguments.seed, options=rest) > 0)
