"""The app's encoder for tests, seeing a little differently by the name of its checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visualsearch.testing import FakeEncoder


class SeededEncoder(FakeEncoder):
    """Two checkpoints give the same product different vectors, and so different scores."""

    def __init__(self, folder: Path | str | None = None) -> None:
        super().__init__(folder)
        seed = hashlib.blake2b(Path(str(folder)).name.encode(), digest_size=4).digest()
        self.weights = np.random.default_rng(int.from_bytes(seed)).uniform(0.2, 1.8, self.width)

    def _project(self, features: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        return super()._project([row * self.weights for row in features])
