"""The maps of the code: of every module in docs/architecture.md, of every folder in the README."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAP_LINE = re.compile(r"^\| `(?P<path>[\w/.]+)` \| (?P<sentence>.+) \|$", re.MULTILINE)


def modules() -> dict[str, str]:
    """Path -> first line of the docstring, of every module of the app and the workers."""
    found: dict[str, str] = {}
    for folder in ("visualsearch", "workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "/migrations/" in name or path.stat().st_size == 0:
                continue
            found[name] = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    return found


def test_every_module__opens_with_one_sentence() -> None:
    for name, sentence in modules().items():
        assert sentence.endswith("."), f"{name} opens with {sentence!r}"


def test_architecture__says_of_each_module_what_it_says_of_itself() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    lines = [(match["path"], match["sentence"]) for match in MAP_LINE.finditer(text)]

    assert dict(lines) == modules()
    assert len(lines) == len(modules()), "a module stands there twice"


def test_readme_map__names_every_folder_of_modules() -> None:
    readme = (ROOT / "README.md").read_text()
    named = re.findall(r"^\| `([\w/]+)/` \|", readme, re.MULTILINE)
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in ("visualsearch", "workers", "shop")
        for path in (ROOT / folder).rglob("__init__.py")
        if path.parent.name != "migrations"
    }
    # Folders whose content the line of the folder above them says.
    told = {"visualsearch/management/commands", "shop/management", "shop/management/commands"}
    told.add("shop/drawing/garments")

    assert {name for name in named if not (ROOT / name).is_dir()} == set()
    assert packages - told <= set(named)


def test_readme_figures__come_from_results_that_are_there() -> None:
    readme = (ROOT / "README.md").read_text()
    quoted = set(re.findall(r"benchmarks/results/[\w.-]+\.json", readme))

    assert quoted, "the README quotes no figures"
    assert {name for name in quoted if not (ROOT / name).exists()} == set()
