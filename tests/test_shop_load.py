"""Loading real catalogues: both layouts, bad rows, hostile zips."""

from __future__ import annotations

import io
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from shop.importing.reading import BadRow, Record, Table, read_price, read_stock
from shop.importing.source import SourceError, is_safe, open_source
from shop.importing.storing import photo_name
from shop.models import Product, ProductImage


def picture(colour: str = "red", kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 30), colour).save(file, kind)
    return file.getvalue()


def make_folder(
    folder: Path, csv: str, images: dict[str, bytes], name: str = "products.csv"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(csv, encoding="utf-8")
    for path, data in images.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def read(path: Path) -> tuple[list[Record], list[BadRow]]:
    with open_source(path) as source:
        entries = list(Table(source).records(set()))
    good = [entry for entry in entries if isinstance(entry, Record)]
    return good, [entry for entry in entries if isinstance(entry, BadRow)]


PRODUCTS = """id,product_code,title,description,product_type,pattern,colour,image,price,stock,group
a1,10,Blue shirt,Crisp,Shirt,Solid,Blue,images/a1.jpg,19.90,3,near-a
a2,10,Red shirt,Crisp,Shirt,Solid,Red,images/a2.png,"1.299,00",0,near-b
b1,11,Green hat,Warm,Hat,Striped,Green,images/b1.webp,5,12,near-c
"""
IMAGES = {
    "images/a1.jpg": picture("blue"),
    "images/a2.png": picture("red", "PNG"),
    "images/b1.webp": picture("green", "WEBP"),
}
STYLES = """id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName
15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt
39386,Men,Apparel,Bottomwear,Jeans,Blue,Summer,2012,Casual,Peter England Men Party Blue Jeans
6394,Men,Apparel,Bottomwear,Shorts,Black,Summer,2011,Casual,Puma Shorts, long, black
"""
KAGGLE = {f"images/{key}.jpg": picture() for key in ("15970", "39386", "6394")}


def test_table__maps_well_known_columns(tmp_path: Path) -> None:
    good, bad = read(make_folder(tmp_path / "shop", PRODUCTS, IMAGES))
    assert not bad
    first = good[0]
    assert (first.sku, first.name, first.description) == ("a1", "Blue shirt", "Crisp")
    assert (first.category, first.colour) == ("Shirt", "blue")
    assert [record.price for record in good] == [Decimal("19.90"), Decimal("1299.00"), Decimal("5")]
    assert [record.stock for record in good] == [3, 0, 12]
    assert [record.photos[0][1] for record in good] == [".jpg", ".png", ".webp"]


def test_table__product_code_is_the_style_rather_than_the_group_column(tmp_path: Path) -> None:
    good, _ = read(make_folder(tmp_path / "shop", PRODUCTS, IMAGES))
    assert [record.style_code for record in good] == ["10", "10", "11"]


def test_table__kaggle_layout_with_unquoted_commas_in_the_last_column(tmp_path: Path) -> None:
    good, bad = read(make_folder(tmp_path / "fashion", STYLES, KAGGLE, name="styles.csv"))
    assert not bad
    assert [record.sku for record in good] == ["15970", "39386", "6394"]
    assert good[0].category == "Shirts"
    assert good[2].name == "Puma Shorts, long, black"


def test_table__zip_gives_the_same_as_the_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "shop", PRODUCTS, IMAGES)
    members = {"inner/products.csv": PRODUCTS.encode()}
    members |= {f"inner/{name}": data for name, data in IMAGES.items()}
    assert read(make_zip(tmp_path / "shop.zip", members)) == read(folder)


def test_table__bad_rows_are_listed_with_line_and_reason(tmp_path: Path) -> None:
    csv = (
        "id,title,image\n"
        "ok,Fine,images/ok.jpg\n"
        "gone,Lost,images/gone.jpg\n"
        "ok,Again,images/ok.jpg\n"
        ",Nameless,images/ok.jpg\n"
        "short,Short\n"
        "notimage,Text,images/text.jpg\n"
        "untitled,,images/ok.jpg\n"
        '"two","Lines\nin a cell",images/ok.jpg\n'
        f"{'x' * 65},Long,images/ok.jpg\n"
        "last,Last,images/ok.jpg\n"
    )
    images = {"images/ok.jpg": picture(), "images/text.jpg": b"not an image"}
    good, bad = read(make_folder(tmp_path / "shop", csv, images))
    assert [record.sku for record in good] == ["ok", "two", "last"]
    assert [(row.line, row.reason) for row in bad] == [
        (3, "the image images/gone.jpg is not there"),
        (4, "the id ok appears a second time"),
        (5, "no value in the column 'id'"),
        (6, "the line has 2 cells and the header 3"),
        (7, "the image images/text.jpg is not a readable JPEG, PNG or WebP file"),
        (8, "no title"),
        (11, "the id is longer than 64 characters"),
    ]


def test_table__field_beyond_the_limit_of_csv_is_one_bad_row(tmp_path: Path) -> None:
    csv = f'id,title,image\nhuge,"{"x" * 200_000}",images/a.jpg\nok,Fine,images/a.jpg\n'
    good, bad = read(make_folder(tmp_path / "shop", csv, {"images/a.jpg": picture()}))
    assert [record.sku for record in good] == ["ok"]
    assert [(row.line, row.reason) for row in bad] == [(2, "the line is not readable as CSV")]


def test_table__several_images_in_one_cell(tmp_path: Path) -> None:
    csv = "id,title,images\np,Two photos,images/1.jpg|images/2.jpg\n"
    images = {"images/1.jpg": picture("red"), "images/2.jpg": picture("blue")}
    good, _ = read(make_folder(tmp_path / "shop", csv, images))
    assert [data for data, _ in good[0].photos] == list(images.values())


