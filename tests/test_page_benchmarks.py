"""The benchmarks of the product page compare what they say, and take away what they say."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.template import Context
from django.template.engine import Engine

from benchmarks import page_alone, page_settings, page_weight
from tests.colour_catalogue import embed, product
from visualsearch.models import Checkpoint, Embedding, SimilarProduct
from visualsearch.testing import fake_checkpoint

WITH = '<section class="visual-similar"><ul></ul></section>'


def test_compare__medians_of_turns_and_whether_the_widget_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, asked = [True], []

    def ask(address: str) -> tuple[str, float]:
        asked.append((address, here[0]))
        return (WITH, 10.0) if here[0] else ("", 4.0)

    @contextlib.contextmanager
    def gone() -> Iterator[None]:
        here[0] = False
        yield
        here[0] = True

    def processor_ms(address: str) -> float:
        with_all = sum(there for _, there in asked)
        return 2.0 * with_all if here[0] else 1.0 * (len(asked) - with_all)

    monkeypatch.setattr(page_alone, "ask", ask)
    monkeypatch.setattr(page_alone, "processor_ms", processor_ms)
    found = page_alone.compare("a", "b", gone, times=3)

    assert (found["before_ms"], found["without_ms"], found["ratio"]) == (10.0, 4.0, 0.4)
    assert (found["before_web_cpu_ms"], found["without_web_cpu_ms"]) == (2.0, 1.0)
    assert found["web_cpu_ratio"] == 0.5 and found["widget"] is False
    assert {address for address, all_there in asked if all_there} == {"a"}
    assert {address for address, all_there in asked if not all_there} == {"b"}


@pytest.mark.django_db(transaction=True)
def test_gone__is_back_afterwards() -> None:
    checkpoint = fake_checkpoint()
    embed(checkpoint, product("red"))

    with page_alone.no_checkpoint():
        assert Checkpoint.objects.live() is None
    assert Checkpoint.objects.live() == checkpoint
    with page_alone.no_tables(), pytest.raises(Exception, match="does not exist"):
        SimilarProduct.objects.exists()
    assert Embedding.objects.count() == 1


def test_middle__is_the_median_of_each_figure() -> None:
    visits: list[dict[str, Any]] = [{"bytes": n, "first_paint_ms": None} for n in (1, 9, 2)]

    assert page_weight.middle(visits) == {"bytes": 2, "first_paint_ms": 0}


def test_page_without_the_widget__has_an_empty_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDGET", "0")
    try:
        dirs = importlib.reload(page_settings).TEMPLATES[0]["DIRS"]
    finally:
        page_settings.TEMPLATES[0].pop("DIRS", None)
    shown = Engine(dirs=[str(each) for each in dirs]).get_template(
        "visualsearch/similar_products.html"
    )

    assert shown.render(Context({"hits": [1]})).strip() == ""
