"""The benchmark of many products learns from some of them first, and says what words find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command

from benchmarks import catalogue_100k, found_by_words, learned, small_catalogue, stack
from tests.training_catalogue import TINY
from visualsearch.lifecycle import evaluation
from visualsearch.lifecycle.verdict import Verdict
from visualsearch.ml.recipes import RECIPES
from visualsearch.models import Checkpoint, Embedding
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

pytestmark = pytest.mark.django_db(transaction=True)


class InThisProcess(stack.Stack):
    """Commands on the test's own database."""

    def manage(self, *arguments: str) -> None:
        call_command(*arguments)


@pytest.fixture
def shop(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> stack.Stack:
    settings.VISUALSEARCH = django_settings.VISUALSEARCH | {
        "CHECKPOINT_ROOT": tmp_path / "checkpoints",
        "ENCODER": "",
        "DEVICE": "cpu",
    }
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda bell: None)
    monkeypatch.setattr(catalogue_100k, "_alone", lambda encoder: 1.0)
    # So little teaches nothing yet, and the gate says so.
    passed = Verdict(promote=True, reason="For a test.")
    monkeypatch.setattr(evaluation, "judge", lambda *figures, **live: passed)
    return InThisProcess(environment={}, data=tmp_path)


def test_catalogue_100k__what_some_products_taught_indexes_them_all(
    shop: stack.Stack, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, figures = learned.learn(shop, recipe="tiny", products=96, epochs=2)

    assert (figures["products"], figures["epochs"]) == (96, 2)
    assert figures["seconds"]["training"] > 0
    assert {"encoder", "raw pixels"} <= set(figures["figures"]["similar"]["kind P@10"])
    assert not Checkpoint.objects.exists()

    small_catalogue.fill(120)
    first = catalogue_100k.first_index("tiny", files=files)

    live = Checkpoint.objects.get()
    assert (live.name, live.state) == (catalogue_100k.NAME, Checkpoint.State.LIVE)
    assert Embedding.objects.filter(checkpoint=live).count() == first["embedded"] == 120
    assert first["found_by_words"]["queries"] == 1, "only blue coats are ten"

    monkeypatch.setattr(InThisProcess, "manage", lambda *arguments: pytest.fail("trained again"))
    assert learned.learn(shop, recipe="tiny", products=96, epochs=2) == (files, figures)


def test_learn__refuses_a_catalogue_that_nothing_was_learned_from(
    shop: stack.Stack, data_folder: Path
) -> None:
    small_catalogue.fill(20)

    with pytest.raises(SystemExit, match="20 products are there"):
        learned.learn(shop, recipe="tiny", products=10, epochs=1)


def test_found_by_words__colours_that_the_encoder_reads(data_folder: Path) -> None:
    small_catalogue.fill(600)
    checkpoint = fake_checkpoint()
    indexing.embed_checkpoint(checkpoint)

    found = found_by_words.measure(checkpoint)

    assert found["queries"] > 0
    assert found["precision_at_10"]["colour"] > 2 * found["chance"]["colour"]
