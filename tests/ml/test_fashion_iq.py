"""Fashion-IQ's files as they are: read, drawn, trained on and scored by the published protocol."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ml.catalogues import COLOURS, KINDS, draw
from visualsearch.exceptions import NotEnoughDataError, TrainingError
from visualsearch.ml.__main__ import main
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import split
from visualsearch.ml.fashion_iq import load_fashion_iq
from visualsearch.ml.fashion_iq_protocol import evaluate_fashion_iq
from visualsearch.ml.sentence_triplets import triplet_sentence_batches

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "fashion_iq_captions.zip"
SIZE = 32


def _draw(path: Path, name: str, number: int) -> None:
    colour = list(COLOURS.values())[number % 4]
    image = draw(KINDS[number // 4 % 4], colour, size=SIZE, rng=np.random.default_rng(number))
    Image.fromarray(image).save(path / name)


def _write(root: Path, *, category: str = "dress", products: int = 16) -> Path:
    """A data set of the published format: every product is asked for in the next one's colour."""
    for folder in ("captions", "image_splits", "images"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    colours = [name.lower() for name in COLOURS]
    for part, first in (("train", 0), ("val", 100)):
        names = [f"B{first + number:05}" for number in range(products)]
        for number, name in enumerate(names):
            suffix = ".jpg" if number % 2 else ".png"
            _draw(root / "images", name + suffix, number)
        rows = []
        for number, name in enumerate(names):
            target = number - number % 4 + (number + 1) % 4
            asked = colours[target % 4]
            captions = [f"is {asked}.", f"has a {asked} colour "]
            rows.append({"candidate": name, "target": names[target], "captions": captions})
        (root / "captions" / f"cap.{category}.{part}.json").write_text(json.dumps(rows))
        listing = [*names, "B99999"]
        (root / "image_splits" / f"split.{category}.{part}.json").write_text(json.dumps(listing))
    return root


class Answers:
    """Encodes a photo as its drawn colour and kind do not: as its place in what it was given."""

    width = 64

    def __init__(self, right: bool) -> None:
        self.right = right

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        return np.eye(len(pixels), self.width, dtype=np.float32)

    def encode_text(self, texts: list[str]) -> np.ndarray:
        self.texts = texts
        return np.zeros((len(texts), self.width), np.float32) + self.width**-0.5

    def compose(self, image: np.ndarray, text: np.ndarray) -> np.ndarray:
        places = image.argmax(axis=1)
        targets = places - places % 4 + (places + 1) % 4 if self.right else places
        return np.eye(self.width, dtype=np.float32)[targets]


def test_load__counts_what_has_images_and_keeps_the_published_split(tmp_path: Path) -> None:
    root = _write(tmp_path)
    (root / "images" / "B00003.jpg").unlink()  # asked for by one, asks for another
    (root / "images" / "B00104.png").write_bytes(b"no image")
    data = load_fashion_iq(root, size=SIZE)
    train, val = data.parts["dress", "train"], data.parts["dress", "val"]
    assert (len(train.triplets), train.annotated) == (14, 16)
    assert (len(val.triplets), len(val.gallery), val.listed) == (14, 15, 17)
    assert len(data.unreadable) == 1 and "B00104.png" in data.unreadable[0]
    assert "14 of 16 triplets and 15 of 17 products" in data.summary()
    assert len(data.catalogue.triplets) == 14
    parts = split(data.catalogue)
    assert {item.id for item in parts.holdout.items} == {
        f"B{100 + n:05}" for n in range(16) if n != 4
    }
    # Places are those of the smaller catalogue.
    first = parts.train.triplets[0]
    assert parts.train.items[first.reference].id == "B00000"
    assert parts.train.items[first.target].id == "B00001"
    assert first.sentences == ("is green", "has a green colour")


def test_load__reads_a_zip_and_images_from_elsewhere(tmp_path: Path) -> None:
    root = _write(tmp_path / "data")
    archive = tmp_path / "captions.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in root.rglob("*.json"):
            file.write(path, Path("fashion-iq-main") / path.relative_to(root))
    data = load_fashion_iq(archive, images=root / "images", size=SIZE)
    assert len(data.catalogue.triplets) == 16
    with pytest.raises(NotEnoughDataError, match="--images"):
        load_fashion_iq(archive, size=SIZE)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "is not JSON"),
        ("{}", "is not a list"),
        ('[{"candidate": "a"}]', "entry 0: candidate, target and captions"),
        ('[{"candidate": 1, "target": "b", "captions": []}]', "names of images"),
    ],
)
def test_load__files_of_another_format_are_named(tmp_path: Path, content: str, match: str) -> None:
    root = _write(tmp_path)
    (root / "captions" / "cap.dress.val.json").write_text(content)
    with pytest.raises(TrainingError, match=match):
        load_fashion_iq(root, size=SIZE)


def test_load__a_folder_without_annotations_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="dress,shirt,toptee"):
        load_fashion_iq(tmp_path, size=SIZE)


