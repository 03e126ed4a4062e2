"""Which checkpoint is live: promote, roll back, prune, and never two at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from tests.catalogue import make_product, photo
from visualsearch.exceptions import PromotionError
from visualsearch.lifecycle import promotion
from visualsearch.ml.manifest import Manifest
from visualsearch.models import Checkpoint, Embedding, IndexEntry
from visualsearch.photos import images
from visualsearch.search import searching
from visualsearch.signals import checkpoint_promoted
from visualsearch.tables import partitions
from visualsearch.testing import FakeEncoder, fake_checkpoint
from visualsearch.upkeep import indexing, storing

State = Checkpoint.State


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", heard.append)
    return heard


def ready(name: str) -> Checkpoint:
    return fake_checkpoint(live=False, name=name, folder=name, state=State.READY)


def with_files(checkpoint: Checkpoint) -> Path:
    """A folder as training writes it, with a file that stands for the weights."""
    folder = promotion.folder_of(checkpoint)
    folder.mkdir(parents=True)
    (folder / "encoder.safetensors").write_bytes(b"weights")
    Manifest(
        recipe="tiny",
        options={},
        width=FakeEncoder.width,
        image_size=FakeEncoder.image_size,
        preprocessing=images.PREPROCESSING,
        text_length=0,
        parameters=1,
        attributes={},
    ).write(folder)
    return folder


def states() -> dict[str, str]:
    return dict(Checkpoint.objects.order_by("name").values_list("name", "state"))


@pytest.mark.django_db
def test_promote__the_live_one_is_retired_in_the_same_step(rings: list[str]) -> None:
    first, second = ready("v1"), ready("v2")

    promotion.promote(first)
    promotion.promote(second)

    assert states() == {"v1": "retired", "v2": "live"}
    first.refresh_from_db()
    assert first.retired_at is not None
    assert second.promoted_at is not None
    assert "embed" in rings


@pytest.mark.django_db
def test_live__the_database_itself_allows_one() -> None:
    promotion.promote(ready("v1"))
    other = ready("v2")

    with pytest.raises(IntegrityError), transaction.atomic():
        Checkpoint.objects.filter(pk=other.pk).update(state=State.LIVE)


@pytest.mark.django_db(transaction=True)
def test_promote__two_at_once_leave_one_live() -> None:
    promotion.promote(ready("v0"))
    candidates = [ready("v1"), ready("v2")]
    together = threading.Barrier(2)

    def run(checkpoint: Checkpoint) -> str:
        together.wait(10)
        try:
            promotion.promote(checkpoint)
            return "promoted"
        except PromotionError as error:
            return error.message
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(run, candidates))

    # The older of the two loses its turn if it comes second; either way one is live.
    assert "promoted" in results
    assert Checkpoint.objects.filter(state=State.LIVE).count() == 1
    assert not Checkpoint.objects.filter(state=State.READY).exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.LIVE, "live already"),
        (State.BUILDING, "still being indexed"),
        (State.REFUSED, "was refused: too bad.*--force"),
    ],
)
def test_promote__states_from_which_none_goes_live(state: str, said: str) -> None:
    checkpoint = fake_checkpoint(live=False, state=state, verdict="too bad")

    with pytest.raises(PromotionError, match=said):
        promotion.promote(checkpoint)

    checkpoint.refresh_from_db()
    assert checkpoint.state == state


@pytest.mark.django_db
def test_promote__embeddings_that_were_dropped_are_missed() -> None:
    checkpoint = ready("v1")
    partitions.drop(checkpoint)

    with pytest.raises(PromotionError, match="no embeddings any more"):
        promotion.promote(checkpoint)


@pytest.mark.django_db
@pytest.mark.parametrize("harm", ["nothing there", "altered", "file gone"])
def test_promote__files_that_are_missing_or_altered_are_noticed(
    harm: str, settings: Any, tmp_path: Path
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"ENCODER": "", "CHECKPOINT_ROOT": tmp_path}
    promotion_before = ready("v0")
    with_files(promotion_before)
    promotion.promote(promotion_before)
    checkpoint = ready("v1")
    if harm != "nothing there":
        folder = with_files(checkpoint)
        assert promotion.obstacle(checkpoint) == ""
        weights = folder / "encoder.safetensors"
        weights.write_bytes(b"others") if harm == "altered" else weights.unlink()

    with pytest.raises(PromotionError, match="v1 cannot be used"):
        promotion.promote(checkpoint)

    assert states() == {"v0": "live", "v1": "ready"}


@pytest.mark.django_db
@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", ".", "a/../.."])
def test_folder_of__a_row_that_leads_out_of_the_root_is_refused(folder: str) -> None:
    with pytest.raises(PromotionError, match="not inside"):
        promotion.folder_of(fake_checkpoint(live=False, folder=folder))


@pytest.mark.django_db
def test_rollback__goes_back_one_at_a_time() -> None:
    for name in ("v1", "v2", "v3"):
        promotion.promote(ready(name))

    assert promotion.rollback().name == "v2"
    assert states() == {"v1": "retired", "v2": "live", "v3": "retired"}
    assert promotion.rollback().name == "v1"
    with pytest.raises(PromotionError, match="no earlier checkpoint"):
        promotion.rollback()

    promotion.promote(Checkpoint.objects.get(name="v3"))
    assert promotion.rollback().name == "v1", "v2 was left for a reason"


@pytest.mark.django_db
def test_rollback__goes_back_to_what_was_live_though_a_hosts_clock_is_fast() -> None:
    promotion.promote(ready("v1"))
    Checkpoint.objects.update(promoted_at=timezone.now() + timedelta(minutes=5))
    promotion.promote(ready("v2"))

    assert promotion.rollback().name == "v1"


@pytest.mark.django_db
def test_rollback__nothing_was_ever_promoted() -> None:
    with pytest.raises(PromotionError, match="no earlier checkpoint"):
        promotion.rollback()


@pytest.mark.django_db
def test_prune__the_last_ones_are_kept_with_their_files(settings: Any, tmp_path: Path) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "KEEP_CHECKPOINTS": 1,
        "CHECKPOINT_ROOT": tmp_path,
    }
    folders = {}
    for name in ("v1", "v2", "v3"):
        checkpoint = ready(name)
        folders[name] = with_files(checkpoint)
        promotion.promote(checkpoint)

    there = {c.name: partitions.exists(c) for c in Checkpoint.objects.all()}
    assert there == {"v1": False, "v2": True, "v3": True}
    assert {name: path.exists() for name, path in folders.items()} == there
    assert "Embeddings and files were removed on" in Checkpoint.objects.get(name="v1").verdict
    assert promotion.prune() == []


@pytest.mark.django_db
def test_prune__refused_ones_do_not_pile_up(settings: Any, tmp_path: Path) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "KEEP_CHECKPOINTS": 1,
        "CHECKPOINT_ROOT": tmp_path,
    }
    old = fake_checkpoint(live=False, state=State.REFUSED)
    new = fake_checkpoint(live=False, state=State.REFUSED)
    folders = with_files(old), with_files(new)

    promotion.prune()

    assert [folder.exists() for folder in folders] == [False, True]


@pytest.mark.django_db
def test_promote__older_ones_that_never_went_live_are_retired() -> None:
    ready("v1")
    newer = ready("v2")
    ready("v3")

    promotion.promote(newer)

    assert states() == {"v1": "retired", "v2": "live", "v3": "ready"}


@pytest.mark.django_db(transaction=True)
def test_promote_and_rollback__edits_that_a_checkpoint_missed_are_embedded_by_it() -> None:
    product = make_product(photo("red"), name="One")
    first, second = ready("v1"), ready("v2")
    for checkpoint in (first, second):
        indexing.embed_checkpoint(checkpoint)
    promotion.promote(first)
    promotion.promote(second)
    product.images.all().delete()
    from tests.catalogue import add_photo

    add_photo(product, photo("blue"), position=0)
    indexing.index_pending()
    assert not IndexEntry.objects.filter(status="pending").exists()

    promotion.rollback()

    assert IndexEntry.objects.get(product=product).status == "pending"
    indexing.index_pending()
    hashes = Embedding.objects.filter(product=product).values_list(
        "checkpoint__name", "content_hash"
    )
    found = {name: bytes(content_hash) for name, content_hash in hashes}
    assert found["v1"] == found["v2"] == images.content_hash(photo("blue"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["switch", "follow_up"])
def test_rollback__whoever_dies_in_the_middle_of_it_loses_no_edit(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    product = make_product(photo("red"))
    for name in ("v1", "v2"):
        checkpoint = ready(name)
        indexing.embed_checkpoint(checkpoint)
        promotion.promote(checkpoint)
    product.images.get().original.save("other.png", ContentFile(photo("blue")))
    indexing.index_pending()

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(promotion, step, die)
        promotion.rollback()

    assert IndexEntry.objects.get(product=product).status == "pending", "v1 lacks the new photo"
    if step == "switch":
        assert states() == {"v1": "ready", "v2": "live"}
        assert promotion.rollback().name == "v1", "what broke off is taken up again"
    indexing.index_pending()
    (embedding,) = Embedding.objects.filter(product=product, checkpoint__name="v1")
    assert bytes(embedding.content_hash) == images.content_hash(photo("blue"))


@pytest.mark.django_db(transaction=True)
def test_rollback__while_a_worker_embeds_an_edit_loses_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    product = make_product(photo("red"))
    for name in ("v1", "v2"):
        checkpoint = ready(name)
        indexing.embed_checkpoint(checkpoint)
        promotion.promote(checkpoint)
    product.images.get().original.save("other.png", ContentFile(photo("blue")))
    write = storing.write

    def roll_back_then_write(*args: Any, **options: Any) -> Any:
        # The worker has claimed the edit for v2 alone.
        monkeypatch.setattr(storing, "write", write)
        promotion.rollback()
        return write(*args, **options)

    monkeypatch.setattr(storing, "write", roll_back_then_write)

    indexing.index_pending()
    assert IndexEntry.objects.get(product=product).status == "pending"
    IndexEntry.objects.update(available_at=timezone.now())
    indexing.index_pending()

    row = Embedding.objects.get(product=product, checkpoint__name="v1")
    assert bytes(row.content_hash) == images.content_hash(photo("blue"))
    assert IndexEntry.objects.get(product=product).status == "indexed"


@pytest.mark.django_db
def test_prune__one_that_was_promoted_meanwhile_is_left(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"KEEP_CHECKPOINTS": 0}
    old = fake_checkpoint(live=False, state=State.RETIRED)

    def promote_then_look(checkpoint: Checkpoint) -> bool:
        monkeypatch.undo()
        promotion.switch(old, promoted_at=timezone.now())
        return True

    monkeypatch.setattr(partitions, "exists", promote_then_look)

    assert promotion.prune() == []
    assert partitions.exists(old)


@pytest.mark.django_db(transaction=True)
def test_switch__searches_meanwhile_are_answered_by_one_checkpoint_each() -> None:
    for colour in ("red", "blue", "green", "black"):
        make_product(photo(colour), name=colour, colour=colour)
    for name in ("v1", "v2"):
        checkpoint = ready(name)
        indexing.embed_checkpoint(checkpoint)
        promotion.promote(checkpoint)
    stop = threading.Event()
    answers: list[tuple[str | None, str]] = []
    faults: list[BaseException] = []

    def ask() -> None:
        try:
            while not stop.is_set():
                results = searching.search("red", limit=1)
                answers.append((results.checkpoint, next(iter(results)).product.name))
        except BaseException as error:
            faults.append(error)
        finally:
            connections.close_all()

    shoppers = [threading.Thread(target=ask) for _ in range(3)]
    for shopper in shoppers:
        shopper.start()
    for _ in range(6):
        promotion.rollback()
        promotion.promote(Checkpoint.objects.get(name="v2"))
    stop.set()
    for shopper in shoppers:
        shopper.join(30)

    assert faults == []
    assert {name for name, _ in answers} == {"v1", "v2"}
    assert {found for _, found in answers} == {"red"}


@pytest.mark.django_db(transaction=True)
def test_promote__listeners_hear_of_it_after_the_commit() -> None:
    heard: list[tuple[str, str]] = []

    def listen(*, checkpoint: Checkpoint, previous: Checkpoint | None, **_: Any) -> None:
        heard.append((checkpoint.name, previous.name if previous else "nothing"))

    checkpoint_promoted.connect(listen)
    try:
        promotion.promote(ready("v1"))
        promotion.promote(ready("v2"))
    finally:
        checkpoint_promoted.disconnect(listen)

    assert heard == [("v1", "nothing"), ("v2", "v1")]


@pytest.mark.django_db
def test_rollback_target__one_without_a_date_is_none() -> None:
    fake_checkpoint(live=True, promoted_at=timezone.now())
    fake_checkpoint(live=False, state=State.RETIRED)

    assert Checkpoint.objects.rollback_target() is None
