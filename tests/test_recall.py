"""Recall of the HNSW index by kind of query: measured, chosen for, kept, used, and warned about."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from django.db import connection

from shop.models import Product
from tests.test_nearest import embed, make_products, unit
from visualsearch import tasks
from visualsearch.exceptions import QueryError
from visualsearch.health import doctor
from visualsearch.lifecycle import recall
from visualsearch.models import Checkpoint, WordSearch
from visualsearch.search import nearest
from visualsearch.search.nearest import Kind
from visualsearch.tables import partitions
from visualsearch.testing import COLOURS, FakeEncoder, fake_checkpoint
from visualsearch.upkeep import gallery as galleries

pytestmark = pytest.mark.django_db

PRODUCTS = 1500


@pytest.fixture
def live(settings: Any) -> Checkpoint:
    """1,500 products whose names have colours, with an HNSW index that searches have to use."""
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"EXACT_THRESHOLD": 100}
    checkpoint = fake_checkpoint(name="v1", folder="v1")
    random = np.random.default_rng(5)
    names = list(COLOURS)
    products = make_products(
        PRODUCTS, name=lambda n: f"{names[n % 14]} thing {n}", colour=lambda n: names[n % 14]
    )
    embed(checkpoint, products, unit(random.normal(size=(PRODUCTS, checkpoint.width))))
    partitions.build_ann_index(checkpoint)
    return checkpoint


def test_probe__measures_each_kind_and_keeps_what_it_chose(live: Checkpoint) -> None:
    found = recall.probe(live, queries=40)

    assert set(found["kinds"]) == {"image", "text", "composed"}
    for figure in found["kinds"].values():
        assert figure["recall"] >= recall.GOAL
        assert figure["ef_search"] in recall.LADDER
        assert figure["queries"] == 40
    assert found["embeddings"] == PRODUCTS
    assert Checkpoint.objects.get().recall == found


def test_probe__asks_what_was_searched_for_beside_titles(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (
        "summer frock",
        "summer frock",
        "something blue",
        *(f"odd {n}" for n in range(9)),
    ):
        WordSearch.objects.create(words=words, query_id="q", hits=1)
    encoded: list[list[str]] = []

    def noted(encoder: FakeEncoder, texts: Any) -> Any:
        encoded.append(list(texts))
        return encode_text(encoder, texts)

    encode_text = FakeEncoder.encode_text
    monkeypatch.setattr(FakeEncoder, "encode_text", noted)

    found = recall.probe(live, queries=20)

    texts = encoded[0]
    assert (len(texts), found["kinds"]["text"]["queries"]) == (20, 20)
    assert texts[:10] == [*(f"odd {n}" for n in reversed(range(9))), "something blue"]
    assert all("thing" in text for text in texts[10:]), "the others are titles"


def test_recall__is_the_share_of_the_true_neighbours_that_a_search_finds(live: Checkpoint) -> None:
    """Counted here by hand, for an index that is poorly built."""
    name = partitions.index_name(live)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX {name}")
        cursor.execute(
            f"CREATE INDEX {name} ON {partitions.partition_name(live)} USING hnsw "
            f"((vector::halfvec({live.width})) halfvec_ip_ops) WITH (m = 2, ef_construction = 4)"
        )
    gallery = galleries.load(live)
    sources = list(range(30))
    vectors = FakeEncoder().encode_text([f"odd words {n}" for n in sources])
    scores = vectors.astype(np.float16).astype(np.float32) @ gallery.vectors.astype(np.float32).T
    right = 0
    for row, vector in zip(scores, vectors, strict=True):
        best = {gallery.product_ids[n] for n in np.argsort(-row)[:10]}
        search = nearest.NearestProducts(
            checkpoint=live, vector=vector, kind=Kind.TEXT, allowed=Product.objects.all(), ef=200
        )
        right += len(best & {match.product_id for match in search.block(0).matches[:10]})

    share = recall.recall(
        live,
        Kind.TEXT,
        gallery=gallery,
        sources=sources,
        vectors=vectors,
        bars=recall._bars(gallery, vectors, None),
        ef=200,
    )

    assert share == pytest.approx(right / 300)
    assert share < 1, "the index finds everything: this test shows nothing"


def test_probe__takes_the_smallest_ef_search_that_reaches_the_goal(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = {
        100: 0.6,
        150: 0.7,
        200: 0.80,
        300: 0.97,
        400: 0.991,
        600: 0.995,
        800: 1.0,
        1000: 1.0,
    }
    asked: list[int] = []

    def measured(checkpoint: Checkpoint, kind: Kind, *, ef: int, **_: Any) -> float:
        asked.append(ef)
        return reached[ef] if kind is not Kind.TEXT else reached[ef] - 0.1

    monkeypatch.setattr(recall, "recall", measured)

    kinds = recall.probe(live, queries=5)["kinds"]

    assert kinds["image"] == {"ef_search": 600, "recall": 0.995, "queries": 5}
    assert asked[:6] == [100, 150, 200, 300, 400, 600]
    assert kinds["text"]["ef_search"] == 800, "the best there is, where none reaches the goal"


def test_ef_search__the_setting_then_the_probe_then_a_default(settings: Any) -> None:
    checkpoint = fake_checkpoint()
    assert [nearest.ef_search(checkpoint, kind) for kind in Kind] == [100, 400, 400]

    checkpoint.recall = {"kinds": {"text": {"ef_search": 600}, "image": {"ef_search": 300}}}
    assert [nearest.ef_search(checkpoint, kind) for kind in Kind] == [300, 600, 400]

    settings.VISUALSEARCH = settings.VISUALSEARCH | {"EF_SEARCH_TEXT": 800, "EF_SEARCH_IMAGE": 10}
    assert [nearest.ef_search(checkpoint, kind) for kind in Kind] == [50, 800, 800]


def test_search__asks_with_what_the_probe_chose(live: Checkpoint) -> None:
    live.recall = {"kinds": {"text": {"ef_search": 700}}}
    search = nearest.NearestProducts(
        checkpoint=live,
        vector=unit(np.ones(live.width)),
        kind=Kind.TEXT,
        allowed=Product.objects.all(),
    )
    heard: list[str] = []

    def listen(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if params and "hnsw.ef_search" in params:
            heard.append(params[list(params).index("hnsw.ef_search") + 1])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(listen):
        search.block(0)

    assert heard == ["700"]


def test_probe__measures_a_setting_instead_of_the_ladder(live: Checkpoint, settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"EF_SEARCH_TEXT": 500}

    kinds = recall.probe(live, queries=10)["kinds"]

    assert {kinds["text"]["ef_search"], kinds["composed"]["ef_search"]} == {500}


def test_probe__a_small_gallery_is_always_searched_exactly(settings: Any, live: Checkpoint) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"EXACT_THRESHOLD": PRODUCTS}

    found = recall.probe(live)

    assert found["kinds"] == {}
    assert "every search compares all vectors" in found["skipped"]["all"]
    assert {f.level for f in doctor.examine(ask_workers=False) if f.name == "index"} == {"ok"}


def test_probe__a_recipe_that_reads_no_text_is_measured_by_image_alone(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeEncoder, texts: Any) -> Any:
        raise QueryError("It reads no text.")

    monkeypatch.setattr(FakeEncoder, "encode_text", refuse)

    found = recall.probe(live, queries=10)

    assert set(found["kinds"]) == {"image"}
    assert found["skipped"] == {"text": "It reads no text.", "composed": "It reads no text."}


def test_several_photos__the_best_counts_in_the_exact_search_too(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"EXACT_THRESHOLD": 10}
    checkpoint = fake_checkpoint()
    random = np.random.default_rng(6)
    products = make_products(300)
    for position in range(3):
        vectors = unit(random.normal(size=(300, checkpoint.width)))
        embed(checkpoint, products, vectors, position)
    partitions.build_ann_index(checkpoint)

    kinds = recall.probe(checkpoint, queries=30)["kinds"]

    assert kinds["image"]["recall"] >= recall.GOAL


def test_nightly_probe__warns_below_the_least_and_doctor_rebuilds(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(recall, "recall", lambda *_, **__: 0.93)
        with caplog.at_level(logging.WARNING, logger="visualsearch.lifecycle.recall"):
            tasks.probe_recall()

    assert "find 0.930 of the nearest products by checkpoint v1" in caplog.text
    (finding,) = [f for f in doctor.examine(ask_workers=False) if f.name == "index"]
    assert finding.level == "warning"
    assert "text 0.930" in finding.message

    assert doctor.fix()["index rebuilt"] == 1

    (finding,) = [f for f in doctor.examine(ask_workers=False) if f.name == "index"]
    assert finding.level == "ok"
    assert doctor.fix()["index rebuilt"] == 0


def test_doctor__an_index_that_broke_off_is_built_again(live: Checkpoint) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
            [partitions.index_name(live)],
        )
    (finding,) = [f for f in doctor.examine(ask_workers=False) if f.name == "index"]
    assert finding.level == "error"

    doctor.fix()

    assert partitions.has_valid_index(live)
    (finding,) = [f for f in doctor.examine(ask_workers=False) if f.name == "index"]
    assert finding.level == "ok"


def test_doctor__says_when_postgres_would_not_read_the_index(
    live: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    recall.probe(live, queries=5)
    assert {f.level for f in doctor.examine(ask_workers=False) if f.name == "index"} == {"ok"}
    scan = nearest.NearestProducts._scan_settings
    monkeypatch.setattr(
        nearest.NearestProducts,
        "_scan_settings",
        lambda self: scan(self) | {"enable_indexscan": "off", "enable_sort": "on"},
    )

    found = [f for f in doctor.examine(ask_workers=False) if f.name == "index"]

    assert "does not read" in found[0].message
