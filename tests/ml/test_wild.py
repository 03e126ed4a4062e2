"""Catalogue photos as phone photos: deterministic, colours kept, white products kept whole."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.ml.catalogues import coloured_shapes
from visualsearch.ml.cutout import cut_out
from visualsearch.ml.jpeg import compress
from visualsearch.ml.wild import light, wild

SIZE = 48


def _shapes() -> Tensor:
    return torch.from_numpy(coloured_shapes(size=SIZE).pixels)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _on(paper: int, product: int, *, outline: int | None = None) -> Tensor:
    """One square product on paper, float [1, 3, S, S]."""
    image = np.full((SIZE, SIZE, 3), paper, np.uint8)
    image[12:36, 12:36] = product if outline is None else outline
    image[14:34, 14:34] = product
    return _floats(torch.from_numpy(image)[None])


def _floats(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float() / 255


def test_wild__same_generator_same_photos_and_another_one_others() -> None:
    pixels = _shapes()
    first = wild(pixels, generator=_generator(1))
    assert first.shape == pixels.shape and first.dtype == torch.uint8
    assert torch.equal(first, wild(pixels, generator=_generator(1)))
    assert not torch.equal(first, wild(pixels, generator=_generator(2)))


def test_wild__background_is_replaced_or_left_white() -> None:
    corners = (slice(None), [0, 0, -1, -1], [0, -1, 0, -1])
    on_paper = wild(_shapes(), generator=_generator(), strength=0.3, background=False)
    elsewhere = wild(_shapes(), generator=_generator(), strength=0.3)
    assert on_paper[corners].float().mean() > 200
    assert (elsewhere[corners].amin(dim=-1) < 200).float().mean() > 0.4


def test_wild__strength_nought_on_paper_changes_hardly_anything() -> None:
    pixels = _shapes()
    result = wild(pixels, generator=_generator(), strength=0, background=False)
    assert (result.float() - pixels.float()).abs().mean() < 6  # JPEG of the best quality
    strong = wild(pixels, generator=_generator(), background=False)
    assert (strong.float() - pixels.float()).abs().mean() > 20


def test_wild__a_photo_without_paper_keeps_its_own_background() -> None:
    rows = torch.arange(SIZE)[:, None, None].expand(SIZE, SIZE, 3) * 3
    photo = (rows + torch.tensor([20, 40, 60])).to(torch.uint8)[None]
    result = wild(photo, generator=_generator(), strength=0)
    middle = result[:, 12:36, 12:36].float()  # beside the bars
    assert (middle - photo[:, 12:36, 12:36].float()).abs().mean() < 8


def test_wild__empty_and_tiny_batches() -> None:
    assert wild(_shapes()[:0], generator=_generator()).shape == (0, SIZE, SIZE, 3)
    tiny = torch.full((3, 16, 16, 3), 255, dtype=torch.uint8)
    assert wild(tiny, generator=_generator()).shape == (3, 16, 16, 3)


def test_light__hue_stays_within_two_hundredths() -> None:
    """Colour is a label: saturated colours must stay what they are called."""
    colours = [colorsys.hsv_to_rgb(hue / 24, 1.0, value) for hue in range(24) for value in (0.5, 1)]
    images = torch.tensor(colours)[:, :, None, None].expand(-1, 3, 8, 8).repeat(20, 1, 1, 1)
    after = light(images, generator=_generator())
    for before, now in zip(images[:, :, 4, 4].tolist(), after[:, :, 4, 4].tolist(), strict=True):
        apart = abs(colorsys.rgb_to_hsv(*before)[0] - colorsys.rgb_to_hsv(*now)[0])
        assert min(apart, 1 - apart) <= 0.02
    assert (after - images).abs().mean() > 0.05


def test_cut_out__finds_the_product_on_white_and_on_grey_paper() -> None:
    for paper in (255, 231):
        cutout = cut_out(_on(paper, 60))
        assert cutout.found.all()
        assert cutout.alpha[0, 0, 16:32, 16:32].min() == 1
        assert cutout.alpha[0, 0, :10].max() == 0


def test_cut_out__a_white_product_with_an_outline_keeps_its_inside() -> None:
    cutout = cut_out(_on(255, 255, outline=180))
    assert cutout.found.all()
    assert cutout.alpha[0, 0, 16:32, 16:32].min() == 1


def test_cut_out__a_white_product_without_outline_is_left_whole() -> None:
    cutout = cut_out(_on(255, 254))
    assert not cutout.found.any()
    assert cutout.alpha.min() == 1


def test_cut_out__letterboxed_scene_is_no_catalogue_photo() -> None:
    scene = np.random.default_rng(0).integers(0, 200, (SIZE, SIZE, 3), dtype=np.uint8)
    scene[:, :8] = scene[:, -8:] = 255
    assert not cut_out(_floats(torch.from_numpy(scene)[None])).found.any()


def test_compress__gives_what_libjpeg_gives() -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((50, 50))
    image = torch.from_numpy(np.array(smooth))[None]
    for quality in (30, 60, 95):
        stream = io.BytesIO()
        smooth.save(stream, "JPEG", quality=quality, subsampling="4:2:0")
        theirs = torch.from_numpy(np.array(Image.open(stream))).float()
        ours = compress(_floats(image), torch.tensor([float(quality)]))[0].permute(1, 2, 0) * 255
        loss = (theirs - image[0].float()).abs().mean()
        assert loss > 3
        assert (ours - theirs).abs().mean() < 0.3 * loss
