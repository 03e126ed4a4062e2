"""Our admin pages under django-unfold, in a process of its own: an admin's class is chosen when it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shop import embedded

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = "tests.unfold.settings"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_unfold__every_page_of_ours_is_usable(services: embedded.Addresses) -> None:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--ds",
            SETTINGS,
            "tests/unfold",
            "-p",
            "no:cacheprovider",
        ],
        cwd=ROOT,
        env=inherited
        | {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "DATABASE_URL": services.database_url,
            "REDIS_URL": services.redis_url,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert " skipped" not in done.stdout
