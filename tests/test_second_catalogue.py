"""Nothing is tied to the demo shop: two catalogues of other shapes run in processes of their own.

The product model is fixed for a process, as AUTH_USER_MODEL is; hence the subprocesses.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shop import embedded

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("settings_module", "folder"),
    [
        ("tests.testapp_settings", "tests/testapp"),
        ("tests.testapp.books.settings", "tests/testapp/books"),
    ],
    ids=["uuid key and child tables", "text key"],
)
def test_catalogue__of_another_shape_is_searched_alike(
    settings_module: str, folder: str, services: embedded.Addresses
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--ds", settings_module, folder, "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=environment
        | {
            "DJANGO_SETTINGS_MODULE": settings_module,
            "DATABASE_URL": services.database_url,
            "REDIS_URL": services.redis_url,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert " skipped" not in done.stdout
