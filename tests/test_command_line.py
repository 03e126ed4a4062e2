"""Every command as a script uses it: JSON on its output, progress beside it, an exit status that tells."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class

from tests.catalogue import BROKEN, make_product, photo
from visualsearch.management import commands
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

pytestmark = pytest.mark.django_db(transaction=True)

Run = Callable[..., tuple[int, str, str]]

NAMES = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))

DONE: dict[str, list[tuple[list[str], set[str]]]] = {
    "visualsearch_status": [(["--no-workers"], {"products", "indexed", "live", "run", "is_stuck"})],
    "visualsearch_doctor": [(["--no-workers"], {"ok", "findings", "repaired"})],
    "visualsearch_index": [
        ([], {"indexed", "failed", "deferred", "embedded", "swept"}),
        (["--missing"], {"indexed", "failed", "deferred", "embedded", "swept"}),
        (["--all", "--dry-run"], {"due"}),
    ],
    "visualsearch_search": [(["red dress"], {"checkpoint", "degraded", "hits"})],
    "visualsearch_promote": [(["v2"], {"live", "said"})],
    "visualsearch_rollback": [(["--dry-run"], {"live", "said"})],
    "visualsearch_checkpoints": [
        (["promote", "v2"], {"live", "said"}),
        (["rollback", "--dry-run"], {"live", "said"}),
        (["prune", "--dry-run"], {"pruned"}),
    ],
}
"""Arguments with which a command does what it is for, and what its JSON says."""

IN_OTHER_TESTS = {"visualsearch_train", "visualsearch_evaluate"}
"""What they do takes a real training: tests/test_commands.py. That they fail as they should is here."""

FAILED: dict[str, list[tuple[list[str], int, str]]] = {
    "visualsearch_index": [([], 1, "No checkpoint is live")],
    "visualsearch_search": [(["--image", "nowhere.jpg"], 1, "nowhere.jpg cannot be read")],
    "visualsearch_promote": [(["v9"], 1, "There is no checkpoint"), (["bad"], 3, "was refused")],
    "visualsearch_rollback": [([], 1, "no earlier checkpoint")],
    "visualsearch_checkpoints": [
        (["promote", "bad"], 3, "was refused"),
        (["export", "v9"], 1, "There is no checkpoint"),
        (["import", "nowhere.tar"], 1, "nowhere.tar"),
    ],
    "visualsearch_train": [([], 1, "no product in the index"), (["--epochs", "0"], 1, "epochs")],
    "visualsearch_evaluate": [(["v9"], 1, "There is no checkpoint")],
}
"""Arguments with which a command cannot do it, its exit status, and what it says."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda bell: None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, output and errors, as a shell sees them."""

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status: Any = 0
        try:
            command = load_command_class("visualsearch", name)
            command.run_from_argv(["manage.py", name, "--skip-checks", *arguments])
        except SystemExit as ended:
            status = ended.code
        found = capsys.readouterr()
        return int(status or 0), found.out, found.err

    return call


def with_json(name: str, arguments: list[str]) -> list[str]:
    if name == "visualsearch_evaluate":
        return [*arguments, "--json", "-"]
    return [*arguments, "--json"]


def test_every_command__is_in_the_tables() -> None:
    assert set(NAMES) == {*DONE, *IN_OTHER_TESTS}
    # What only looks cannot fail but by what it finds, which is below.
    assert set(NAMES) - set(FAILED) == {"visualsearch_status", "visualsearch_doctor"}


@pytest.mark.parametrize(
    ("name", "arguments", "keys"),
    [(name, arguments, keys) for name, cases in DONE.items() for arguments, keys in cases],
)
def test_done__exits_with_0_and_prints_nothing_but_json(
    run: Run, name: str, arguments: list[str], keys: set[str]
) -> None:
    fake_checkpoint(name="v1", folder="v1")
    fake_checkpoint(live=False, name="v2", folder="v2", state="ready")
    make_product(photo("red"), name="red dress", colour="red")
    indexing.index_pending()

    status, output, errors = run(name, *with_json(name, arguments))

    assert status == 0, errors
    assert keys <= set(json.loads(output))


@pytest.mark.parametrize(
    ("name", "arguments", "status", "said"),
    [(name, *case) for name, cases in FAILED.items() for case in cases],
)
def test_failed__exits_with_its_status_and_says_why_in_a_sentence(
    run: Run, name: str, arguments: list[str], status: int, said: str
) -> None:
    fake_checkpoint(live=False, name="bad", folder="bad", state="refused", verdict="It collapsed.")

    found, output, errors = run(name, *with_json(name, arguments))

    assert found == status
    assert said in errors
    assert "Traceback" not in errors
    if output:
        json.loads(output)  # what a failed run prints is still for machines


def test_index__what_was_set_aside_is_counted_and_is_a_failure(run: Run) -> None:
    fake_checkpoint()
    make_product(BROKEN, name="broken")

    status, output, errors = run("visualsearch_index", "--json")

    assert (status, json.loads(output)["failed"]) == (1, 1)
    assert "set aside" in errors


def test_doctor__harm_is_an_exit_status_of_1(run: Run, settings: Any) -> None:
    fake_checkpoint()
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": ""}  # so it needs its files

    status, output, _ = run("visualsearch_doctor", "--no-workers", "--json")

    assert (status, json.loads(output)["ok"]) == (1, False)


@pytest.mark.parametrize("name", NAMES)
def test_help__names_the_option_for_machines(run: Run, name: str) -> None:
    actions = ["list", "export", "import", "promote", "rollback", "prune"]
    for action in actions if name == "visualsearch_checkpoints" else [""]:
        status, output, _ = run(name, *([action] if action else []), "--help")
        assert status == 0
        assert "--json" in output


@pytest.mark.parametrize("name", NAMES)
def test_an_option_that_is_not_there__is_an_exit_status_of_2(run: Run, name: str) -> None:
    status, output, errors = run(name, "--nonsense")

    assert (status, output) == (2, "")
    assert "usage:" in errors
