"""What JPEG compression does to photos, in torch: the transform and its rounding, on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
"""Quantisation of ITU-T T.81, Annex K, which libjpeg scales by the quality."""
TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """float [B, 3, S, S] in 0…1 and qualities [B] from 1 to 100 -> the photos as JPEG gives them.

    Everything that loses something is here: YCbCr with the colours at half the size, the cosine
    transform in blocks of 8 and its rounding. The rest of the format is lossless.
    """
    device, height, width = images.device, images.shape[2], images.shape[3]
    padded = functional.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    matrix = torch.tensor(TO_YCC, device=device)
    ycc = torch.einsum("ij,bjhw->bihw", matrix, padded * 255)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None] / 100
    light = _rounded(ycc[:, :1] - 128, _table(LUMINANCE, scale)) + 128
    small = _rounded(functional.avg_pool2d(ycc[:, 1:], 2), _table(CHROMINANCE, scale))
    colours = functional.interpolate(small, scale_factor=2.0, mode="bilinear")
    ycc = torch.cat([light, colours], dim=1)
    rgb = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(matrix), ycc) / 255
    return rgb[:, :, :height, :width].clamp(0, 1)


def _table(base: tuple[tuple[int, ...], ...], scale: Tensor) -> Tensor:
    """The quantisation of every quality, [B, 64]."""
    steps = torch.tensor(base, device=scale.device, dtype=torch.float32).flatten()
    return (steps * scale + 0.5).floor().clamp(1, 255)


def _rounded(planes: Tensor, steps: Tensor) -> Tensor:
    """[B, C, H, W] through the cosine transform, rounding to multiples of `steps`, and back."""
    count, channels, height, width = planes.shape
    blocks = planes.view(count, channels, height // 8, 8, width // 8, 8)
    flat = blocks.permute(0, 1, 2, 4, 3, 5).reshape(count, -1, 64)
    basis = _basis(planes.device)
    values = (flat @ basis.T / steps[:, None]).round() * steps[:, None]
    blocks = (values @ basis).view(count, channels, height // 8, width // 8, 8, 8)
    return blocks.permute(0, 1, 2, 4, 3, 5).reshape(count, channels, height, width)


def _basis(device: torch.device) -> Tensor:
    """The two-dimensional DCT-II of 8 × 8 values as one orthonormal matrix, [64, 64]."""
    places = torch.arange(8, dtype=torch.float32)
    cosines = torch.cos((2 * places[None] + 1) * places[:, None] * math.pi / 16) / 2
    cosines[0] /= math.sqrt(2)
    return torch.kron(cosines, cosines).to(device)
