"""The README's map of the code says of each module what its first line says."""

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


def test_readme_map__is_what_the_modules_say_of_themselves() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = {match["path"]: match["sentence"] for match in MAP_LINE.finditer(readme)}

    assert shown == modules()


def test_readme_figures__come_from_results_that_are_there() -> None:
    readme = (ROOT / "README.md").read_text()
    quoted = set(re.findall(r"benchmarks/results/[\w.-]+\.json", readme))

    assert quoted, "the README quotes no figures"
    assert {name for name in quoted if not (ROOT / name).exists()} == set()
