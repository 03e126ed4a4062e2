"""Opens an untrusted image safely and makes it upright, opaque sRGB pixels of one size."""

from __future__ import annotations

import hashlib
import io
import math
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import (
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from visualsearch.exceptions import (
    ImageDecodeError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    QueryError,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Box = tuple[float, float, float, float]
"""Left, top, right, bottom of the part to look at, as fractions of the upright picture."""

PREPROCESSING = "pad-white-bicubic-1"
"""Name of this decoding path: index and query must share it, so it is part of a checkpoint."""

FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
)
MAX_PIXELS = 40_000_000
MAX_PROFILE_BYTES = 4 * 1024 * 1024

_WHITE = (255, 255, 255)
# How much larger than the result a picture stays while it is being shrunk cheaply.
_REDUCING_GAP = 2
# Conversions run over strips of this many pixels, so that a large picture is never held twice.
_STRIP_PIXELS = 1_000_000
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OURS = ((0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (8, b"WEBP", "WebP"))
_FOREIGN = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\x00", "a TIFF"),
    (0, b"MM\x00*", "a TIFF"),
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"8BPS", "a Photoshop file"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (0, b"<svg", "an SVG"),
    (0, b"<?xml", "XML"),
    (0, b"<", "a web page"),
)


def open_image(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    box: Box | None = None,
    size_hint: int | None = None,
) -> Image.Image:
    """The first frame of a JPEG, PNG or WebP as an upright RGB picture on white.

    `size_hint` is the size that `to_pixels` will be asked for: a picture much larger than that is
    shrunk while it is decoded, which is several times faster and needs far less memory.
    Raises ImageFormatError, ImageTooLargeError or ImageDecodeError, whatever the bytes are, and
    QueryError for an impossible `box`.
    """
    check_box(box)
    try:
        return _open(data, max_pixels=max_pixels, box=box, size_hint=size_hint)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(
            f"The picture needs more memory than there is for one ({error or 'out of memory'}): "
            "send a smaller one."
        ) from error
    except Exception as error:  # Pillow's readers raise anything at all on hostile bytes
        raise ImageDecodeError(
            f"The picture is damaged or cut short ({error}): export it again as JPEG, PNG or WebP."
        ) from error


def letterbox(image: Image.Image, *, size: int) -> Image.Image:
    """The whole picture, its longer side `size`, centred on a white square."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    # convert() copies even what needs no conversion.
    picture = image if image.mode == "RGB" else image.convert("RGB")
    small = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
    canvas = Image.new("RGB", (size, size), _WHITE)
    canvas.paste(small, ((size - width) // 2, (size - height) // 2))
    return canvas


def to_pixels(image: Image.Image, *, size: int) -> npt.NDArray[np.uint8]:
    """The letter-boxed picture as uint8 [size, size, 3]."""
    # numpy takes three times as long to import as Pillow, and a decoding process does without.
    import numpy as np

    return np.array(letterbox(image, size=size), dtype=np.uint8)


def content_hash(data: bytes) -> bytes:
    """16 bytes that change when the file or the way it is decoded changes."""
    digest = hashlib.blake2b(data, digest_size=16)
    digest.update(PREPROCESSING.encode())
    return digest.digest()


def check_box(box: Box | None) -> None:
    """Raises QueryError unless the box is a part of the picture that has an area."""
    if box is None:
        return
    try:
        left, top, right, bottom = (float(edge) for edge in box)
    except (TypeError, ValueError):
        left = top = right = bottom = math.nan
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise QueryError(
            f"box is {box!r}: give left, top, right and bottom as fractions of the picture, "
            "for instance [0.1, 0.2, 0.8, 0.9]."
        )


def _open(data: bytes, *, max_pixels: int, box: Box | None, size_hint: int | None) -> Image.Image:
    if not data:
        raise ImageFormatError("The file is empty: send a JPEG, PNG or WebP picture.")
    # Pillow reserves a WebP's whole canvas as it opens the file: its size is looked at before.
    _check_size(_webp_size(data), max_pixels=max_pixels)
    image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    _check_size(image.size, max_pixels=max_pixels)
    turn = _turn(image)
    width, height = _upright_size(image, turn)
    factor = 1
    if size_hint is not None:
        left, top, right, bottom = box or (0, 0, 1, 1)
        longest = max((right - left) * width, (bottom - top) * height)
        factor = max(1, int(longest / (size_hint * _REDUCING_GAP)))
        if factor > 1:  # a JPEG decodes at 1/2, 1/4 or 1/8 for less than the price of the whole
            before = max(image.size)
            wanted = math.ceil(image.width / factor), math.ceil(image.height / factor)
            image.draft(None, wanted)
            factor = max(1, factor // round(before / max(image.size)))
    image.load()  # verify() would pass half a file
    picture = _to_small_srgb(image, factor)
    if turn is not None:
        picture = picture.transpose(turn)
    return picture if box is None else _crop(picture, box)


def _check_size(size: tuple[int, int] | None, *, max_pixels: int) -> None:
    if size is not None and size[0] * size[1] > max_pixels:
        raise ImageTooLargeError(
            f"The picture has {size[0]} x {size[1]} pixels, more than the {max_pixels:,} allowed: "
            "send a smaller one."
        )


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a WebP file (RFC 9649), None for anything else."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    little = int.from_bytes
    if data[12:16] == b"VP8X":
        return little(data[24:27], "little") + 1, little(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = little(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return little(data[26:28], "little") & 0x3FFF, little(data[28:30], "little") & 0x3FFF


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How the EXIF orientation asks for the picture to be turned; damaged EXIF asks for nothing."""
    try:
        return _ORIENTATIONS.get(image.getexif().get(0x0112, 1))
    except MemoryError:
        raise
    except Exception:
        return None


def _upright_size(image: Image.Image, turn: Image.Transpose | None) -> tuple[int, int]:
    sideways = turn in (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    )
    return (image.height, image.width) if sideways else image.size


def _to_small_srgb(image: Image.Image, factor: int) -> Image.Image:
    """The loaded picture as sRGB, shrunk by a whole factor; strip by strip when it shrinks."""
    if factor == 1:
        return _to_srgb(image)
    width, height = image.size
    small = Image.new("RGB", (math.ceil(width / factor), math.ceil(height / factor)))
    rows = max(1, _STRIP_PIXELS // (width * factor)) * factor
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        small.paste(_to_srgb(strip).reduce(factor), (0, top // factor))
    return small


def _to_srgb(image: Image.Image) -> Image.Image:
    """Any mode that the three formats decode to, as opaque 8-bit sRGB."""
    profile = image.info.get("icc_profile")
    image = _flatten(_to_8_bit(image))
    if profile and len(profile) <= MAX_PROFILE_BYTES:
        transform, mode = _profile_transform(profile)
        if transform is not None and mode == "RGB":
            image = image.convert("RGB")
        if transform is not None and mode == image.mode:
            converted = transform.apply(image)
            assert converted is not None
            return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit greys scaled (Pillow's convert would clip them to white), the rest as it is."""
    if image.mode not in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        return image
    grey = image.convert("I").point([value // 257 for value in range(65_536)], "L")
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        seen = [0 if value == clear else 255 for value in range(65_536)]
        grey.putalpha(image.convert("I").point(seen, "L"))
    return grey


def _flatten(image: Image.Image) -> Image.Image:
    """The picture without transparency, on white: its colours stay in their own space."""
    if image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        opaque = Image.new(image.mode[:-1], image.size, "white")
        opaque.paste(image.convert(opaque.mode), mask=image.getchannel("A"))
        return opaque
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


@lru_cache(maxsize=8)
def _profile_transform(profile: bytes) -> tuple[ImageCms.ImageCmsTransform | None, str]:
    """From an ICC profile's colours to sRGB, and the mode it reads; (None, "") for a bad one."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[space]
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, srgb, mode, "RGB"), mode
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None, ""


def _crop(picture: Image.Image, box: Box) -> Image.Image:
    left, right = math.floor(box[0] * picture.width), math.ceil(box[2] * picture.width)
    top, bottom = math.floor(box[1] * picture.height), math.ceil(box[3] * picture.height)
    return picture.crop((left, top, right, bottom))


def _unidentified(data: bytes) -> ImageError:
    """The error for bytes that none of the three formats recognises, naming what they are."""
    for offset, magic, name in _OURS:
        if data[offset : offset + len(magic)] == magic:
            return ImageDecodeError(
                f"The file begins like a {name} but its header is damaged: export it again."
            )
    start = data[:64].lstrip()
    for offset, magic, name in _FOREIGN:
        if data[offset : offset + len(magic)] == magic or (not offset and start.startswith(magic)):
            return ImageFormatError(
                f"The file is {name}, whatever its name says: save it as JPEG, PNG or WebP."
            )
    return ImageFormatError("The file is not a picture: send a JPEG, PNG or WebP.")
