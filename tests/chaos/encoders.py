"""Encoders for workers that are to be caught at work: slow, deadly on some photos, counting."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from visualsearch.testing import FakeEncoder

POISON = (1, 2, 3)
"""A photo of this one colour kills the process that encodes it, as a fault in a native library does."""


class SlowEncoder(FakeEncoder):
    """Takes CHAOS_SECONDS for every batch, so that a kill finds it at work."""

    def encode_image(self, pixels: Any) -> Any:
        time.sleep(float(os.environ.get("CHAOS_SECONDS", "0.2")))
        return super().encode_image(pixels)


class DeadlyEncoder(SlowEncoder):
    def encode_image(self, pixels: Any) -> Any:
        if np.any(np.all(pixels.reshape(len(pixels), -1, 3) == POISON, axis=(1, 2))):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_image(pixels)


class CountingEncoder(FakeEncoder):
    """Adds a line to the file CHAOS_COUNT for every image."""

    def encode_image(self, pixels: Any) -> Any:
        with open(os.environ["CHAOS_COUNT"], "a") as file:
            file.write("image\n" * len(pixels))
        return super().encode_image(pixels)
