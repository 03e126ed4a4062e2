"""What pixels become before a trunk reads them: ImageNet's channel means and deviations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Of pixels from 0 to 1, red, green and blue: what torchvision's weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Renormalise(nn.Module):
    """First layer of a trunk whose weights expect other means and deviations than ImageNet's.

    A part of the trunk, so that training, the exported graph and every branch read the same.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """mean, std: what the weights expect, of pixels from 0 to 1."""
        super().__init__()
        wanted = torch.tensor(tuple(std))
        gain = torch.tensor(STD) / wanted
        shift = (torch.tensor(MEAN) - torch.tensor(tuple(mean))) / wanted
        self.register_buffer("gain", gain.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """float [B, 3, S, S] by ImageNet's figures -> the same by this trunk's."""
        return images * self.gain + self.shift
