"""Descriptors that nothing has to learn: outlines as oriented gradients, colours as a histogram."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from visualsearch.ml.normalisation import MEAN, STD

WHITE = 0.93
"""From here on (0 to 1, darkest channel) a pixel counts as the white background of a studio."""


class Descriptor(nn.Module):
    """A fixed function of the normalised images, computed in float32 whatever surrounds it."""

    features: int
    mean: Tensor
    std: Tensor

    def __init__(self, *, side: int) -> None:
        """side: pixels of the square that the image is shrunk to before it is described."""
        super().__init__()
        self.side = side
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images normalised by ImageNet's figures, float [B, 3, S, S] -> float32 [B, features]."""
        with torch.autocast(images.device.type, enabled=False):
            rgb = (images.float() * self.std + self.mean).clamp(0, 1)
            if rgb.shape[2] > self.side:
                rgb = functional.adaptive_avg_pool2d(rgb, self.side)
            elif rgb.shape[2] < self.side:
                rgb = functional.interpolate(rgb, size=(self.side, self.side), mode="bilinear")
            return self.describe(rgb)

    def describe(self, rgb: Tensor) -> Tensor:
        """float [B, 3, side, side] from 0 to 1 -> [B, features]."""
        raise NotImplementedError


class OrientedGradients(Descriptor):
    """Histograms of oriented gradients (Dalal & Triggs, CVPR 2005): where which edge runs.

    The outline of a design, whatever its colour. Each pixel gives the gradient of its strongest
    channel to the two orientations nearest to its own, of `bins` over half a turn; sums over a grid
    of cells × cells are divided by the norm of their 3 × 3 neighbourhood and cut off at .3.
    """

    centres: Tensor

    def __init__(self, *, cells: int = 12, bins: int = 9, pixels_a_cell: int = 4) -> None:
        super().__init__(side=cells * pixels_a_cell)
        self.pixels_a_cell = pixels_a_cell
        self.bins = bins
        self.features = cells * cells * bins
        centres = torch.arange(bins, dtype=torch.float32).view(1, -1, 1, 1) + 0.5
        self.register_buffer("centres", centres, persistent=False)

    def describe(self, rgb: Tensor) -> Tensor:
        padded = functional.pad(rgb.sqrt(), (1, 1, 1, 1), mode="replicate")
        across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
        down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
        strength, channel = (across.square() + down.square() + 1e-12).sqrt().max(1, keepdim=True)
        across, down = across.gather(1, channel), down.gather(1, channel)
        turn = torch.atan2(down, across) / math.pi  # -1 to 1; opposite directions are one edge
        place = torch.where(turn < 0, turn + 1, turn) * self.bins
        distance = (place - self.centres).abs()
        distance = torch.minimum(distance, self.bins - distance)
        votes = (1 - distance).clamp(min=0) * strength  # [B, bins, side, side]
        cells = functional.avg_pool2d(votes, self.pixels_a_cell)  # [B, bins, cells, cells]
        energy = functional.pad(cells.square().sum(dim=1, keepdim=True), (1, 1, 1, 1))
        norms = (9 * functional.avg_pool2d(energy, 3, stride=1) + 1e-4).sqrt()
        return (cells / norms).clamp(max=0.3).flatten(1)


class ColourHistogram(Descriptor):
    """How much of the picture, its white background left out, has which colour.

    A pixel is shared among the colours of a lattice of 5 × 5 × 5 by their distance in CIE L*a*b*
    (a Gaussian of `softness`); the square roots of the shares (Hellinger's distance between
    histograms then is the euclidean one of the features).
    """

    colours: Tensor
    offsets: Tensor

    def __init__(self, *, side: int = 16, levels: int = 5, softness: float = 12.0) -> None:
        super().__init__(side=side)
        steps = [step / (levels - 1) for step in range(levels)]
        lattice = torch.tensor(list(itertools.product(steps, repeat=3)))
        colours = to_lab(lattice[:, :, None, None]).flatten(1)  # [125, 3]
        self.features = len(colours)
        # -|x - c|² / 2s² up to what all colours share, which softmax takes away: one linear map.
        weight, offsets = colours / softness**2, colours.square().sum(dim=1) / (2 * softness**2)
        self.register_buffer("colours", weight[:, :, None, None], persistent=False)
        self.register_buffer("offsets", -offsets, persistent=False)

    def describe(self, rgb: Tensor) -> Tensor:
        shares = functional.conv2d(to_lab(rgb), self.colours, self.offsets).softmax(dim=1)
        shown = torch.sigmoid((WHITE - rgb.amin(dim=1, keepdim=True)) * 40)  # [B, 1, side, side]
        # One pixel more than there are: a blank picture has no colour rather than any.
        total = shown.sum(dim=(2, 3)) + 1.0
        histogram = (shares * shown).sum(dim=(2, 3)) / total
        return (histogram + 1e-8).sqrt()


def to_lab(rgb: Tensor) -> Tensor:
    """sRGB from 0 to 1, [B, 3, H, W], to CIE L*a*b* under D65 (IEC 61966-2-1, CIE 15)."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = torch.tensor(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
        device=rgb.device,
    )
    white = matrix.sum(dim=1, keepdim=True)
    xyz = functional.conv2d(linear, (matrix / white)[:, :, None, None])
    cube = torch.where(xyz > 0.008856, xyz.clamp(min=1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = cube[:, 0], cube[:, 1], cube[:, 2]
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
