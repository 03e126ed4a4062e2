"""Images from strangers: what is refused, and that what is accepted has the right pixels."""

from __future__ import annotations

import io
import itertools
import random
import subprocess
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps

from visualsearch.exceptions import (
    ImageDecodeError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    QueryError,
)
from visualsearch.photos import images

Image.init()


def picture(width: int = 240, height: int = 160) -> Image.Image:
    """Smooth colours with a different corner each, so that a turn or a wrong channel shows."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    red, green, blue = 40 + 180 * x, 60 + 150 * y, 200 - 120 * x * y
    array = np.stack([red, green, blue], axis=-1)
    array[: height // 4, : width // 4] = (220, 30, 30)
    array[-height // 4 :, -width // 4 :] = (30, 40, 200)
    return Image.fromarray(array.astype(np.uint8))


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(data: bytes, size: int = 64, **options: object) -> np.ndarray:
    return images.to_pixels(images.open_image(data, **options), size=size).astype(np.float64)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    left, right = left.ravel() - left.mean(), right.ravel() - right.mean()
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def png_bomb(width: int, height: int) -> bytes:
    """A real PNG of one colour whose rows compress to almost nothing."""
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 6, 0, 0, 0])
    packer = zlib.compressobj(9)
    row = bytes(1 + 4 * width)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def webp_header(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    content = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + canvas
    return b"RIFF" + (len(content) + 4).to_bytes(4, "little") + b"WEBP" + content + bytes(64)


# --- what is refused ---------------------------------------------------------------------------

OURS = {"JPEG", "PNG", "WEBP", "MPO"}  # an MPO is a JPEG with a second one behind it


@pytest.mark.parametrize("format", sorted(set(Image.SAVE) - OURS))
def test_open_image__a_format_that_is_not_ours_is_refused_whatever_its_name(format: str) -> None:
    for mode in ("RGB", "L", "1", "P"):
        try:
            data = encoded(picture().convert(mode), format)
            break
        except Exception:  # this writer does not take the mode, or needs a library we lack
            continue
    else:
        # Written without Pillow's help: HDF5, GRIB, BUFR and WMF only have stubs for writing.
        data = {"HDF5": b"\x89HDF\r\n\x1a\n", "GRIB": b"GRIB\0\0\0\1", "BUFR": b"BUFR"}.get(
            format, b"\xd7\xcd\xc6\x9a\0\0"
        ) + bytes(200)
    assert data
    with pytest.raises(ImageFormatError, match="JPEG, PNG or WebP"):
        images.open_image(data)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(50), "a GIF"),
        (b"%PDF-1.7\n" + bytes(50), "a PDF"),
        (bytes(4) + b"ftypheic" + bytes(50), "a HEIC"),
        (b"\n <!doctype html><html>", "a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"hello", "not a picture"),
    ],
)
def test_open_image__the_message_names_what_the_file_is(data: bytes, named: str) -> None:
    with pytest.raises(ImageFormatError, match=named):
        images.open_image(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_open_image__a_truncated_file_is_refused(format: str, share: float) -> None:
    data = encoded(picture(), format, quality=90)
    with pytest.raises(ImageDecodeError, match="export it again"):
        images.open_image(data[: int(len(data) * share)])


def test_open_image__half_a_jpeg_that_verify_passes_is_refused() -> None:
    data = encoded(picture(), "JPEG")
    half = data[: len(data) // 2]
    Image.open(io.BytesIO(half)).verify()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    with pytest.raises(ImageDecodeError, match="cut short"):
        images.open_image(half, size_hint=32)


def test_open_image__more_pixels_than_allowed_are_refused_from_the_header() -> None:
    with pytest.raises(ImageTooLargeError, match=r"240 x 160 pixels.*38,399"):
        images.open_image(encoded(picture()), max_pixels=240 * 160 - 1)
    assert images.open_image(encoded(picture()), max_pixels=240 * 160).size == (240, 160)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(webp_header(16_000, 16_000), id="webp, 256 MP"),
        pytest.param(webp_header(60_000, 60_000), id="webp, 3.6 GP"),
        pytest.param(webp_header(9_000, 9_000), id="webp, 81 MP, which Pillow alone would reserve"),
        pytest.param(
            b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f"
            + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little")
            + bytes(9),
            id="lossless webp, 268 MP",
        ),
        pytest.param(
            b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(9),
            id="lossy webp, 268 MP",
        ),
        pytest.param(
            encoded(picture(), "JPEG").replace(b"\x00\xa0\x00\xf0", b"\xff\xff\xff\xff", 1),
            id="jpeg, 4.3 GP",
        ),
    ],
)
def test_open_image__a_header_that_promises_too_much_is_refused(data: bytes) -> None:
    with pytest.raises(ImageTooLargeError):
        images.open_image(data)


def test_open_image__webp_sizes_are_read_from_every_kind_of_header() -> None:
    for options in ({"lossless": True}, {"quality": 80}, {"quality": 80, "exif": b"Exif\0\0"}):
        assert images._webp_size(encoded(picture(231, 97), "WEBP", **options)) == (231, 97)


MEASURE = """
import resource, sys, time
from visualsearch.photos import images
from visualsearch.exceptions import ImageError
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
try:
    images.letterbox(images.open_image(data, size_hint=112), size=112)
    said = "opened"
