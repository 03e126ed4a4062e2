"""The tables of a checkpoint come and go without keeping shoppers or editors waiting."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from tests.catalogue import make_product, photo
from visualsearch.exceptions import TablesBusyError
from visualsearch.lifecycle import promotion
from visualsearch.models import Checkpoint, Embedding
from visualsearch.tables import partitions
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

pytestmark = pytest.mark.django_db(transaction=True)


def test_drop__gives_way_to_a_long_reader_and_leaves_the_table(
    monkeypatch: pytest.MonkeyPatch, in_transaction: Any
) -> None:
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 2)
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda _: None)
    old = fake_checkpoint(live=False, state=Checkpoint.State.REFUSED)

    with in_transaction(lambda: Embedding.objects.count()):
        with pytest.raises(TablesBusyError, match=f"DROP TABLE.*_c{old.pk}.*pg_stat_activity"):
            partitions.drop(old)
        assert partitions.exists(old)
        assert promotion.prune() == []

    partitions.drop(old)
    assert not partitions.exists(old)


@contextlib.contextmanager
def autovacuum_at_work(table: str) -> Iterator[Callable[[], bool]]:
    """An autovacuum of `table` that would take hours; whether it still goes on."""

    def set_server(what: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER SYSTEM {what}")
            cursor.execute("SELECT pg_reload_conf()")

    def goes_on() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum JOIN pg_stat_activity "
                "USING (pid) WHERE relid = %s::regclass AND backend_type = 'autovacuum worker')",
                [table],
            )
            return bool(cursor.fetchone()[0])

    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE {table} SET (autovacuum_vacuum_threshold = 0, "
            "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = -1, "
            "autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_cost_delay = 100)"
        )
        cursor.execute(f"UPDATE {table} SET version = version")
        cursor.execute("SELECT pg_stat_force_next_flush()")
    set_server("SET autovacuum_naptime = '1s'")
    try:
        deadline = time.monotonic() + 90
        while not goes_on():
            assert time.monotonic() < deadline, "no autovacuum came"
            time.sleep(0.02)
        yield goes_on
    finally:
        set_server("RESET autovacuum_naptime")


def filled(count: int) -> Checkpoint:
    """A checkpoint that is not live, with embeddings of so many products."""
    made = fake_checkpoint(live=False, state=Checkpoint.State.REFUSED)
    for seed in range(count):
        make_product(photo("red", seed=seed))
    indexing.embed_checkpoint(made)
    return made


def test_drop__an_autovacuum_of_the_table_gives_way_although_a_moment_does_not_move_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = filled(40)
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 3)

    with autovacuum_at_work(partitions.partition_name(old)) as goes_on:
        with monkeypatch.context() as context:
            context.setattr(partitions, "LONG_ATTEMPTS", 0)
            with pytest.raises(TablesBusyError):
                partitions.drop(old)
        assert goes_on(), "nobody who waits for a moment only is given way to"

        partitions.drop(old)

    assert not partitions.exists(old)


def test_drop__waits_no_longer_for_a_reader_than_a_moment(
    monkeypatch: pytest.MonkeyPatch, in_transaction: Any
) -> None:
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 3)
    old = fake_checkpoint(live=False, state=Checkpoint.State.REFUSED)
    waits: list[str] = []

    def listen(execute: Any, sql: str, *args: Any) -> Any:
        waits.extend(re.findall(r"SET LOCAL lock_timeout = '(\d+)ms'", sql))
        return execute(sql, *args)

    with (
        in_transaction(lambda: Embedding.objects.count()),
        connection.execute_wrapper(listen),
        pytest.raises(TablesBusyError),
    ):
        partitions.drop(old)

    assert waits == ["200"] * 3


def test_create__needs_no_lock_that_a_reader_has(
    monkeypatch: pytest.MonkeyPatch, in_transaction: Any
) -> None:
    monkeypatch.setattr(partitions, "LOCK_ATTEMPTS", 1)
    make_product(photo("red"))

    with in_transaction(lambda: Embedding.objects.count()):
        made = fake_checkpoint(live=False)

    assert partitions.exists(made)
    assert indexing.embed_checkpoint(made) == 1


def test_create__what_a_product_takes_along_when_it_is_deleted_in_sql() -> None:
    made = fake_checkpoint(live=False)
    product = make_product(photo("red"))
    indexing.embed_checkpoint(made)

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM shop_productimage")
        cursor.execute("DELETE FROM shop_product WHERE id = %s", [product.pk])

    assert not Embedding.objects.exists()


def test_build_ann_index__one_whose_build_broke_off_is_built_again() -> None:
    made = fake_checkpoint(live=False)
    name = f"{partitions.partition_name(made)}_hnsw"
    partitions.build_ann_index(made)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name]
        )

    partitions.build_ann_index(made)

    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [name])
        assert cursor.fetchone() == (True,)


def options(checkpoint: Checkpoint) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reloptions FROM pg_class WHERE oid = to_regclass(%s)",
            [partitions.index_name(checkpoint)],
        )
        return set(cursor.fetchone()[0])


def test_build_ann_index__with_more_care_once_the_catalogue_has_grown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = fake_checkpoint()
    for seed in range(3):
        make_product(photo("red", seed=seed))
    indexing.embed_checkpoint(made)
    partitions.build_ann_index(made)
    assert options(made) == {"m=16", "ef_construction=128"}
    assert not partitions.is_built_for_fewer(made)

    monkeypatch.setattr(partitions, "CAREFUL_FROM", 2)
    assert partitions.is_built_for_fewer(made)

    partitions.rebuild_ann_index(made)
    assert options(made) == {"m=32", "ef_construction=256"}
    assert partitions.has_valid_index(made)
    assert not partitions.is_built_for_fewer(made)


def test_build_ann_index__as_the_settings_say(settings: Any) -> None:
    made = fake_checkpoint()
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"HNSW_M": 40, "HNSW_EF_CONSTRUCTION": 50}

    partitions.build_ann_index(made)

    assert options(made) == {"m=40", "ef_construction=80"}, "pgvector takes no less than 2 m"


def test_build_ann_index__takes_the_memory_that_the_graph_needs_up_to_the_setting(
    settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_checkpoint()
    heard: list[str] = []

    def listen(execute: Any, sql: str, *args: Any) -> Any:
        heard.extend([sql] if "maintenance_work_mem" in sql else [])
        return execute(sql, *args)

    with connection.execute_wrapper(listen):
        partitions.build_ann_index(made)
        monkeypatch.setattr(partitions, "LEAST_MEMORY", 3 * 1024**2)
        settings.VISUALSEARCH = settings.VISUALSEARCH | {"HNSW_BUILD_MEMORY_BYTES": 2 * 1024**2}
        partitions.rebuild_ann_index(made)

    assert [each.partition("= ")[2] for each in heard if each.startswith("SET")] == [
        "'65536kB'",
        "'2048kB'",
    ]
    assert "wants 3 MB to be built fast and gets 2" in caplog.text
    assert partitions.Care(16, 128).memory(500_000, 256) > 512 * 1024**2
