"""A checkpoint goes from machine to machine as one file, and nothing else gets in with it."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.catalogue import make_product, photo
from tests.test_commands import run, run_badly
from tests.test_promotion import with_files
from visualsearch.exceptions import CheckpointError, PromotionError
from visualsearch.lifecycle import promotion, transfer
from visualsearch.ml.manifest import MANIFEST_NAME, sha256_of
from visualsearch.models import Checkpoint, Embedding
from visualsearch.testing import fake_checkpoint

pytestmark = pytest.mark.django_db(transaction=True)

State = Checkpoint.State
Contents = dict[str, bytes]


@pytest.fixture(autouse=True)
def root(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda bell: None)
    root = tmp_path / "checkpoints"
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"CHECKPOINT_ROOT": root}
    return root


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A file with checkpoint v7, which this machine does not have any more."""
    checkpoint = fake_checkpoint(
        live=False, name="v7", folder="v7", state=State.RETIRED, metrics={"lines": []}, verdict="Good."
    )  # fmt: skip
    with_files(checkpoint)
    path = tmp_path / "v7.tar"
    transfer.export_checkpoint(checkpoint, path)
    promotion.forget(checkpoint)
    checkpoint.delete()
    return path


def contents(path: Path) -> Contents:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


def rewrite(path: Path, files: Contents, members: Sequence[tarfile.TarInfo] = ()) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in members:
            archive.addfile(member)


def test_import__brings_row_and_files_and_can_be_embedded_and_promoted(
    exported: Path, root: Path
) -> None:
    product = make_product(photo("red"))
    live = fake_checkpoint(name="v1", folder="v1")
    with_files(live)

    answer = json.loads(run("checkpoints", "import", str(exported), "--json"))

    checkpoint = Checkpoint.objects.get(name="v7")
    assert (answer["name"], answer["state"]) == ("v7", "imported")
    assert checkpoint.metrics["imported"]["name"] == "v7"
    assert (checkpoint.verdict, checkpoint.width) == ("Good.", 64)
    assert (root / "v7" / "encoder.safetensors").read_bytes() == b"weights"
    assert not list(root.glob(".*"))
    with pytest.raises(PromotionError, match="imported and has embedded nothing yet"):
        promotion.promote(checkpoint)

    said = run("checkpoints", "promote", "v7")

    assert "Checkpoint v7 is live." in said
    assert Embedding.objects.filter(checkpoint=checkpoint, product=product).exists()
    assert Checkpoint.objects.get(state="live").name == "v7"
    assert promotion.rollback().name == "v1"


def test_export__is_the_same_for_the_same_checkpoint_and_says_its_hash(
    exported: Path, tmp_path: Path
) -> None:
    checkpoint = transfer.import_checkpoint(exported)
    first, second = tmp_path / "a.tar", tmp_path / "b.tar"

    written = transfer.export_checkpoint(checkpoint, first)
    answer = json.loads(run("checkpoints", "export", "v7", str(second), "--json"))

    assert first.read_bytes() == second.read_bytes()
    assert written["sha256"] == answer["sha256"] == sha256_of(first)
    assert "exists; it is not overwritten" in str(
        run_badly("checkpoints", "export", "v7", str(first))[1]
    )


def test_import__a_name_that_is_taken_becomes_the_next_one(exported: Path) -> None:
    fake_checkpoint(live=False, name="v7", folder="v7")

    assert transfer.import_checkpoint(exported).name == "v8"
    assert transfer.import_checkpoint(exported, name="from-berlin").name == "from-berlin"
    for name in ("v7", "../v9", ".hidden", "a/b", ""):
        with pytest.raises(CheckpointError, match="taken, or no name"):
            transfer.import_checkpoint(exported, name=name)


def test_import__one_that_was_refused_stays_refused(exported: Path) -> None:
    files = contents(exported)
    about = json.loads(files["export.json"])
    files["export.json"] = json.dumps(about | {"state": "refused", "verdict": "Bad."}).encode()
    rewrite(exported, files)

    transfer.import_checkpoint(exported)

    _, error = run_badly("checkpoints", "promote", "v7")
    assert error.returncode == 3
    assert "was refused: Bad." in str(error)


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def altered(files: Contents) -> Contents:
    return files | {"encoder.safetensors": b"others!"}


def swapped_manifest(files: Contents) -> Contents:
    return files | {MANIFEST_NAME: files[MANIFEST_NAME].replace(b'"tiny"', b'"evil"')}


def without(name: str) -> Callable[[Contents], Contents]:
    return lambda files: {key: data for key, data in files.items() if key != name}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (altered, "sha256 differs"),
        (swapped_manifest, "sha256 differs"),
        (without("encoder.safetensors"), "lacks the file 'encoder.safetensors'"),
        (without(MANIFEST_NAME), "has no checkpoint.json"),
        (without("export.json"), "has no export.json"),
        (lambda files: files | {"../evil.json": b"{}"}, "no plain file name"),
        (lambda files: files | {"/tmp/evil.json": b"{}"}, "no plain file name"),
        (lambda files: files | {"a/b.json": b"{}"}, "no plain file name"),
        (lambda files: files | {"weights.pkl": b"x"}, "a checkpoint has"),
        (lambda files: files | {"weights.pth": b"x"}, "a checkpoint has"),
        (lambda files: files | {"more.json": b"{}"}, "manifest does not name"),
        (lambda files: files | {"export.json": b"not json"}, "is no JSON"),
        (lambda files: files | {"export.json": b"[]"}, "another release"),
        (lambda files: files | {"export.json": b'{"format_version": 1}'}, "lacks 'name'"),
        (lambda files: files | {f"{n}.json": b"{}" for n in range(70)}, "more than 64 files"),
    ],
)
def test_import__a_file_that_was_tampered_with_leaves_nothing(
    exported: Path, root: Path, harm: Callable[[Contents], Contents], said: str
) -> None:
    rewrite(exported, harm(contents(exported)))

    with pytest.raises(CheckpointError, match=said):
        transfer.import_checkpoint(exported)

    assert not Checkpoint.objects.exists()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_import__what_is_no_plain_file_is_refused(exported: Path, root: Path, kind: bytes) -> None:
    rewrite(exported, contents(exported), [link("more.json", "/etc/passwd", kind)])

    with pytest.raises(CheckpointError, match="no plain file"):
        transfer.import_checkpoint(exported)

    assert list(root.iterdir()) == []


