"""An encoder on a gallery: what every part of an evaluation asks, notes and times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from visualsearch.ml import metrics
from visualsearch.ml.calibration import Calibration
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Catalogue
from visualsearch.ml.exact_search import Found, Gallery, Vectors
from visualsearch.ml.queries import Indices
from visualsearch.ml.report import CHANCE, Asked, Report
from visualsearch.ml.triplet_queries import PublishedTriplet

Pixels = npt.NDArray[np.uint8]


class ImageTextEncoder(Protocol):
    """The part of the Encoder protocol that evaluation needs."""

    width: int

    def encode_image(self, pixels: Pixels) -> Vectors: ...
    def encode_text(self, texts: list[str]) -> Vectors: ...
    def compose(self, image_vectors: Vectors, text_vectors: Vectors) -> Vectors: ...


class Judge:
    """One encoder on one gallery, and the report that the parts of an evaluation fill."""

    def __init__(
        self,
        encoder: ImageTextEncoder,
        catalogue: Catalogue,
        *,
        limit: int,
        seed: int,
        among: list[int] | None = None,
        suffix: str = "",
    ) -> None:
        self.encoder = encoder
        self.limit = limit
        self.seed = seed
        self.among = among
        self.suffix = suffix
        self.published: Sequence[PublishedTriplet] = ()
        self.coded = CodedCatalogue(catalogue)
        self.gallery = Gallery(catalogue, self.coded.codes)
        self.report = Report(gallery=len(catalogue.items))
        self.calibration = Calibration()
        self.vectors: Vectors = np.zeros((0, encoder.width), np.float32)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        spent = self.report.seconds.get(part, 0.0)
        self.report.seconds[part] = spent + time.perf_counter() - started

    def look(self) -> None:
        """Encodes the gallery, once for all that follows."""
        with self.timed("encode"):
            self.vectors = self.encoder.encode_image(self.gallery.pixels)
        self.report.vectors = self.vectors[self.gallery.first]
        self.report.health = metrics.health(self.report.vectors)

    def chance(self, section: str, metric: str, values: npt.NDArray[np.floating]) -> None:
        """What a random order would give: no interval, it is known."""
        value = float(values.mean())
        figure = metrics.Estimate(value, value, value, len(values))
        self.report.add_estimate(section, metric, CHANCE, figure)

    def remember(
        self,
        section: str,
        name: str,
        products: Indices,
        texts: list[str],
        found: Found,
        rows: Indices,
        *,
        with_photo: bool = True,
        photos: Pixels | None = None,
    ) -> None:
        if self.suffix:
            return  # its indices are of another catalogue than the report's
        self.report.asked.append(
            Asked(
                section=section,
                name=name,
                products=products[rows],
                texts=[texts[i] for i in rows] if texts else [],
                with_photo=with_photo,
                found=found.take(rows),
                photos=photos,
            )
        )
