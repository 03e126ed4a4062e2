"""Indexing: what changed is embedded, what did not is not, and one bad photo spoils only itself."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.db import OperationalError, connection, connections, router
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from shop.models import Product, ProductImage
from tests.catalogue import BROKEN, add_photo, make_product, make_products, photo
from visualsearch import encoding
from visualsearch.conf import get_settings
from visualsearch.exceptions import DecoderEndedError, EncoderUnavailableError
from visualsearch.health import doctor, sweeping
from visualsearch.models import Checkpoint, Embedding, IndexEntry, SimilarProduct
from visualsearch.photos.decoding import Decoder
from visualsearch.testing import FakeEncoder, fake_checkpoint
from visualsearch.upkeep import claiming, indexing, settling, shutting_down, storing

pytestmark = pytest.mark.django_db


class CountingEncoder(FakeEncoder):
    """Remembers how many images it was shown."""

    images = 0
    fault: Exception | None = None

    def encode_image(self, pixels: Any) -> Any:
        if CountingEncoder.fault is not None:
            raise CountingEncoder.fault
        CountingEncoder.images += len(pixels)
        return super().encode_image(pixels)


@pytest.fixture(autouse=True)
def encoder(settings: Any) -> Iterator[type[CountingEncoder]]:
    CountingEncoder.images, CountingEncoder.fault = 0, None
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER": "tests.test_indexing.CountingEncoder"
    }
    yield CountingEncoder
    CountingEncoder.fault = None


@pytest.fixture
def live() -> Checkpoint:
    return fake_checkpoint()


def entry(product: Product) -> IndexEntry:
    return IndexEntry.objects.get(product=product)


def positions(product: Product) -> list[int]:
    rows = Embedding.objects.filter(product=product).order_by("position")
    return list(rows.values_list("position", flat=True))


def snapshot() -> list[tuple[Any, ...]]:
    rows = Embedding.objects.order_by("checkpoint_id", "product_id", "position")
    return [
        (c, p, n, image, bytes(digest), tuple(vector), at)
        for c, p, n, image, digest, vector, at in rows.values_list(
            "checkpoint_id",
            "product_id",
            "position",
            "image",
            "content_hash",
            "vector",
            "embedded_at",
        )
    ]


def make_due() -> None:
    IndexEntry.objects.filter(status="pending").update(available_at=timezone.now())


def test_index_pending__embeds_every_photo_as_the_encoder_does(live: Checkpoint) -> None:
    red, blue = make_product(photo("red"), photo("pink")), make_product(photo("blue"))

    counts = indexing.index_pending()

    assert (counts.indexed, counts.failed, counts.embedded) == (2, 0, 3)
    assert counts.is_complete
    assert (positions(red), positions(blue)) == ([0, 1], [0])
    assert {entry(red).status, entry(blue).status} == {"indexed"}
    pixels = encoding.decoder().decode(photo("blue"), size=32)
    expected = FakeEncoder().encode_image(pixels[None])[0]
    row = Embedding.objects.get(product=blue)
    assert np.allclose(row.vector, expected, atol=1e-3)
    assert row.version == entry(blue).version
    assert row.image == blue.images.get().original.name


def test_index_pending__without_a_live_checkpoint_leaves_everything_open() -> None:
    product = make_product(photo())

    counts = indexing.index_pending()

    assert counts.indexed == 0
    assert (entry(product).status, entry(product).attempts) == ("pending", 0)


def test_index_pending__a_price_edit_embeds_nothing(
    live: Checkpoint, encoder: type[CountingEncoder]
) -> None:
    products = [make_product(photo(colour)) for colour in ("red", "blue", "green")]
    indexing.index_pending()
    before, shown = snapshot(), encoder.images

    Product.objects.update(price=77)
    assert IndexEntry.objects.filter(status="pending").count() == 3
    counts = indexing.index_pending()

    assert counts.indexed == 3
    assert {entry(product).status for product in products} == {"indexed"}
    assert encoder.images == shown
    assert snapshot() == before


def test_index_pending__only_the_new_photo_is_embedded(
    live: Checkpoint, encoder: type[CountingEncoder]
) -> None:
    product = make_product(photo("red"), photo("blue"))
    indexing.index_pending()

    add_photo(product, photo("green"), position=2)
    indexing.index_pending()

    assert positions(product) == [0, 1, 2]
    assert encoder.images == 3


class ReadsGoElsewhere:
    """A router as Django's manual has it, for a primary and its replicas."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True


