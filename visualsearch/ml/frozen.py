"""An image encoder with a frozen trunk as its two halves: pixels to features, features to vectors."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from visualsearch.ml.augment import augment
from visualsearch.ml.encoders import ImageEncoder, Thumbnail
from visualsearch.ml.projection import Projection
from visualsearch.ml.wild import wild
from visualsearch.photos.images import PREPROCESSING

VERSION = 1
"""Of descriptors and variations: raised when they change, so that stored rows are not mixed."""


class Features(nn.Module):
    """What never changes while the trunk is frozen: pixels to one row of features an image.

    A row holds the trunk's features, after them the descriptors and the thumbnail that a shallow
    branch reads. `view` 0 is the photo itself; another number is a variation of it, or with `wild`
    what it would look like from a phone, always the same one for the same batch.
    """

    def __init__(self, image: ImageEncoder, *, view: int = 0, is_wild: bool = False) -> None:
        super().__init__()
        self.image = image
        self.view = view
        self.is_wild = is_wild

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> float [B, F]."""
        image = self.image
        generator = torch.Generator(device=pixels.device).manual_seed(self.view)
        if self.is_wild:
            pixels = wild(pixels, generator=generator)
        images = image.normalise(pixels)
        if self.view and not self.is_wild:
            white = (1 - image.mean) / image.std
            images = augment(images, white=white, generator=generator)
        images = images.contiguous(memory_format=torch.channels_last)
        parts = [image.trunk(images).float()]
        parts += [getattr(image, name)(images) for name in image.branches if name != "shallow"]
        rows = torch.cat(parts, dim=1)
        if (shallow := shallow_branch(image)) is not None:
            small = functional.adaptive_avg_pool2d(images, shallow.side)
            rows = torch.cat([rows, small.float().flatten(1)], dim=1)
        return rows


class Heads(nn.Module):
    """What learns while the trunk is frozen: rows of `Features` to vectors.

    Stands in for the image encoder in a training loop; shares its modules, so that what is
    learned here is learned there.
    """

    def __init__(self, image: ImageEncoder) -> None:
        super().__init__()
        self.trunk = nn.Identity()  # where the optimiser looks for a trunk's parameters
        self.project = image.project
        self.blocks = image.blocks
        self.shallow = shallow_branch(image)

    def embed(self, rows: Tensor) -> Tensor:
        """float [B, F] -> unit vectors float [B, width]."""
        return functional.normalize(self.project(self.joined(rows)).float(), dim=1)

    def joined(self, rows: Tensor) -> Tensor:
        """The rows as the projection reads them, with the shallow branch's answer at the end."""
        rows = rows.float()
        if self.shallow is None:
            return rows
        side = self.shallow.side
        pixels = 3 * side**2
        small = rows[:, -pixels:].reshape(-1, 3, side, side)
        return torch.cat([rows[:, :-pixels], self.shallow(small).float()], dim=1)

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """Fixes the projection's standardisation to the training set's rows."""
        if isinstance(self.project, Projection):
            self.project.fit(self.joined(rows), blocks=self.blocks)

    def forward(self, rows: Tensor) -> Tensor:
        return self.embed(rows)


def shallow_branch(image: ImageEncoder) -> Thumbnail | None:
    """The branch on a thumbnail, where the recipe has one."""
    branch = getattr(image, "shallow", None)
    return branch if isinstance(branch, Thumbnail) else None


def features_key(
    image: ImageEncoder, *, trunk: str, image_size: int, view: int = 0, is_wild: bool = False
) -> str:
    """Names what `Features` computes: equal keys mean equal rows for equal pixels."""
    digest = hashlib.blake2b(digest_size=12)
    for name, value in sorted(image.trunk.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    shallow = shallow_branch(image)
    thumbnail = 0 if shallow is None else shallow.side
    kind = "wild view" if is_wild else "view"
    beside = [f"{VERSION}", *(name for name in image.branches if name != "shallow"), f"{thumbnail}"]
    return (
        f"{trunk} {digest.hexdigest()} {image_size} px {PREPROCESSING} {' '.join(beside)} "
        f"{kind} {view}"
    )
