"""The commands: what they print, what they change, how they exit."""

from __future__ import annotations

import io
import json
import re
import shutil
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tests.catalogue import BROKEN, make_product, photo
from tests.training_catalogue import TINY, make_shapes
from visualsearch.health import doctor, status
from visualsearch.management.progress import ProgressLine, duration
from visualsearch.ml.recipes import RECIPES
from visualsearch.models import Checkpoint, Embedding, IndexEntry, TrainingRun
from visualsearch.tables import partitions
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda bell: None)


def run(name: str, *arguments: str) -> str:
    """What the command prints; CommandError as it is."""
    out = io.StringIO()
    call_command(f"visualsearch_{name}", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def run_badly(name: str, *arguments: str) -> tuple[str, CommandError]:
    """What a command that fails prints, and its error."""
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(f"visualsearch_{name}", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue(), caught.value


@pytest.fixture
def shop() -> dict[str, Any]:
    """Three products that are indexed, and one that cannot be."""
    checkpoint = fake_checkpoint(name="v1", folder="v1")
    products = [
        make_product(photo(colour), name=f"{colour} dress", colour=colour)
        for colour in ("red", "blue", "green")
    ]
    broken = make_product(BROKEN, name="broken")
    indexing.index_pending()
    return {"checkpoint": checkpoint, "products": products, "broken": broken}


# -- status ---------------------------------------------------------------------------------------


def test_status__of_a_shop_with_nothing_trained() -> None:
    make_product(photo())

    text = run("status", "--no-workers")

    assert "1: 0 indexed, 1 pending, 0 failed" in text
    assert "none: run visualsearch_train" in text
    assert "nothing under way" in text


def test_status__numbers_and_reasons(shop: dict[str, Any]) -> None:
    TrainingRun.objects.create(
        state="running", stage="training", done=3, total=9, eta_seconds=61, token=uuid.uuid4()
    )

    text = run("status", "--no-workers")
    found = json.loads(run("status", "--no-workers", "--json"))

    assert "4: 3 indexed, 0 pending, 1 failed" in text
    assert "v1 (fake), 3 embeddings" in text
    assert "training 3/9, 1 min 01 s left" in text
    assert str(shop["broken"].pk) in text
    assert (found["indexed"], found["failed"], found["live"]["name"]) == (3, 1, "v1")
    assert found["failures"][0]["code"].startswith("image")
    assert found["run"]["total"] == 9


def test_status__says_when_nobody_works(shop: dict[str, Any]) -> None:
    IndexEntry.objects.update(status="pending", changed_at=timezone.now() - timedelta(minutes=5))

    assert "is an embed worker running?" in run("status", "--no-workers")


def test_status__pace_and_time_left(shop: dict[str, Any]) -> None:
    make_product(photo("navy"))
    IndexEntry.objects.filter(status="indexed").update(
        indexed_at=timezone.now() - timedelta(seconds=6)
    )

    text = run("status", "--no-workers")
    found = json.loads(run("status", "--no-workers", "--json"))

    assert "coverage    60.0 %" in text
    assert "pace        0.5 products/s, about 2 s left" in text
    assert (found["coverage"], found["eta_seconds"]) == (0.6, 2)


def test_workers__a_broker_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from celery import current_app

    monkeypatch.setattr(current_app.control, "ping", lambda timeout: time.sleep(5))
    began = time.monotonic()

    assert status.workers(timeout=0.2) is None

    assert time.monotonic() - began < 2


# -- index ----------------------------------------------------------------------------------------


def test_index__embeds_what_is_due_and_counts(shop: dict[str, Any]) -> None:
    product = make_product(photo("navy"))

    text = run("index")

    assert "1 products indexed, 1 photos embedded, 0 set aside" in text
    assert Embedding.objects.filter(product=product).exists()


def test_index__products_that_were_set_aside_make_it_exit_with_1(shop: dict[str, Any]) -> None:
    text, error = run_badly("index", "--retry-failed")

    assert "0 products indexed, 0 photos embedded, 1 set aside" in text
    assert error.returncode == 1


def test_index__all_reads_every_photo_and_embeds_none_again(shop: dict[str, Any]) -> None:
    shop["broken"].delete()

    assert "3 products indexed, 0 photos embedded" in run("index", "--all")


def test_index__missing_finds_what_no_trigger_saw(shop: dict[str, Any]) -> None:
    Embedding.objects.filter(product=shop["products"][0]).delete()

    text = run("index", "--missing")

    assert "missing: 1" in text
    assert "1 products indexed, 1 photos embedded" in text


@pytest.mark.parametrize(("option", "count"), [("--all", 4), ("--retry-failed", 1)])
def test_index__a_dry_run_changes_nothing(shop: dict[str, Any], option: str, count: int) -> None:
    before = list(IndexEntry.objects.values())

    assert f"{count} products would be looked at" in run("index", option, "--dry-run")

    assert list(IndexEntry.objects.values()) == before


def test_index__without_a_checkpoint_says_what_to_do() -> None:
    _, error = run_badly("index")

    assert "run visualsearch_train" in str(error)


# -- promote, roll back ---------------------------------------------------------------------------


def test_promote_and_rollback__by_name_and_by_default(shop: dict[str, Any]) -> None:
    fake_checkpoint(live=False, name="v2", folder="v2", state="ready")

    assert "v2 would replace v1" in run("promote", "v2", "--dry-run")
    assert Checkpoint.objects.get(state="live").name == "v1"
    assert "Checkpoint v2 is live." in run("promote")
    assert "v1 would be live again" in run("rollback", "--dry-run")
    assert "Checkpoint v1 is live again." in run("rollback")
    assert Checkpoint.objects.get(state="live").name == "v1"


def test_promote__what_cannot_be_says_why(shop: dict[str, Any]) -> None:
    fake_checkpoint(live=False, name="v2", folder="v2", state="refused", verdict="It collapsed.")

    for arguments, said in (
        (["v9"], "There is no checkpoint 'v9'; there are: v2, v1."),
        ([], "No checkpoint is ready"),
        (["v1"], "live already"),
        (["v2"], "was refused: It collapsed."),
    ):
        assert said in str(run_badly("promote", *arguments)[1])
    assert "no earlier checkpoint" in str(run_badly("rollback")[1])


def test_promote__force_embeds_and_promotes_what_was_refused(shop: dict[str, Any]) -> None:
    refused = fake_checkpoint(live=False, name="v2", folder="v2", state="refused", verdict="Bad.")
    partitions.drop(refused)

    assert "say why: --force --reason" in str(run_badly("promote", "v2", "--force")[1])
    assert not TrainingRun.objects.exists()
    text = run("promote", "v2", "--force", "--reason", "Rehearsal.")

    assert "Checkpoint v2 is live." in text
    assert Embedding.objects.filter(checkpoint=refused).count() == 3
    assert TrainingRun.objects.get().state == "succeeded"
    kept = Checkpoint.objects.get(name="v2").metrics["override"]
    assert (kept["reason"], kept["verdict"]) == ("Rehearsal.", "Bad.")
    assert kept["by"] and kept["at"].endswith("UTC")


# -- search ---------------------------------------------------------------------------------------


def test_search__by_words_by_photo_and_by_both(shop: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(photo("blue"))

    words = run("search", "red", "--limit", "1")
    picture = run("search", "--image", str(path), "--limit", "1")
    both = run("search", "--image", str(path), "--modify", "in green", "--limit", "1", "--json")

    assert "red dress" in words
    assert re.search(r"1  [01]\.\d{3}  \d+  blue dress", picture)
    answer = json.loads(both)
    assert answer["hits"][0]["title"] == "green dress"
    assert (answer["checkpoint"], answer["degraded"]) == ("v1", False)


def test_search__faults_are_told_in_a_sentence(shop: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"no image")

    for arguments in (["--image", str(path)], ["--image", str(tmp_path / "none.png")], [" "], []):
        _, error = run_badly("search", *arguments)
        assert str(error) and "Traceback" not in str(error)


def test_search__without_a_checkpoint_answers_by_words() -> None:
    make_product(photo(), name="red dress")

    text = run("search", "dress")

    assert "without the network" in text
    assert "red dress" in text


# -- doctor ---------------------------------------------------------------------------------------


def levels() -> dict[str, str]:
    found: dict[str, str] = {}
    for finding in doctor.examine(ask_workers=False):
        if found.get(finding.name) != "error":
            found[finding.name] = finding.level
    return found


def test_doctor__a_healthy_shop_exits_with_0(shop: dict[str, Any]) -> None:
    text = run("doctor", "--no-workers")

    assert {levels()[name] for name in ("I1", "I2", "I3", "I4", "I5")} == {"ok"}
    assert levels()["capture"] == levels()["checkpoint"] == "ok"
    assert "1 set aside with their reason" in text


def test_doctor__nothing_trained_yet_is_no_error() -> None:
    make_product(photo())
    IndexEntry.objects.update(changed_at=timezone.now() - timedelta(hours=1))

    found = levels()

    assert found["checkpoint"] == found["I5"] == "warning"
    assert "error" not in found.values()


def _lose_an_embedding(shop: dict[str, Any]) -> None:
    Embedding.objects.filter(product=shop["products"][0]).delete()


def _lose_an_entry(shop: dict[str, Any]) -> None:
    IndexEntry.objects.filter(product=shop["products"][0]).delete()


def _spoil_a_vector(shop: dict[str, Any]) -> None:
    Embedding.objects.filter(product=shop["products"][0]).update(vector=[0.5] * 64)


def _zero_a_vector(shop: dict[str, Any]) -> None:
    Embedding.objects.filter(product=shop["products"][0]).update(vector=[0.0] * 64)


def _drop_a_trigger(shop: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER visualsearch_capture ON shop_product")


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        (_lose_an_embedding, "I1"),
        (_lose_an_entry, "I1"),
        (_spoil_a_vector, "I3"),
        (_zero_a_vector, "I3"),
        (_drop_a_trigger, "capture"),
    ],
)
def test_doctor__harm_is_found_repaired_and_gone(
    shop: dict[str, Any], harm: Any, name: str
) -> None:
    harm(shop)

    text, error = run_badly("doctor", "--no-workers", "--json")
    assert error.returncode == 1
    answer = json.loads(text)
    assert not answer["ok"]
    assert [f["name"] for f in answer["findings"] if f["level"] == "error"] == [name]

    doctor.fix()
    indexing.index_pending()

    assert json.loads(run("doctor", "--no-workers", "--json"))["ok"]
    assert Embedding.objects.count() == 3


def test_doctor__embeddings_of_what_left_the_index_are_ghosts(
    shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from shop.visual_indexes import ProductIndex

    whole = ProductIndex.get_queryset
    monkeypatch.setattr(
        ProductIndex, "get_queryset", lambda self: whole(self).exclude(colour="red")
    )

    assert levels()["I2"] == "error"
    text = run("doctor", "--no-workers", "--fix")

    assert re.search(r"fixed   [1-9]\d* embedding\(s\) of products that are gone", text)
    assert levels()["I2"] == "ok"


def test_doctor__a_live_checkpoint_without_its_files(
    shop: dict[str, Any], settings: Any, tmp_path: Path
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": "", "CHECKPOINT_ROOT": tmp_path}

    _, error = run_badly("doctor", "--no-workers")

    assert error.returncode == 1
    assert levels()["checkpoint"] == "error"


def test_doctor__entries_that_wait_with_nobody_at_work(shop: dict[str, Any]) -> None:
    IndexEntry.objects.filter(status="indexed").update(
        status="pending", changed_at=timezone.now() - timedelta(minutes=5)
    )

    assert levels()["I5"] == "error"


def test_doctor__a_question_that_fails_does_not_hide_the_others(
    shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise RuntimeError("no answer")

    monkeypatch.setattr(status, "coverage", fail)

    assert levels()["I5"] == "error"
    assert levels()["I4"] == "ok"


# -- train, evaluate ------------------------------------------------------------------------------


def test_train__a_second_is_refused_and_bad_options_are_told() -> None:
    for arguments, said in (
        (["--recipe", "nonsense"], "default, tirg"),
        (["--epochs", "0"], "epochs"),
    ):
        assert said in str(run_badly("train", *arguments)[1])
    TrainingRun.objects.create(state="queued")

    assert "wait for it, or cancel it first" in str(run_badly("train")[1])


def test_train__an_empty_catalogue_exits_with_1() -> None:
    text, error = run_badly("train", "--json")

    assert error.returncode == 1
    assert "no product in the index" in str(error)
    assert json.loads(text)["state"] == "failed"


def test_train_and_evaluate__from_the_command_line(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER": "",
        "DEVICE": "cpu",
        "CHECKPOINT_ROOT": tmp_path / "checkpoints",
    }
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    # That the graphs for web processes are written, and right, is for tests/ml/test_train.py.
    monkeypatch.setattr("visualsearch.ml.train.export_onnx", lambda network, folder: {})
    make_shapes(designs=2)

    # One step teaches nothing, so the gate refuses it: that is an exit status of its own.
    text, error = run_badly("train", "--recipe", "tiny", "--epochs", "1", "--seed", "3")

    assert error.returncode == 3
    assert "v1 was refused" in str(error)
    for stage in ("collecting", "training", "evaluating", "exporting"):
        assert stage in text
    run_row = TrainingRun.objects.get()
    assert (run_row.state, run_row.seed) == ("succeeded", 3)

    table = run("evaluate", "v1", "--json", str(tmp_path / "figures.json"))

    for word in ("v1 (tiny, refused)", "raw pixels", "colour histogram", "image-only", "health:"):
        assert word in table
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["v1"]["lines"] == Checkpoint.objects.get().metrics["lines"]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"v1"}
    checks = Checkpoint.objects.get().metrics["checks"]
    assert not all(check["passed"] for check in checks)
    assert set(checks[0]) == {"name", "passed", "figure", "bound", "reason"}

    second = Checkpoint.objects.get()
    second.pk, second.name, second.folder, second.run = None, "v2", "v2", None
    second.save()
    shutil.copytree(tmp_path / "checkpoints" / "v1", tmp_path / "checkpoints" / "v2")
    page = tmp_path / "page.html"

    compared = run("evaluate", "--compare", "v1", "v2", "--whole", "--html", str(page))

    assert "95 % interval, paired" in compared
    assert "* 0 of" in compared
    assert "text (whole)" in compared
    assert "Against v1" in page.read_text()
    both = json.loads(run("evaluate", "--compare", "v1", "v2", "--json", "-"))
    assert set(both) == {"v1", "v2", "comparison"}


def test_evaluate__what_is_not_there() -> None:
    assert "No checkpoint is live" in str(run_badly("evaluate")[1])
    assert "there are: none" in str(run_badly("evaluate", "v9")[1])
    fake_checkpoint(name="v1")
    assert "two different checkpoints, not v1" in str(run_badly("evaluate", "--compare", "v1")[1])


# -- progress -------------------------------------------------------------------------------------


class Stream(io.StringIO):
    """As a command's stdout: `write` ends the line unless told otherwise."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str, ending: str = "\n") -> int:  # type: ignore[override]
        return super().write(text + ending)


def test_progress__moves_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr("visualsearch.management.progress.time.monotonic", lambda: next(clock))
    terminal, plain = Stream(terminal=True), Stream(terminal=False)

    for stream in (terminal, plain):
        with ProgressLine(stream) as line:
            line.show("embedding", 1, 4, eta=75)
            line.show("embedding", 4, 4, note="done")

    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().count("\r") == 2
    assert "[######..................]" in terminal.getvalue()
    assert "1 min 15 s left" in terminal.getvalue()
    assert plain.getvalue().splitlines() == [
        "embedding    1/4  1 min 15 s left",
        "embedding    4/4  done",
    ]


def test_progress__says_no_more_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visualsearch.management.progress.time.monotonic", lambda: 1.0)
    plain = Stream(terminal=False)

    with ProgressLine(plain) as line:
        for done in range(100):
            line.show("embedding", done, 100)

    assert plain.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (65, "1 min 05 s"), (3700, "1 h 01 min"), (-3, "0 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
