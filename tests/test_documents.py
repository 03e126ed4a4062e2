"""The documents name what there is: commands, tags, templates, endpoints, error codes, recipes, hooks."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from benchmarks import chaos
from visualsearch import exceptions, throttling
from visualsearch.api import urls as api_urls
from visualsearch.indexes import VisualIndex
from visualsearch.ml.recipes import RECIPES
from visualsearch.templatetags.visualsearch import register

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
APP = ROOT / "visualsearch"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def first_column(name: str, pattern: str) -> list[str]:
    """What stands in code font at the beginning of the page's table rows."""
    return re.findall(rf"^\| `({pattern})` \|", page(name), re.MULTILINE)


FAULT = re.compile(r"^\| (R\d+) [a-zA-Z].*\| ([^|]*) \|$", re.MULTILINE)


def test_documents__every_fault_has_a_test_that_exists() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    rows = FAULT.findall(page("operations.md"))
    named = {fault: re.findall(r"`(test_\w+)`", cell) for fault, cell in rows}

    # R21 and R25 are no faults of their own.
    assert list(named) == [f"R{n}" for n in range(1, 28) if n not in (21, 25)]
    assert all(named.values())
    assert {name for names in named.values() for name in names} - there == set()
    # And none of the tests of a fault is left out.
    of_chaos = {name for name in there if re.match(r"test_r\d+_", name)}
    assert of_chaos <= {name for names in named.values() for name in names}


def test_documents__figures_of_faults_are_those_that_were_measured() -> None:
    there = [line for line in page("operations.md").splitlines() if line.startswith("| R")]

    assert [line for line in there if re.match(r"\| R\d+ \|", line)] == chaos.table()


def test_documents__every_command_is_in_operations() -> None:
    commands = {
        path.stem
        for path in (APP / "management" / "commands").glob("*.py")
        if path.stem != "__init__"
    }

    assert set(first_column("operations.md", r"visualsearch_\w+")) == commands


def test_documents__every_tag_is_in_templates() -> None:
    named = set(re.findall(r"^\| `\{% (\w+)", page("templates.md"), re.MULTILINE))

    assert named == set(register.tags)


def test_documents__every_template_is_in_templates() -> None:
    there = {
        str(path.relative_to(APP / "templates"))
        for path in (APP / "templates" / "visualsearch").glob("*.html")
    }

    assert set(first_column("templates.md", r"visualsearch/\w+\.html")) == there


def test_documents__every_css_variable_is_in_templates() -> None:
    style = (APP / "static" / "visualsearch" / "visualsearch.css").read_text()
    used = set(re.findall(r"var\((--visual-[\w-]+)", style))

    assert set(re.findall(r"`(--visual-[\w-]+)`", page("templates.md"))) == used


def test_documents__every_endpoint_is_in_api() -> None:
    named = {
        re.sub(r"\{\w+\}", "*", path).partition("?")[0]
        for path in re.findall(r"^\| `(?:GET|POST) (\S+?)` \|", page("api.md"), re.MULTILINE)
    }

    assert named == {re.sub(r"<\w+:\w+>", "*", str(p.pattern)) for p in api_urls.urlpatterns}


def test_documents__every_error_a_client_can_get_is_in_api() -> None:
    errors = [
        error
        for module in (exceptions, throttling)
        for _, error in inspect.getmembers(module, inspect.isclass)
        if issubclass(error, (exceptions.QueryError, exceptions.ImageError))
        or (issubclass(error, exceptions.VisualSearchError) and error.status in (429, 503))
    ]
    rows = dict(re.findall(r"^\| (\d{3}) \| (.*) \|$", page("api.md"), re.MULTILINE))

    for error in errors:
        assert f"`{error.code}`" in rows[str(error.status)], error
    named = {code for row in rows.values() for code in re.findall(r"`([a-z_]+)`", row)}
    assert named == {error.code for error in errors}


def test_documents__every_recipe_is_in_training() -> None:
    assert first_column("training.md", r"[\w-]+") == list(RECIPES)


def test_documents__every_attribute_and_hook_is_in_declaring_an_index() -> None:
    text = page("declaring-an-index.md")
    public = [name for name in vars(VisualIndex) if not name.startswith("_")]
    # How they are fetched is no part of the declaration.
    missing = [name for name in public if name not in text and name != "with_related"]

    assert missing == []


@pytest.mark.parametrize("name", sorted(path.name for path in DOCS.glob("*.md")))
def test_documents__links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page(name)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = (DOCS / file).resolve() if file else DOCS / name
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], target
