"""What is in the wheel: the reusable app, whole and alone. That it works is for test_fresh_project.py."""

from __future__ import annotations

import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_wheel__holds_the_app_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "visualsearch").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    packaged = {name for name in names if ".dist-info/" not in name}

    assert packaged == source
    assert {"visualsearch/py.typed", "visualsearch/migrations/0001_vector_extension.py"} <= packaged
