"""The page of an evaluation: complete in one file, with the worst queries, and safe to open."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.ml import linear_encoders
from tests.ml.catalogues import coloured_shapes
from tests.ml.linear_encoders import LinearEncoder
from tests.ml.test_evaluate import Oracle
from visualsearch.exceptions import QueryError, TrainingError
from visualsearch.ml import plane, presentation, report_page
from visualsearch.ml.compare import changes
from visualsearch.ml.data import Catalogue
from visualsearch.ml.evaluate import evaluate


class Page(HTMLParser):
    """Tags that are left open, and where every picture comes from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.sources += [v for n in ("src", "href") if (v := found.get(n)) is not None]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [v for name, v in attrs if name == "href" and v is not None]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def held() -> Catalogue:
    return linear_encoders.shop(seed=2)


@pytest.fixture(scope="module")
def weak(held: Catalogue) -> LinearEncoder:
    return LinearEncoder(linear_encoders.shop(seed=1), examples=40)


@pytest.fixture
def no_sklearn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed; and it takes seconds to import."""
    monkeypatch.setattr(plane.importlib.util, "find_spec", lambda name: None)


@pytest.mark.usefixtures("no_sklearn")
def test_page__is_one_file_with_every_section_and_the_worst_queries(
    held: Catalogue, weak: LinearEncoder
) -> None:
    report = evaluate(weak, held)
    better = evaluate(LinearEncoder(linear_encoders.shop(copies=2, seed=1)), held)
    text = report_page.page(
        report, weak, held, title="v1", changes=changes(better, report), compared_with="v0"
    )
    page = Page(text)

    assert page.open == []
    assert page.sources and all(each.startswith("data:image/webp") for each in page.sources)
    assert "url(" not in text and "<script" not in text
    for section in {line.section for line in report.lines}:
        assert f'id="{section}"' in text
    assert "principal components (pip install scikit-learn" in text
    assert text.count("<line ") == text.count("<circle ") == 160
    assert "Against v0" in text
    # The worst title query is shown with the rank of its right answer.
    title = next(each for each in report.asked if each.name == "title")
    worst = int(np.argmax(title.found.ranks))
    assert f"<q>{title.texts[worst]}</q>" in text
    assert f"rank {title.found.ranks[worst]:.0f}<" in text


@pytest.mark.usefixtures("no_sklearn")
def test_page__what_the_catalogue_says_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    shapes = coloured_shapes(designs=1)
    items = [
        dataclasses.replace(item, label=evil + item.label, texts=(evil + item.texts[0],))
        for item in shapes.items
    ]
    catalogue = Catalogue(items, shapes.pixels)
    oracle = Oracle(catalogue)
    text = report_page.page(evaluate(oracle, catalogue), oracle, catalogue, title=evil)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_page__an_encoder_without_texts_has_no_joined_picture() -> None:
    class Mute(Oracle):
        def encode_text(self, texts: object) -> np.ndarray:
            raise QueryError("It reads no text.")

    catalogue = coloured_shapes(designs=1)
    mute = Mute(catalogue)
    report = evaluate(mute, catalogue)

    assert {line.section for line in report.lines} == {"similar", "wild"}
    assert "<svg" not in report_page.page(report, mute, catalogue, title="v1")


def test_lay_out__keeps_clusters_apart_by_either_method() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(4), 10, axis=0) + rng.normal(0, 0.02, (40, 4))
    # t-SNE where scikit-learn is installed, and what stands in for it.
    for points in (plane.lay_out(vectors)[0], plane._to_unit(plane._principal(vectors))):
        assert points.shape == (40, 2)
        assert points.min() == 0 and points.max() == 1
        centres = points.reshape(4, 10, 2).mean(axis=1)
        spread = np.abs(points.reshape(4, 10, 2) - centres[:, None]).max()
        assert spread < np.abs(centres[0] - centres[1]).max()


def test_lay_out__one_number_a_vector_still_gives_a_plane() -> None:
    points, _ = plane.lay_out(np.array([[1.0], [2.0], [np.nan]]))
    assert points.shape == (3, 2)


@pytest.mark.usefixtures("no_sklearn")
def test_write_html__of_two_shows_the_changes_from_the_first(
    held: Catalogue, weak: LinearEncoder, tmp_path: Path
) -> None:
    report = evaluate(weak, held, with_baselines=False)
    found = [
        presentation.Evaluated(name=name, report=report, encoder=weak, catalogue=held)
        for name in ("a", "b")
    ]
    presentation.write_html(tmp_path / "new" / "page.html", found)
    text = (tmp_path / "new" / "page.html").read_text()
    assert "Evaluation of b" in text and "Against a" in text

    figures = presentation.as_dict(found, comparison=True)
    assert set(figures) == {"a", "b", "comparison"}
    assert all(each["change"] == 0 for each in figures["comparison"]["changes"])
    (table,) = presentation.tables(found, comparison=True)
    assert re.search(r"title MRR +0\.\d+ +0\.\d+ +\+0\.000", table)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a"], ["a", "b", "c"]])
def test_check_comparison__takes_two(names: list[str]) -> None:
    with pytest.raises(TrainingError, match="two different checkpoints"):
        presentation.check_comparison(names)