def test_index_pending__reads_nothing_from_a_replica_which_may_lag_behind(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(photo("red"))
    behind = connections.settings["default"] | {"NAME": "not_there_yet"}
    monkeypatch.setitem(connections.settings, "replica", behind)
    monkeypatch.setattr(router, "routers", [ReadsGoElsewhere()])

    counts = indexing.index_pending()
    assert indexing.embed_checkpoint(fake_checkpoint(live=False)) == 1
    found = [f for f in doctor.examine(ask_workers=False) if f.name in ("I1", "I3", "I4", "I5")]

    monkeypatch.undo()
    assert (counts.indexed, counts.embedded) == (1, 1)
    assert [finding.message for finding in found if finding.level == "error"] == []
    assert entry(product).status == "indexed"


def test_index_pending__a_photo_that_moved_keeps_its_vector(
    live: Checkpoint, encoder: type[CountingEncoder]
) -> None:
    product = make_product(photo("red"), photo("blue"))
    indexing.index_pending()
    vectors = dict(Embedding.objects.values_list("image", "vector"))

    first, second = product.images.all()
    ProductImage.objects.filter(pk=first.pk).update(position=5)
    indexing.index_pending()

    assert dict(Embedding.objects.values_list("image", "vector")) == vectors
    moved = Embedding.objects.get(product=product, position=0)
    assert moved.image == second.original.name
    assert encoder.images == 2


def test_index_pending__a_file_with_another_name_and_the_same_bytes_is_not_embedded_again(
    live: Checkpoint, encoder: type[CountingEncoder]
) -> None:
    product = make_product(photo("red"))
    indexing.index_pending()
    before = Embedding.objects.get(product=product)

    product.images.get().original.save("renamed.png", ContentFile(photo("red")))
    indexing.index_pending()

    after = Embedding.objects.get(product=product)
    assert after.image == product.images.get().original.name != before.image
    assert (after.embedded_at, after.vector) == (before.embedded_at, before.vector)
    assert encoder.images == 1


def test_index_pending__a_photo_taken_away_loses_its_embedding(live: Checkpoint) -> None:
    product = make_product(photo("red"), photo("blue"))
    indexing.index_pending()

    product.images.all()[1].delete()
    indexing.index_pending()
    assert positions(product) == [0]

    product.images.all().delete()
    indexing.index_pending()
    assert positions(product) == []
    assert entry(product).status == "indexed"


def test_index_pending__a_product_that_leaves_the_index_loses_its_embeddings(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shop.visual_indexes import ProductIndex

    hidden, shown = make_product(photo("red")), make_product(photo("blue"))
    indexing.index_pending()
    monkeypatch.setattr(
        ProductIndex, "get_queryset", lambda self: Product.objects.filter(published=True)
    )

    Product.objects.filter(pk=hidden.pk).update(published=False)
    indexing.index_pending()

    assert (positions(hidden), positions(shown)) == ([], [0])
    assert not SimilarProduct.objects.filter(target=hidden).exists()
    assert entry(hidden).status == "indexed"


def test_index_pending__the_vectors_go_to_every_checkpoint_in_use(live: Checkpoint) -> None:
    beside = fake_checkpoint(live=False)
    product = make_product(photo())

    indexing.index_pending()

    rows = Embedding.objects.filter(product=product).values_list("checkpoint_id", flat=True)
    assert set(rows) == {live.pk, beside.pk}


def test_index_pending__a_broken_checkpoint_beside_it_does_not_keep_edits_from_the_live_one(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = fake_checkpoint(live=False)
    product = make_product(photo())
    load = encoding.bulk_encoder

    def bulk_encoder(checkpoint: Checkpoint) -> Any:
        if checkpoint == beside:
            raise EncoderUnavailableError("its folder is gone")
        return load(checkpoint)

    monkeypatch.setattr(encoding, "bulk_encoder", bulk_encoder)
    indexing.index_pending()

    assert list(Embedding.objects.values_list("checkpoint_id", flat=True)) == [live.pk]
    assert entry(product).status == "indexed"


def test_index_pending__a_bad_photo_is_named_and_spoils_nothing_else(live: Checkpoint) -> None:
    bad = make_product(BROKEN)
    half = make_product(photo("red"), BROKEN, photo("blue"))
    good = [make_product(photo("green")) for _ in range(5)]

    counts = indexing.index_pending()

    assert (counts.indexed, counts.failed) == (5, 2)
    assert (positions(bad), positions(half)) == ([], [0, 2])
    assert all(positions(product) == [0] for product in good)
    found = entry(half)
    assert found.status == "failed"
    assert found.error_code.startswith("image_")
    assert half.images.all()[1].original.name in found.error
    assert entry(bad).status == "failed"


def test_index_pending__new_bytes_heal_a_failed_product(live: Checkpoint) -> None:
    product = make_product(BROKEN)
    indexing.index_pending()

    image = product.images.get()
    image.original.save("healed.png", ContentFile(photo("red")))
    indexing.index_pending()

    assert (entry(product).status, entry(product).error) == ("indexed", "")
    assert positions(product) == [0]


def test_index_pending__a_missing_file_is_set_aside_and_found_by_the_sweep_when_it_is_back(
    live: Checkpoint,
) -> None:
    product = make_product(photo("red"))
    image = product.images.get()
    storage, name = image.original.storage, image.original.name
    storage.delete(name)
    indexing.index_pending()
    found = entry(product)
    assert (found.status, found.error_code) == ("failed", "image_missing")
    assert name in found.error

    storage.save(name, ContentFile(photo("red")))
    sweeping.sweep()
    indexing.index_pending()

    assert entry(product).status == "indexed"


def test_index_pending__a_storage_that_does_not_answer_is_tried_again_later(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    product, other = make_product(photo("red"), photo("blue")), make_product(photo("green"))
    indexing.index_pending()
    before = snapshot()
    unreachable = product.images.all()[1].original.name
    opened = FileSystemStorage._open

    def _open(self: Any, name: str, mode: str = "rb") -> Any:
        if name == unreachable:
            raise TimeoutError("no answer")
        return opened(self, name, mode)

    Product.objects.update(name="Edited")
    product.images.filter(position=0).delete()
    with monkeypatch.context() as patched:
        patched.setattr(FileSystemStorage, "_open", _open)
        counts = indexing.index_pending()

    found = entry(product)
    assert (counts.indexed, counts.deferred) == (1, 1)
    assert (found.status, found.error_code, found.attempts) == ("pending", "storage", 0)
    assert "no answer" in found.error
    assert found.available_at > timezone.now()
    assert snapshot() == before, "half of the product was changed"
    assert entry(other).status == "indexed"

    make_due()
    indexing.index_pending()
    assert (entry(product).status, positions(product)) == ("indexed", [0])


def test_index_pending__an_encoder_that_is_missing_is_tried_again_later(
    live: Checkpoint, encoder: type[CountingEncoder]
) -> None:
    product = make_product(photo())
    encoder.fault = EncoderUnavailableError("no such folder")

    counts = indexing.index_pending()

    assert counts.deferred == 1
    assert entry(product).error == "no such folder"
    encoder.fault = None
    make_due()
    assert indexing.index_pending().indexed == 1


def test_index_pending__a_fault_of_the_database_is_not_held_against_the_products(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(photo())

    def write(*_: Any, **__: Any) -> Any:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr(storing, "write", write)
        patched.setattr(settling, "after_database_fault", claiming.settle)
        counts = indexing.index_pending()

    assert not counts.is_complete
    assert (entry(product).status, entry(product).attempts) == ("pending", 0)
    make_due()
    assert indexing.index_pending().indexed == 1


def test_index_pending__a_product_that_makes_the_shops_hook_fail_convicts_only_itself(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shop.visual_indexes import ProductIndex

    poison = make_product(photo("red"), name="poison")
    good = [make_product(photo("blue")) for _ in range(4)]
    get_images = ProductIndex.get_images

    def failing(self: Any, product: Any) -> Any:
        if product.name == "poison":
            raise ZeroDivisionError("a bug in the shop")
        return get_images(self, product)

    monkeypatch.setattr(ProductIndex, "get_images", failing)
    for _ in range(8):
        indexing.index_pending()
        make_due()

    assert {entry(product).status for product in good} == {"indexed"}
    found = entry(poison)
    assert (found.status, found.error_code) == ("failed", "error")
    assert "ZeroDivisionError: a bug in the shop" in found.error


def test_index_pending__what_takes_whole_workers_along_waits_ever_longer_and_is_set_aside_at_last(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody lives to tell why: twenty of them, over more than an hour, are taken for its fault."""
    poison = make_product(photo("red"))
    good = [make_product(photo("blue")) for _ in range(9)]
    embed = indexing.embed_products

    def killed(product_ids: Any, **options: Any) -> Any:
        if poison.pk in product_ids:
            raise SystemExit  # no handler may run, as after kill -9
        return embed(product_ids, **options)

    monkeypatch.setattr(indexing, "embed_products", killed)
    deaths, waits = 0, []
    for _ in range(40):
        try:
            indexing.index_pending()
        except SystemExit:
            deaths += 1
            waits.append((entry(poison).available_at - timezone.now()).total_seconds())
        IndexEntry.objects.filter(lease__isnull=False).update(
            leased_until=timezone.now() - timedelta(seconds=1), available_at=timezone.now()
        )

    assert {entry(product).status for product in good} == {"indexed"}
    assert (entry(poison).status, entry(poison).error_code) == ("failed", "crashed")
    assert deaths == claiming.MOST_SILENT_ATTEMPTS, "once in the batch, then alone"
    assert max(waits[: claiming.SILENT_ATTEMPTS]) <= 0
    assert waits[claiming.SILENT_ATTEMPTS] > 0
    assert sum(waits) > 3600


def test_index_pending__a_decoder_that_was_ended_is_held_against_the_photo_the_third_time(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine short of memory ends decoders as well, and a slow one makes them late."""
    suspect = make_product(photo("red"), photo("green"))
    good = make_product(photo("blue"))
    innocent = make_product(photo("yellow"))
    deadly, unlucky, decode = photo("red"), photo("yellow"), Decoder._decode

    def ended(self: Any, datas: Any, **options: Any) -> Any:
        nonlocal unlucky
        if deadly in datas or unlucky in datas:
            unlucky = b"" if list(datas) == [unlucky] else unlucky
            raise DecoderEndedError("The picture ended its decoder (SIGKILL).")
        return decode(self, datas, **options)

    monkeypatch.setattr(Decoder, "_decode", ended)
    attempts = 0
    while entry(suspect).status == "pending":
        assert not Embedding.objects.filter(product=suspect).exists(), "half of it"
        indexing.index_pending()
        make_due()
        attempts += 1

    assert attempts == 1 + get_settings().MAX_ATTEMPTS
    found = entry(suspect)
    assert (found.status, found.error_code) == ("failed", "image_decode")
    assert "SIGKILL" in found.error
    assert Embedding.objects.filter(product=suspect).count() == 1, "its other photo"
    assert {entry(good).status, entry(innocent).status} == {"indexed"}


def test_index_pending__an_edit_between_reading_and_writing_is_not_lost(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(photo("red"))
    write = storing.write

    def edit_then_write(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        product.images.get().original.save("other.png", ContentFile(photo("blue")))
        return write(*args, **options)

    monkeypatch.setattr(storing, "write", edit_then_write)
    # undo() also takes the counting encoder's setting back; both encode alike.
    indexing.index_pending()
    assert entry(product).status == "pending"
    IndexEntry.objects.update(available_at=timezone.now())
    indexing.index_pending()

    row = Embedding.objects.get(product=product)
    pixels = encoding.decoder().decode(photo("blue"), size=32)
    assert np.allclose(row.vector, FakeEncoder().encode_image(pixels[None])[0], atol=1e-3)
    assert entry(product).status == "indexed"
    assert row.version == entry(product).version


def test_write__a_worker_that_lost_its_lease_cannot_write_over_newer_work(
    live: Checkpoint,
) -> None:
    product = make_product(photo("red"))
    old = entry(product).version
    Product.objects.filter(pk=product.pk).update(name="Newer")
    indexing.index_pending()
    before = snapshot()
    stale = storing.Change(
        product_id=product.pk,
        version=old,
        positions=[1],
        rows=[
            storing.Row(position=1, image="old.png", content_hash=b"0" * 16, vector=np.ones(64) / 8)
        ],
    )

    storing.write(live, [stale], lease=uuid.uuid4())
    storing.remove({product.pk: old}, lease=uuid.uuid4())

    assert snapshot() == before


def test_write__a_product_deleted_meanwhile_is_left_out(live: Checkpoint) -> None:
    change = storing.Change(
        product_id=987_654_321,
        version=1,
        positions=[0],
        rows=[
            storing.Row(position=0, image="a.png", content_hash=b"0" * 16, vector=np.ones(64) / 8)
        ],
    )

    assert storing.write(live, [change]) == set()
    assert not Embedding.objects.exists()


def test_index_pending__a_thousand_edits_are_one_embedding(
    live: Checkpoint, encoder: type[CountingEncoder]
) -> None:
    product = make_product(photo("red"))
    for number in range(1000):
        Product.objects.filter(pk=product.pk).update(name=f"Edit {number}")

    assert indexing.index_pending().indexed == 1
    assert encoder.images == 1


def test_index_pending__stops_when_its_time_is_up_and_says_so(
    live: Checkpoint, settings: Any
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"BATCH_SIZE": 2}
    make_products(5)

    counts = indexing.index_pending(limit_seconds=0)

    assert (counts.indexed, counts.is_complete) == (2, False)
    assert indexing.index_pending().indexed == 3


def test_index_pending__asked_to_end_it_finishes_the_batch_and_leaves_the_rest(
    live: Checkpoint, settings: Any
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"BATCH_SIZE": 2}
    make_products(5)
    counts = indexing.index_pending(is_asked_to_end=lambda: True)
    assert (counts.indexed, counts.is_complete) == (2, False)
    assert IndexEntry.objects.filter(lease__isnull=False).count() == 0
    assert indexing.index_pending().indexed == 3


def test_asked_to_end__hears_the_signal_only_where_there_is_a_handler() -> None:
    with shutting_down.asked_to_end() as is_asked:
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL, "as it was: it would be deadly"
        assert not is_asked()
    signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        with shutting_down.asked_to_end() as is_asked:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert is_asked()
        with shutting_down.asked_to_end() as is_asked:
            assert not is_asked(), "another call"
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def test_index_pending__the_number_of_queries_does_not_grow_with_the_batch(
    live: Checkpoint,
) -> None:
    def queries(count: int, run: Callable[[], Any]) -> int:
        make_products(count, photos=2)
        with CaptureQueriesContext(connection) as captured:
            run()
        # Whether others use the database is asked by the clock.
        return sum("pg_stat_activity" not in each["sql"] for each in captured)

    few = queries(3, indexing.index_pending)
    many = queries(40, indexing.index_pending)

    assert few == many


def test_embed_products__is_idempotent(live: Checkpoint, encoder: type[CountingEncoder]) -> None:
    product_ids = [p.pk for p in make_products(4, photos=2)]
    indexing.embed_products(product_ids, checkpoints=[live])
    before, shown = snapshot(), encoder.images

    report = indexing.embed_products(list(reversed(product_ids)), checkpoints=[live])

    assert (report.embedded, report.changed) == (0, set())
    assert snapshot() == before
    assert encoder.images == shown == 8


def test_embed_checkpoint__goes_on_where_it_was_interrupted(
    settings: Any, encoder: type[CountingEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "BACKFILL_SECONDS", 0)  # no batch is quicker than that
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"BATCH_SIZE": 1}  # 4 products at a time
    make_products(10, photos=2)
    checkpoint = fake_checkpoint(live=False)

    def stop(done: int, total: int) -> None:
        assert total == 10
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        indexing.embed_checkpoint(checkpoint, progress=stop)
    assert encoder.images == 16

    seen: list[tuple[int, int]] = []
    done = indexing.embed_checkpoint(checkpoint, progress=lambda *args: seen.append(args))

    assert (done, seen) == (2, [(2, 2)])
    assert encoder.images == 20
    assert Embedding.objects.filter(checkpoint=checkpoint).count() == 20
    assert indexing.embed_checkpoint(checkpoint) == 0


def test_embed_checkpoint__writes_more_at_a_time_where_the_encoder_is_quick(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"BATCH_SIZE": 1}
    monkeypatch.setattr(indexing, "BACKFILL_SECONDS", 3600)
    monkeypatch.setattr(indexing, "BACKFILL_MOST", 10)
    make_products(30)
    seen: list[int] = []

    indexing.embed_checkpoint(
        fake_checkpoint(live=False), progress=lambda done, total: seen.append(done)
    )

    assert seen == [4, 12, 22, 30]


def test_write__a_row_that_another_worker_stored_first_is_no_fault(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when we looked, and is there when we write."""
    product = make_product(photo("red"))
    version = IndexEntry.objects.get(product=product).version
    random = np.random.default_rng(0).normal(size=(2, live.width)).astype(np.float32)
    first, second = random / np.linalg.norm(random, axis=1, keepdims=True)

    def change(vector: Any) -> storing.Change:
        row = storing.Row(position=0, image="a.png", content_hash=b"0" * 16, vector=vector)
        return storing.Change(product_id=product.pk, version=version, rows=[row], positions=[0])

    storing.write(live, [change(first)])
    lock, calls = storing._lock_products, []

    def blind(*args: Any, **options: Any) -> Any:
        free, busy, there = lock(*args, **options)
        calls.append(there)
        return free, busy, set() if len(calls) == 1 else there

    monkeypatch.setattr(storing, "_lock_products", blind)

    assert storing.write(live, [change(second)]) == set()

    stored = storing.vectors(live, [product.pk])[product.pk, b"0" * 16]
    assert len(calls) == 2
    assert np.dot(stored, second) > 0.99


def test_embed_checkpoint__closes_the_entries_when_it_is_the_only_one() -> None:
    good, bad = make_product(photo("red")), make_product(BROKEN)
    checkpoint = fake_checkpoint(live=False)

    indexing.embed_checkpoint(checkpoint)

    assert entry(good).status == "indexed"
    assert (entry(bad).status, entry(bad).error_code[:6]) == ("failed", "image_")


def test_embed_checkpoint__leaves_open_what_the_live_one_still_lacks(live: Checkpoint) -> None:
    product = make_product(photo("red"))
    beside = fake_checkpoint(live=False)

    indexing.embed_checkpoint(beside)

    assert entry(product).status == "pending"
    indexing.index_pending()
    assert Embedding.objects.filter(product=product).count() == 2


def test_reopen_stale__opens_what_a_retired_checkpoint_missed() -> None:
    first = fake_checkpoint()
    kept, edited = make_product(photo("red")), make_product(photo("blue"))
    indexing.index_pending()
    fake_checkpoint()  # takes the place of the first, which gets no edits from now on
    edited.images.get().original.save("other.png", ContentFile(photo("green")))
    new = make_product(photo("yellow"))
    IndexEntry.objects.update(status="indexed")

    assert indexing.reopen_stale(first) == 2

    open_ids = set(IndexEntry.objects.filter(status="pending").values_list("pk", flat=True))
    assert open_ids == {edited.pk, new.pk}
    assert entry(kept).status == "indexed"


@pytest.mark.django_db(transaction=True)
def test_reopen__waits_for_no_editor(live: Checkpoint, in_transaction: Any) -> None:
    edited, other = make_product(photo("red")), make_product(photo("blue"))
    indexing.index_pending()

    with in_transaction(lambda: Product.objects.filter(pk=edited.pk).update(name="Saved")):
        assert IndexEntry.objects.all().reopen() == 1
        assert entry(other).status == "pending"

    assert entry(edited).status == "pending", "its own trigger opened it"


def test_sweep__finds_and_repairs_what_no_trigger_saw(live: Checkpoint) -> None:
    whole, lost, replaced = (make_product(photo(c)) for c in ("red", "blue", "green"))
    indexing.index_pending()
    Embedding.objects.filter(product=lost).delete()
    name = replaced.images.get().original.name
    storage = replaced.images.get().original.storage
    storage.delete(name)
    storage.save(name, ContentFile(photo("yellow")))
    before = bytes(Embedding.objects.get(product=replaced).content_hash)
    IndexEntry.objects.filter(product=whole).delete()

    found = sweeping.sweep(rehash=True)
    indexing.index_pending()

    assert (found["unknown"], found["missing"], found["replaced"]) == (1, 1, 1)
    assert positions(lost) == [0]
    assert bytes(Embedding.objects.get(product=replaced).content_hash) != before
    assert not IndexEntry.objects.exclude(status="indexed").exists()
    again = sweeping.sweep(rehash=True)
    assert set(again.values()) == {0}


def test_sweep__deletes_what_has_left_the_index_without_an_edit(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shop.visual_indexes import ProductIndex

    products = [make_product(photo(colour)) for colour in ("red", "blue", "green")]
    indexing.index_pending()
    monkeypatch.setattr(
        ProductIndex, "get_queryset", lambda self: Product.objects.exclude(pk=products[0].pk)
    )

    assert sweeping.sweep()["orphaned"] == 1
    assert positions(products[0]) == []
    assert not SimilarProduct.objects.filter(target=products[0]).exists()

    monkeypatch.setattr(ProductIndex, "get_queryset", lambda self: Product.objects.none())
    assert sweeping.sweep()["orphaned"] == 2