def test_table__without_prices_they_are_invented_the_same_every_time(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "fashion", STYLES, KAGGLE, name="styles.csv")
    first, second = read(folder)[0], read(folder)[0]
    assert [record.price for record in first] == [record.price for record in second]
    assert all(Decimal(5) < record.price < Decimal(100) for record in first)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("19.9", "19.90"),
        ("€ 19,90", "19.90"),
        ("1,299.00", "1299.00"),
        ("1.299,00", "1299.00"),
        ("1,299", "1299.00"),
        ("12.50 EUR", "12.50"),
        ("Rs 1 299,50", "1299.50"),
    ],
)
def test_read_price__understands_both_decimal_signs(text: str, price: str) -> None:
    assert read_price(text, "x") == Decimal(price)


@pytest.mark.parametrize("text", ["free", "--", "-5", "1e99", "999999999999"])
def test_read_price__nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the price"):
        read_price(text, "x")


@pytest.mark.parametrize("text", ["many", "NaN", "Infinity"])
def test_read_stock__nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the stock"):
        read_stock(text, "x")


def test_read_stock__below_zero_is_none_left() -> None:
    assert read_stock("-4", "x") == 0


@pytest.mark.parametrize(
    "name", ["../x.jpg", "/etc/passwd", "a/../../x", "C:/x", "a\\..\\x", "\x00"]
)
def test_is_safe__names_that_lead_out_are_not(name: str) -> None:
    assert not is_safe(name)


def test_open_source__zip_members_that_lead_out_are_refused(tmp_path: Path) -> None:
    csv = "id,title,image\nevil,Evil,../secret.jpg\nok,Fine,images/ok.jpg\n"
    members = {"products.csv": csv.encode(), "../secret.jpg": picture(), "images/ok.jpg": picture()}
    path = make_zip(tmp_path / "evil.zip", members)
    with open_source(path) as source:
        assert source.refused == ["../secret.jpg"]
    good, bad = read(path)
    assert [record.sku for record in good] == ["ok"]
    assert bad[0].reason == "the image ../secret.jpg is not there"
    assert not (tmp_path.parent / "secret.jpg").exists()


def test_open_source__csv_cannot_name_files_outside_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(picture())
    csv = "id,title,image\nevil,Evil,../secret.jpg\nlink,Link,images/link.jpg\n"
    folder = make_folder(tmp_path / "shop", csv, {"images/ok.jpg": picture()})
    (folder / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    good, bad = read(folder)
    assert not good
    assert [row.sku for row in bad] == ["evil", "link"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no products.csv or styles.csv"),
        ({"products.csv": b""}, "is empty"),
        ({"products.csv": b"colour,size\nred,3\n"}, "No column for the product's id"),
    ],
)
def test_table__unusable_source_says_what_to_do(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    path = make_zip(tmp_path / "bad.zip", files | {"images/x.jpg": picture()})
    with open_source(path) as source, pytest.raises(SourceError, match=message):
        Table(source)


def test_photo_name__hostile_sku_stays_a_file_name() -> None:
    name = photo_name("../../etc/passwd\x00<b>", 0, ".jpg")
    assert name.startswith("products/") and name.count("/") == 2 and ".." not in name
    assert photo_name("a/b", 0, ".jpg") != photo_name("a-b", 0, ".jpg")


@pytest.mark.django_db
def test_shop_load__stores_products_and_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    call_command("shop_load", make_folder(tmp_path / "shop", PRODUCTS, IMAGES))
    product = Product.objects.get(sku="a2")
    assert (product.name, product.style_code, product.price) == ("Red shirt", "10", Decimal(1299))
    assert product.in_stock is False
    image = product.images.get()
    with image.original.open() as file:
        assert file.read() == IMAGES["images/a2.png"]
    assert "Loaded 3 products, skipped 0 bad rows." in capsys.readouterr().out


@pytest.mark.django_db
def test_shop_load__again_keeps_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = make_folder(tmp_path / "shop", PRODUCTS, IMAGES)
    call_command("shop_load", folder, limit=1)
    assert Product.objects.count() == 1
    call_command("shop_load", folder)
    assert Product.objects.count() == ProductImage.objects.count() == 3
    assert "Loaded 2 products, kept 1 that were there already" in capsys.readouterr().out


@pytest.mark.django_db
def test_shop_load__says_that_prices_are_made_up_and_lists_bad_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken = {name: data for name, data in KAGGLE.items() if "39386" not in name}
    call_command("shop_load", make_folder(tmp_path / "f", STYLES, broken, name="styles.csv"))
    output = capsys.readouterr()
    assert "No column for price and stock" in output.out
    assert "line 3 (39386): skipped, no image" in output.err
    assert Product.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("limit", [0, -3])
def test_shop_load__limit_below_one_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(CommandError, match="give a number of products from 1"):
        call_command("shop_load", tmp_path, limit=limit)


@pytest.mark.django_db
def test_shop_load__missing_path_is_a_command_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="does not exist"):
        call_command("shop_load", tmp_path / "nothing")


@pytest.mark.django_db
def test_shop_draw__fills_the_shop_once() -> None:
    call_command("shop_draw", products=5, workers=1, verbosity=0)
    first = list(Product.objects.values_list("pk", "sku"))
    assert len(first) == 5 and ProductImage.objects.count() == 10
    Product.objects.filter(pk=first[2][0]).delete()
    call_command("shop_draw", products=6, workers=1, verbosity=0)
    assert Product.objects.count() == 6
    assert Product.objects.filter(pk=first[0][0], sku=first[0][1]).exists()


@pytest.mark.django_db
def test_shop_draw__zero_products_are_refused() -> None:
    with pytest.raises(CommandError, match="give a number from 1"):
        call_command("shop_draw", products=0)