except ImageError as error:
    said = type(error).__name__
used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
print(said, time.perf_counter() - started, used)
"""


def measured(data: bytes) -> tuple[str, float, int]:
    """What a fresh process says of the picture, the seconds and the MB it took."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE], input=data, capture_output=True, check=True
    )
    said, seconds, megabytes = run.stdout.split()
    return said.decode(), float(seconds), int(megabytes)


@pytest.mark.parametrize(
    ("bomb", "answer"),
    [
        pytest.param(lambda: png_bomb(12_000, 12_000), "ImageTooLargeError", id="144 MP png"),
        pytest.param(
            lambda: (
                b"\x89PNG\r\n\x1a\n"
                + png_chunk(b"IHDR", b"\x7f\xff\xff\xff" * 2 + bytes([8, 6, 0, 0, 0]))
                + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
            ),
            "ImageTooLargeError",
            id="exapixel png",
        ),
        pytest.param(
            lambda: (
                b"\x89PNG\r\n\x1a\n"
                + png_chunk(b"IHDR", b"\0\0\0\x40" * 2 + bytes([8, 2, 0, 0, 0]))
                + png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(300_000_000), 9))
            ),
            "ImageDecodeError",
            id="300 MB icc profile",
        ),
        pytest.param(
            lambda: (
                b"\x89PNG\r\n\x1a\n"
                + png_chunk(b"IHDR", b"\0\0\0\x40" * 2 + bytes([8, 2, 0, 0, 0]))
                + png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(300_000_000), 9))
            ),
            "ImageDecodeError",
            id="300 MB of text",
        ),
        pytest.param(
            lambda: encoded(
                picture(400, 400),
                "PNG",
                save_all=True,
                append_images=[picture(400, 400).rotate(turn) for turn in range(1, 120)],
            ),
            "opened",
            id="120 frames",
        ),
    ],
)
def test_open_image__a_bomb_costs_less_than_a_second_and_200_megabytes(
    bomb: Callable[[], bytes], answer: str
) -> None:
    said, seconds, megabytes = measured(bomb())
    assert said == answer
    assert seconds < 1
    assert megabytes < 200


def test_open_image__the_largest_picture_allowed_is_never_held_twice() -> None:
    said, _, megabytes = measured(png_bomb(8_000, 5_000))
    assert said == "opened"
    assert megabytes < 200  # 160 MB of it are the 40 million RGBA pixels themselves


def test_open_image__a_large_jpeg_is_decoded_small() -> None:
    said, _, megabytes = measured(encoded(Image.new("RGB", (8_000, 5_000), "red"), "JPEG"))
    assert said == "opened"
    assert megabytes < 40  # 120 MB if all of its pixels were made


