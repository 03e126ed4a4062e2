"""Reading folders and zips: rows in order, bad ones listed, nothing outside the folder."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from visualsearch.exceptions import TrainingError
from visualsearch.ml.catalogue_folder import load_folder

COLOURS = ("red", "green", "blue")


def _jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def _write(folder: Path, name: str, header: list[str], rows: list[list[str]]) -> None:
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i in range(9):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(_jpeg(COLOURS[i % 3]))
    (tmp_path / "images" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "secret.jpg").write_bytes(_jpeg("red"))
    rows = [
        [str(i), f"Title {i}", "Shirt", f"s{i // 3}", COLOURS[i % 3], f"images/{i}.jpg"]
        for i in range(9)
    ]
    rows += [
        ["9", "Broken", "Shirt", "s9", "red", "images/broken.jpg"],
        ["10", "Absent", "Shirt", "s9", "red", "images/none.jpg"],
        ["11", "Outside", "Shirt", "s9", "red", "../secret.jpg"],
        ["0", "Twice", "Shirt", "s0", "red", "images/0.jpg"],
        ["", "Nameless", "Shirt", "s0", "red", "images/0.jpg"],
    ]
    header = ["sku", "name", "category", "style_code", "colour", "image"]
    _write(tmp_path, "products.csv", header, rows)
    return tmp_path


def _zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"shop/{path.relative_to(folder)}")
    return target


def test_load_folder__reads_products_and_lists_bad_rows(folder: Path) -> None:
    loaded = load_folder(folder, size=16)
    assert [item.id for item in loaded.catalogue.items] == [str(i) for i in range(9)]
    assert loaded.catalogue.pixels.shape == (9, 16, 16, 3)
    item = loaded.catalogue.items[1]
    assert (item.texts, item.label, item.group) == (("Title 1",), "Shirt", "s0")
    assert item.attributes == {"colour": "green"}
    centre = loaded.catalogue.pixels[1, 8, 8]
    assert centre[1] > 100 > centre[0]
    reasons = {row.id: row.reason for row in loaded.bad_rows}
    assert list(reasons) == ["9", "10", "11", "0", ""]
    assert reasons["10"] == reasons["11"] == "no image file"
    assert "twice" in reasons["0"]
    assert [row.line for row in loaded.bad_rows] == [11, 12, 13, 14, 15]


def test_load_folder__a_zip_gives_the_same(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = _zipped(folder, tmp_path_factory.mktemp("zip") / "shop.zip")
    one, other = load_folder(folder, size=16), load_folder(archive, size=16)
    assert one.catalogue.items == other.catalogue.items
    assert (one.catalogue.pixels == other.catalogue.pixels).all()
    assert len(one.bad_rows) == len(other.bad_rows)


def test_load_folder__a_damaged_member_of_a_zip_is_a_bad_row(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = tmp_path_factory.mktemp("zip") / "damaged.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for path in sorted(folder.rglob("*.*")):
            written.write(path, str(path.relative_to(folder)))
        place = written.getinfo("images/0.jpg").header_offset + 30 + len("images/0.jpg")
    data = bytearray(archive.read_bytes())
    data[place : place + 8] = b"\xff" * 8  # in the middle of the compressed bytes
    archive.write_bytes(data)
    loaded = load_folder(archive, size=16)
    assert "0" not in {item.id for item in loaded.catalogue.items}
    assert len(loaded.catalogue.items) == 8
    assert "cannot be read" in {row.id: row.reason for row in loaded.bad_rows}["0"]


def test_load_folder__limit_counts_usable_products(folder: Path) -> None:
    assert len(load_folder(folder, size=16, limit=4).catalogue.items) == 4


def test_load_folder__kaggle_layout_with_a_row_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(_jpeg("blue"))
    header = ["id", "articleType", "baseColour", "productDisplayName"]
    rows = [["0", "Tshirts", "Blue", "Blue shirt"], ["1", "Tshirts", "Blue", "Shirt", "extra"]]
    _write(tmp_path, "styles.csv", header, [*rows, ["2", "Tshirts"]])
    loaded = load_folder(tmp_path, size=16)
    assert [item.texts for item in loaded.catalogue.items] == [("Blue shirt",), ("Shirt",), ()]
    assert not loaded.bad_rows


def test_load_folder__neither_folder_nor_zip(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("no zip")
    for path in (tmp_path / "file.txt", tmp_path / "absent"):
        with pytest.raises(TrainingError, match="neither a folder nor a zip"):
            load_folder(path, size=16)
    with pytest.raises(TrainingError, match=r"has no products\.csv"):
        load_folder(tmp_path, size=16)
