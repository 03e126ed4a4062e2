"""Published composed queries: read from a file, scored by design and value, macro-averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.ml.catalogues import coloured_shapes
from visualsearch.exceptions import TrainingError
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Catalogue, Item
from visualsearch.ml.evaluate import evaluate
from visualsearch.ml.triplet_queries import file_queries, read_triplets

HEADER = "ref_id,target_id,modification,ref_colour,target_colour,family\n"


def _file(folder: Path, rows: list[str], *, header: str = HEADER) -> Path:
    (folder / "triplets_colour.csv").write_text(header + "\n".join(rows) + "\n")
    return folder


def _rows(kind: str = "Bar") -> list[str]:
    colours = ("Red", "Green", "Blue", "Yellow")
    return [
        f"{kind}-0-{old},{kind}-0-{new},the same in {new.lower()},{old},{new},{kind}-code"
        for old in colours
        for new in colours
        if old != new
    ]


def test_file_queries__right_is_every_product_of_the_design_in_the_asked_value(
    tmp_path: Path,
) -> None:
    catalogue = coloured_shapes()
    twin = Item(id="Bar-twin", images=(0,), label="Bar", group="elsewhere")
    coded = CodedCatalogue(Catalogue([*catalogue.items, twin], catalogue.pixels))
    rows = [*_rows(), "Bar-0-Red,Bar-twin,the same in blue,Red,Blue,Bar-code"]
    triplets = read_triplets(_file(tmp_path, rows))
    asked = file_queries(coded, triplets, limit=100, seed=0)
    assert len(asked) == 12  # a reference and a sentence make one query
    ids = [item.id for item in coded.catalogue.items]
    found = {
        (ids[reference], text): {ids[i] for i in np.flatnonzero(right)}
        for reference, text, right in zip(
            asked.references, asked.texts, asked.right(coded), strict=True
        )
    }
    assert found["Bar-0-Red", "the same in blue"] == {"Bar-0-Blue", "Bar-twin"}
    assert found["Bar-0-Blue", "the same in red"] == {"Bar-0-Red"}
    assert set(asked.units) == {"Bar-code"}
    place = asked.keys.index("Bar-0-Red | the same in blue")
    assert (asked.before[place], asked.after[place]) == ("red bar", "blue bar")


def test_file_queries__without_design_only_the_target_is_right(tmp_path: Path) -> None:
    coded = CodedCatalogue(coloured_shapes())
    header = "candidate,target,caption\n"
    folder = _file(tmp_path, ["Bar-0-Red,Bar-0-Blue,is blue"], header=header)
    asked = file_queries(coded, read_triplets(folder), limit=9, seed=0)
    assert asked.texts == ["is blue"]
    right = [coded.catalogue.items[i].id for i in np.flatnonzero(asked.right(coded)[0])]
    assert right == ["Bar-0-Blue"]


def test_file_queries__products_that_are_not_in_the_catalogue_are_left_out(tmp_path: Path) -> None:
    coded = CodedCatalogue(coloured_shapes())
    rows = [*_rows(), *_rows("Unknown")]
    triplets = read_triplets(_file(tmp_path, rows))
    assert len(triplets) == 24
    assert len(file_queries(coded, triplets, limit=100, seed=0)) == 12
    assert len(file_queries(coded, triplets, limit=5, seed=0)) == 5
    places = [i for i, item in enumerate(coded.catalogue.items) if item.id == "Bar-0-Red"]
    assert len(file_queries(coded, triplets, limit=100, seed=0, among=places)) == 3


def test_read_triplets__no_file_is_no_queries_and_a_wrong_one_an_error(tmp_path: Path) -> None:
    assert read_triplets(tmp_path) == []
    _file(tmp_path, ["a,b"], header="ref_id,target_id\n")
    with pytest.raises(TrainingError, match="needs columns ref_id, target_id and modification"):
        read_triplets(tmp_path)


class Colours:
    """Answers by mean colour, and composes by what it is told."""

    width = 3

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        means = 255.0 - pixels.mean(axis=(1, 2))
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def encode_text(self, texts: list[str]) -> np.ndarray:
        shown = {"red": (0, 1, 1), "green": (1, 0, 1), "blue": (1, 1, 0), "yellow": (0, 0.1, 1)}
        rows = [next((v for k, v in shown.items() if k in text), (1, 1, 1)) for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def compose(self, image: np.ndarray, text: np.ndarray) -> np.ndarray:
        return text


def test_evaluate__has_lines_for_published_sentences(tmp_path: Path) -> None:
    triplets = read_triplets(_file(tmp_path, [*_rows("Bar"), *_rows("Ring")]))
    report = evaluate(Colours(), coloured_shapes(), with_baselines=False, published=triplets)
    metric = "published sentences R@10"
    assert report.value("composed", metric, "composed") == 1
    assert report.value("composed", metric, "image-only") < 1
    without = evaluate(Colours(), coloured_shapes(), with_baselines=False)
    with pytest.raises(KeyError):
        without.value("composed", metric, "composed")