def test_open_image__random_damage_raises_only_typed_errors() -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    whole = [
        encoded(picture(60, 40), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + bytes(40)),
        encoded(picture(60, 40), "PNG"),
        encoded(picture(60, 40).convert("P"), "PNG"),
        encoded(picture(60, 40), "WEBP", lossless=True),
        encoded(picture(60, 40), "WEBP", save_all=True, append_images=[picture(60, 40)]),
    ]
    for round in range(600):
        data = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 30)):
            data[dice.randrange(min(len(data), dice.choice([40, 400, 10**6])))] = dice.randrange(
                256
            )
        if round % 3 == 0:
            data = data[: dice.randrange(len(data))]
        try:
            images.open_image(bytes(data), size_hint=dice.choice([None, 8, 32]))
        except ImageError as error:
            assert str(error)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, round {round}: {error!r}") from error
    for _ in range(300):
        with pytest.raises(ImageError):
            images.open_image(
                dice.choice([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBP"])
                + dice.randbytes(200)
            )


# --- that the pixels are right -------------------------------------------------------------------


def wide_gamut() -> bytes:
    """An RGB profile that is not sRGB: red and blue are swapped in it, so ignoring it shows."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132])
    for entry in range(132, 132 + 12 * count, 12):
        swap = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}
        profile[entry : entry + 4] = swap.get(
            bytes(profile[entry : entry + 4]), profile[entry : entry + 4]
        )
    return bytes(profile)


def swapped(image: Image.Image) -> Image.Image:
    red, green, blue = image.split()
    return Image.merge("RGB", (blue, green, red))


def turned(image: Image.Image, orientation: int) -> bytes:
    """A JPEG whose pixels are stored turned and whose EXIF says how to turn them back."""
    back = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    stored = image.transpose(images._ORIENTATIONS[back])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, "JPEG", quality=95, exif=exif)


def on_transparent(image: Image.Image) -> Image.Image:
    """The picture with its white parts made transparent black instead."""
    array = np.array(image.convert("RGBA"))
    array[(array[..., :3] == 255).all(axis=-1)] = 0
    return Image.fromarray(array)


def cutout() -> Image.Image:
    """A thing on white."""
    image = Image.new("RGB", (240, 160), "white")
    image.paste(picture(120, 100), (40, 30))
    return image


ENCODINGS: dict[str, Callable[[Image.Image], bytes]] = {
    "png": lambda image: encoded(image),
    "png, palette": lambda image: encoded(image.quantize(256)),
    "png, transparent": lambda image: encoded(on_transparent(image)),
    "png, palette with transparency": lambda image: encoded(
        on_transparent(image).quantize(256, method=Image.Quantize.FASTOCTREE)
    ),
    "png, animated": lambda image: encoded(
        image, save_all=True, append_images=[ImageOps.invert(image)]
    ),
    "png, another colour space": lambda image: encoded(swapped(image), icc_profile=wide_gamut()),
    "png, broken profile": lambda image: encoded(image, icc_profile=b"not a profile"),
    "jpeg": lambda image: encoded(image, "JPEG", quality=90),
    "jpeg, progressive": lambda image: encoded(image, "JPEG", quality=90, progressive=True),
    "jpeg, cmyk": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95),
    "jpeg, turned": lambda image: turned(image, 6),
    "webp": lambda image: encoded(image, "WEBP", quality=90),
    "webp, transparent": lambda image: encoded(on_transparent(image), "WEBP", lossless=True),
    "webp, animated": lambda image: encoded(
        image, "WEBP", lossless=True, save_all=True, append_images=[ImageOps.invert(image)]
    ),
    "jpeg, two pictures (MPO)": lambda image: encoded(
        image, "MPO", quality=90, save_all=True, append_images=[ImageOps.invert(image)]
    ),
}


@pytest.mark.parametrize("size_hint", [None, 32])
def test_to_pixels__one_picture_in_all_encodings_gives_the_same_pixels(
    size_hint: int | None,
) -> None:
    seen = {
        name: pixels(encode(cutout()), size=32, size_hint=size_hint)
        for name, encode in ENCODINGS.items()
    }
    for one, other in itertools.combinations(seen, 2):
        assert cosine(seen[one], seen[other]) >= 0.98, (one, other)
        assert np.abs(seen[one] - seen[other]).mean() < 4, (one, other)


GREYS: dict[str, Callable[[Image.Image], bytes]] = {
    "png, 8 bit": lambda grey: encoded(grey),
    "png, 16 bit": lambda grey: encoded(Image.fromarray(np.array(grey).astype(np.uint16) * 257)),
    "png, grey with alpha": lambda grey: encoded(
        Image.merge("LA", (grey, Image.new("L", grey.size, 255)))
    ),
    "png, 8 bit with a transparent value": lambda grey: encoded(
        grey.point(lambda value: 7 if value == 255 else max(value, 8)), transparency=7
    ),
    "jpeg": lambda grey: encoded(grey, "JPEG", quality=95),
}


def test_to_pixels__greys_of_every_depth_are_the_same() -> None:
    grey = cutout().convert("L")
    expected = pixels(encoded(grey.convert("RGB")))
    for name, encode in GREYS.items():
        seen = pixels(encode(grey))
        assert cosine(seen, expected) >= 0.98, name
        assert np.abs(seen - expected).mean() < 3, name


def test_to_pixels__transparency_is_white_not_black() -> None:
    assert (pixels(encoded(Image.new("RGBA", (50, 50), (0, 0, 0, 0)))) == 255).all()
    assert (pixels(encoded(Image.new("LA", (50, 50), (0, 0)))) == 255).all()
    half = pixels(encoded(Image.new("RGBA", (50, 50), (255, 0, 0, 128))))
    assert half[32, 32] == pytest.approx([255, 127, 127], abs=2)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("size_hint", [None, 16])
def test_open_image__exif_orientation_is_obeyed(orientation: int, size_hint: int | None) -> None:
    upright = picture(240, 160)
    opened = images.open_image(turned(upright, orientation), size_hint=size_hint)
    assert (opened.width > opened.height) is True
    seen = images.to_pixels(opened, size=32).astype(float)
    expected = images.to_pixels(upright, size=32).astype(float)
    assert np.abs(seen - expected).mean() < 4


def test_open_image__an_unlikely_orientation_and_damaged_exif_are_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 42
    for exif_bytes in (exif.tobytes(), b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0??"):
        assert images.open_image(encoded(picture(), "JPEG", exif=exif_bytes)).size == (240, 160)


def test_open_image__a_size_hint_shrinks_while_decoding_and_hardly_changes_the_pixels() -> None:
    for format in ("JPEG", "PNG"):
        data = encoded(picture(1200, 800), format)
        small = images.open_image(data, size_hint=64)
        assert 128 <= max(small.size) < 256
        whole = images.to_pixels(images.open_image(data), size=64).astype(float)
        assert np.abs(images.to_pixels(small, size=64) - whole).mean() < 2


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (17, 1999)])
def test_to_pixels__odd_shapes_fit(size: tuple[int, int]) -> None:
    assert pixels(encoded(Image.new("RGB", size, "red")), size=16, size_hint=16).shape == (
        16,
        16,
        3,
    )


def test_to_pixels__the_picture_is_centred_on_white() -> None:
    seen = pixels(encoded(Image.new("RGB", (100, 50), "red")), size=32)
    assert (seen[:8] == 255).all() and (seen[24:] == 255).all()
    assert (seen[8:24] == [255, 0, 0]).all()
    assert images.to_pixels(picture(), size=32).dtype == np.uint8


def test_open_image__box_is_a_part_of_the_upright_picture() -> None:
    red_corner = images.open_image(turned(picture(), 6), box=(0, 0, 0.2, 0.2), size_hint=8)
    assert np.array(red_corner).mean(axis=(0, 1)) == pytest.approx([220, 30, 30], abs=8)


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 1),
        (0.5, 0, 0.2, 1),
        (-0.1, 0, 1, 1),
        (0, 0, 1, 1.1),
        (float("nan"), 0, 1, 1),
        (0, 1),
        "box!",
    ],
)
def test_open_image__an_impossible_box_is_refused(box: object) -> None:
    with pytest.raises(QueryError, match="fractions of the picture"):
        images.open_image(encoded(picture()), box=box)  # type: ignore[arg-type]


def test_content_hash__changes_with_the_bytes_and_the_preprocessing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = images.content_hash(b"a")
    assert len(before) == 16
    assert images.content_hash(b"a") == before != images.content_hash(b"b")
    monkeypatch.setattr(images, "PREPROCESSING", "another-path")
    assert images.content_hash(b"a") != before


def test_images__imports_neither_numpy_nor_django_nor_torch() -> None:
    code = "import sys, visualsearch.photos.images; print({'numpy', 'django', 'torch'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