def test_protocol__composed_beside_single_modes_over_both_galleries(tmp_path: Path) -> None:
    root = _write(tmp_path, products=16)
    listing = root / "image_splits" / "split.dress.val.json"
    extra = [f"B{200 + number:05}" for number in range(40)]
    for number, name in enumerate(extra):
        _draw(root / "images", f"{name}.png", number)
    listing.write_text(json.dumps([*json.loads(listing.read_text()), *extra]))
    data = load_fashion_iq(root, size=SIZE)
    encoder = Answers(right=True)
    report = evaluate_fashion_iq(encoder, data)
    assert encoder.texts[0] == "is green and has a green colour"
    assert report.gallery == 56
    for protocol in ("original", "val"):
        section = f"Fashion-IQ ({protocol})"
        assert report.value(section, "dress R@10", "composed") == 1
        assert report.value(section, "average mean of R@10 and R@50", "composed") == 1
        # Every other photo ties with the target; the reference itself is in the gallery.
        assert report.value(section, "dress R@10", "image-only") == 0
    assert report.value("Fashion-IQ (val)", "dress R@50", "image-only") == 1
    assert report.value("Fashion-IQ (original)", "dress R@50", "image-only") == 0
    wrong = evaluate_fashion_iq(Answers(right=False), data)
    assert wrong.value("Fashion-IQ (original)", "dress R@50", "composed") == 0


def test_protocol__the_average_weighs_categories_not_queries(tmp_path: Path) -> None:
    _write(tmp_path, category="dress", products=16)
    data = load_fashion_iq(_write(tmp_path, category="shirt", products=4), size=SIZE)
    report = evaluate_fashion_iq(Answers(right=True), data)
    section = "Fashion-IQ (val)"
    dress, shirt = (
        report.value(section, f"{name} R@10", "image-only") for name in ("dress", "shirt")
    )
    assert (dress, shirt) == (0, 1)
    assert report.value(section, "average R@10", "image-only") == 0.5


def test_batches__every_triplet_once_and_no_target_twice_in_a_batch(tmp_path: Path) -> None:
    coded = CodedCatalogue(load_fashion_iq(_write(tmp_path), size=SIZE).catalogue)
    stream = triplet_sentence_batches(coded, size=8, rng=np.random.default_rng(0))
    asked: list[tuple[int, int]] = []
    sentences: set[str] = set()
    while len(asked) < 16:
        batch = next(stream)
        assert len(batch.products) <= 8
        assert len(set(batch.targets.tolist())) == len(batch.targets)
        pairs = zip(batch.products[batch.references], batch.products[batch.targets], strict=True)
        asked += [(int(a), int(b)) for a, b in pairs]
        sentences |= set(batch.modifications)
        # The reference is a wrong answer like all others, only the target is right.
        assert batch.target_right.sum() == len(batch.targets)
        assert not batch.target_right[np.arange(len(batch.targets)), batch.references].any()
    triplets = {(each.reference, each.target) for each in coded.catalogue.triplets}
    assert set(asked[:16]) == triplets
    assert {"is green and has a green colour", "has a green colour and is green"} & sentences


def test_train_and_evaluate__by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _write(tmp_path / "data")
    out = tmp_path / "checkpoint"
    small = ["trunk=resnet10", "weights=none", f"image_size={SIZE}", "width=32", "token_width=16"]
    small += ["text_hidden=16", "trunk_lr=1", "lr=0.05"]
    train = ["train", "--recipe", "tirg", "--fashion-iq", str(root), "--out", str(out)]
    train += ["--epochs", "2", *(part for each in small for part in ("--set", each))]
    assert main(train) == 0
    assert "Fashion-IQ (original)" in capsys.readouterr().out
    figures = tmp_path / "figures.json"
    evaluate = ["evaluate", "--fashion-iq", str(root), "--checkpoint", str(out)]
    assert main([*evaluate, "--json", str(figures)]) == 0
    assert "dress val: 16 of 16 triplets" in capsys.readouterr().out
    lines = json.loads(figures.read_text())[str(out)]["lines"]
    assert {line["system"] for line in lines} == {"composed", "image-only", "text-only", "sum"}
    assert {line["section"] for line in lines} == {"Fashion-IQ (original)", "Fashion-IQ (val)"}


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"the annotations are not at {PUBLISHED}")
def test_load__published_annotations_with_drawn_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(PUBLISHED) as archive:
        rows = json.loads(archive.read("captions/cap.shirt.val.json"))[:30]
    names = sorted({row[key] for row in rows for key in ("candidate", "target")})
    for number, name in enumerate(names):
        _draw(tmp_path, f"{name}.jpg", number)
    data = load_fashion_iq(PUBLISHED, images=tmp_path, size=SIZE, splits=("val",))
    part = data.parts["shirt", "val"]
    assert (part.annotated, part.listed) == (2038, 6346)
    assert len(part.triplets) >= 30
    assert set(data.parts) == {(category, "val") for category in ("dress", "shirt", "toptee")}
    report = evaluate_fashion_iq(Answers(right=False), data)
    assert report.gallery == len(names)
    assert {line.section for line in report.lines} == {"Fashion-IQ (original)", "Fashion-IQ (val)"}
