"""The evaluation table, with encoders whose figures are known beforehand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pytest

from tests.ml.catalogues import COLOURS, KINDS, coloured_shapes
from visualsearch.ml import modifications, queries
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Catalogue
from visualsearch.ml.evaluate import evaluate


class Oracle:
    """Knows kind and colour of every photo; reads both from texts; composes by overwriting."""

    width = len(KINDS) + len(COLOURS)

    def __init__(self, catalogue: Catalogue) -> None:
        self.rows = {
            catalogue.pixels[row].tobytes(): self._vector(item.texts[0])
            for item in catalogue.items
            for row in item.images
        }

    def _vector(self, text: str) -> np.ndarray:
        # Of "in red instead of blue" only what comes first is wanted.
        text = text.lower().partition(" instead")[0]
        return np.array([float(word.lower() in text) for word in [*KINDS, *COLOURS]])

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        # It has never seen a wild photo, and guesses red.
        unknown = self._vector("red")
        return self._unit(np.stack([self.rows.get(image.tobytes(), unknown) for image in pixels]))

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return self._unit(np.stack([self._vector(text) for text in texts]))

    def compose(self, image_vectors: np.ndarray, text_vectors: np.ndarray) -> np.ndarray:
        kinds = len(KINDS)
        joined = np.concatenate([image_vectors[:, :kinds], text_vectors[:, kinds:]], axis=1)
        return self._unit(joined)

    @staticmethod
    def _unit(vectors: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(norms, 1e-9)).astype(np.float32)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return coloured_shapes(designs=1, photos=2)


def test_evaluate__an_oracle_scores_full_marks_where_it_can(catalogue: Catalogue) -> None:
    report = evaluate(Oracle(catalogue), catalogue)
    assert report.gallery == 16
    for k in (1, 5, 10):
        assert report.value("text", f"title R@{k}") == 1.0
    assert report.value("text", "title MRR") == 1.0
    assert report.value("text", "attributes MRR") == 1.0
    assert report.value("composed", "colour R@1", "composed") == 1.0
    # "in red" names no kind: one of four red products is right, and ties count against.
    assert report.value("composed", "colour R@1", "text-only") == 0.0
    # The three other products of a kind tie: none is first for certain.
    assert report.value("composed", "colour R@1", "image-only") == 0.0
    assert report.value("composed", "colour R@10", "image-only") == 1.0
    # Three others of its kind among ten.
    assert report.value("similar", "kind P@10") == pytest.approx(0.3)
    assert report.value("similar", "same group recall@10") == 1.0


def test_evaluate__baselines_answer_similar_and_not_text(catalogue: Catalogue) -> None:
    report = evaluate(Oracle(catalogue), catalogue)
    assert report.value("similar", "colour P@10", "colour histogram") >= 0.25
    assert report.value("similar", "same group recall@10", "raw pixels") > 0.5
    with pytest.raises(KeyError):
        report.value("text", "title R@1", "raw pixels")
    title = next(line for line in report.table().splitlines() if line.startswith("title R@1"))
    assert title.count("–") == 2


def test_report__is_json_and_names_the_gallery(catalogue: Catalogue) -> None:
    report = evaluate(Oracle(catalogue), catalogue)
    content = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert content["gallery"] == 16
    assert {line["section"] for line in content["lines"]} == {"similar", "text", "composed", "wild"}
    assert all(line["low"] <= line["value"] <= line["high"] for line in content["lines"])
    assert "gallery: 16 products" in report.table()


def test_evaluate__a_catalogue_without_texts_groups_and_attributes(catalogue: Catalogue) -> None:
    bare = [
        type(item)(id=item.id, images=item.images, label=item.label) for item in catalogue.items
    ]
    report = evaluate(Oracle(catalogue), Catalogue(bare, catalogue.pixels))
    assert {line.section for line in report.lines} == {"similar", "wild", "text"}
    # Kinds have names, so they can be asked for.
    asked = {line.metric.rpartition(" ")[0] for line in report.lines if line.section == "text"}
    assert asked == {"kind query", "kind query median"}


def test_evaluate__a_rare_value_costs_the_catalogue_and_not_the_encoder() -> None:
    shapes = coloured_shapes(designs=3)  # twelve products of each kind
    rare = [item for item in shapes.items if item.label == shapes.items[0].label]
    kept = Catalogue([item for item in shapes.items if item not in rare[3:]], shapes.pixels)
    report = evaluate(Oracle(kept), kept)
    everything = (3 / 10 + (len(KINDS) - 1)) / len(KINDS)
    assert report.value("text", "kind query P@10") == pytest.approx(everything)
    assert report.value("text", "kind query P@10 of ten or more") == 1.0
    counts = {line.metric: line.estimate.queries for line in report.lines}
    assert counts["kind query P@10 of ten or more"] == counts["kind query P@10"] - 1


def test_evaluate__where_no_value_has_ten_products_nothing_is_said(catalogue: Catalogue) -> None:
    report = evaluate(Oracle(catalogue), catalogue)
    assert "kind query P@10" in {line.metric for line in report.lines}
    assert not any(line.metric.endswith("ten or more") for line in report.lines)


def test_evaluate__a_query_is_no_right_answer_to_itself() -> None:
    # One product of each kind, fewer than ten: the query itself fills the last place.
    shapes = coloured_shapes(designs=1)
    alone = shapes.subset([0, 5, 10, 15])
    report = evaluate(Oracle(alone), alone)
    assert report.value("similar", "kind P@10") == 0.0


def test_full_text_queries__a_product_without_the_attribute_asks_for_none() -> None:
    shapes = coloured_shapes(designs=1)
    items = [
        dataclasses.replace(item, texts=("Shape", "The same for all."), attributes=attributes)
        for item, attributes in zip(shapes.items[:2], [{"colour": "Red"}, {}], strict=True)
    ]
    coded = CodedCatalogue(Catalogue(items, shapes.pixels))
    asked = queries.full_text_queries(coded, "colour", limit=10, seed=0)
    right = dict(zip(asked.texts, asked.right(coded).tolist(), strict=True))
    assert right == {
        "red Shape The same for all.": [True, False],
        "Shape The same for all.": [True, True],
    }


def test_variant_queries__never_count_the_reference_as_right(catalogue: Catalogue) -> None:
    coded = CodedCatalogue(catalogue)
    asked = modifications.variant_queries(coded, "colour", limit=500, seed=0)
    assert len(asked.texts) == 16 * 3
    assert asked.texts[0].startswith("in ")
    right = asked.right(coded)
    assert not right[np.arange(len(asked)), asked.references].any()
    assert (right.sum(axis=1) == 1).all()


def test_title_queries__every_product_of_the_title_is_right() -> None:
    coded = CodedCatalogue(coloured_shapes(designs=3))
    asked = queries.title_queries(coded, limit=100, seed=0)
    assert len(asked) == 16
    assert (asked.right(coded).sum(axis=1) == 3).all()