def test_import__a_file_twice_is_refused(exported: Path) -> None:
    rewrite(exported, contents(exported), [tarfile.TarInfo(MANIFEST_NAME)])

    with pytest.raises(CheckpointError, match="a file twice"):
        transfer.import_checkpoint(exported)


def test_import__no_pickle_is_ever_loaded(exported: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    payload = pickle.dumps(Evil(marker))
    files = contents(exported)
    for name in files:
        rewrite(exported, files | {name: payload})
        with pytest.raises(CheckpointError):
            transfer.import_checkpoint(exported)
    exported.write_bytes(payload)
    with pytest.raises(CheckpointError, match="no exported checkpoint"):
        transfer.import_checkpoint(exported)

    assert not marker.exists()


def test_import__a_file_cut_short_or_missing_says_so(exported: Path, tmp_path: Path) -> None:
    data = exported.read_bytes()
    exported.write_bytes(data[:2000])
    for path in (exported, tmp_path / "none.tar"):
        _, error = run_badly("checkpoints", "import", str(path))
        assert error.returncode == 1
        assert str(path) in str(error)
    assert not Checkpoint.objects.exists()


def test_import_and_export__look_for_room_first(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    checkpoint = transfer.import_checkpoint(exported, name="here")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        "visualsearch.lifecycle.transfer.shutil.disk_usage",
        lambda _: usage._replace(free=200_000_000),
    )

    with pytest.raises(CheckpointError, match="make room first"):
        transfer.import_checkpoint(exported)
    with pytest.raises(CheckpointError, match="make room first"):
        transfer.export_checkpoint(checkpoint, tmp_path / "out.tar")

    assert {path.name for path in root.iterdir()} == {"here"}
    assert not list(tmp_path.glob("*out.tar*"))


def test_export__files_that_were_altered_do_not_leave(exported: Path, root: Path) -> None:
    transfer.import_checkpoint(exported)
    (root / "v7" / "encoder.safetensors").write_bytes(b"others")

    _, error = run_badly("checkpoints", "export", "v7")

    assert "sha256 differs" in str(error)


# -- the command ----------------------------------------------------------------------------------


def test_list__says_what_there_is(exported: Path) -> None:
    assert run("checkpoints", "list") == "There are none: run visualsearch_train.\n"
    make_product(photo("red"))
    live = fake_checkpoint(
        name="v1", folder="v1", recall={"kinds": {"text": {"recall": 0.991, "ef_search": 400}}}
    )
    run("index")
    transfer.import_checkpoint(exported)

    rows = {row["name"]: row for row in json.loads(run("checkpoints", "list", "--json"))}
    text = run("checkpoints", "list")

    assert {name: row["state"] for name, row in rows.items()} == {"v1": "live", "v7": "imported"}
    assert [rows[name]["embeddings"] for name in ("v1", "v7")] == [1, 0]
    assert rows["v1"]["recall"] == live.recall
    assert "text 0.991" in text


def test_rollback_and_promote__answer_machines_too(root: Path) -> None:
    for name in ("v1", "v2"):
        with_files(fake_checkpoint(live=False, name=name, folder=name, state=State.READY))
        answer = json.loads(run("checkpoints", "promote", name, "--json"))
        assert answer["live"] == name

    assert json.loads(run("checkpoints", "rollback", "--dry-run", "--json"))["live"] is None
    assert json.loads(run("checkpoints", "rollback", "--json"))["live"] == "v1"
    assert "no earlier checkpoint" in str(run_badly("checkpoints", "rollback", "--json")[1])


def test_prune__by_name_by_number_and_dry(exported: Path, root: Path, settings: Any) -> None:
    for name in ("v1", "v2", "v3", "v4"):
        with_files(fake_checkpoint(live=False, name=name, folder=name, state=State.READY))
        run("checkpoints", "promote", name)
    transfer.import_checkpoint(exported)
    there = {"v2", "v3", "v4", "v7"}  # KEEP_CHECKPOINTS is 2
    assert {path.name for path in root.iterdir()} == there

    assert "v2 would be pruned" in run("checkpoints", "prune", "--keep", "1", "--dry-run")
    assert {path.name for path in root.iterdir()} == there
    assert json.loads(run("checkpoints", "prune", "--keep", "1", "--json")) == {"pruned": ["v2"]}
    assert run("checkpoints", "prune", "v7") == "v7 pruned.\n"
    assert {path.name for path in root.iterdir()} == {"v3", "v4"}
    assert "only one that is retired" in str(run_badly("checkpoints", "prune", "v4")[1])
    assert "give 0 or more" in str(run_badly("checkpoints", "prune", "--keep", "-1")[1])
    assert run("checkpoints", "prune") == "Nothing pruned.\n"
