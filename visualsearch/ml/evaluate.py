"""Judges an encoder on a catalogue: similar items, texts and composed queries beside baselines."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from visualsearch.exceptions import EncoderUnavailableError, QueryError, TrainingError
from visualsearch.ml import baselines, metrics, modifications, phrases, queries
from visualsearch.ml.calibration import Calibration
from visualsearch.ml.coding import MISSING, CodedCatalogue, Codes
from visualsearch.ml.data import Catalogue
from visualsearch.ml.exact_search import Found, Gallery, Vectors
from visualsearch.ml.modifications import ComposedQueries
from visualsearch.ml.queries import Indices, Queries
from visualsearch.ml.report import (
    CHANCE,
    COLOUR_HISTOGRAM,
    COMPOSED,
    ENCODER,
    RAW_PIXELS,
    Asked,
    Line,
    Report,
)
from visualsearch.ml.triplet_queries import PublishedTriplet, file_queries
from visualsearch.ml.wild_photos import wild_sets

__all__ = ["ENCODER", "ImageTextEncoder", "Line", "Report", "evaluate"]

Pixels = npt.NDArray[np.uint8]

MAX_QUERIES = 2_000
WILD_QUERIES = 500
"""Each of them is a photo to encode, twice."""
MIN_SLICE = 100
"""Queries that a slice of the catalogue must have to be reported."""
MIN_PAIRS = 20
"""Fewer pairs of titles say nothing."""
BASELINES: dict[str, Callable[[Pixels], Vectors]] = {
    RAW_PIXELS: baselines.raw_pixels,
    COLOUR_HISTOGRAM: baselines.colour_histogram,
}
# Attributes reported one by one; a catalogue may have dozens of columns.
MAX_ATTRIBUTES = 4
CALIBRATED_TEXTS = ("attributes", "kind query", "colour query")
"""What shoppers type: a match is a product that is so, not one of that very title."""
IMAGE_ONLY, TEXT_ONLY, SUM, DIRECTION = "image-only", "text-only", "sum", "direction"


class ImageTextEncoder(Protocol):
    """The part of the Encoder protocol that evaluation needs."""

    width: int

    def encode_image(self, pixels: Pixels) -> Vectors: ...
    def encode_text(self, texts: list[str]) -> Vectors: ...
    def compose(self, image_vectors: Vectors, text_vectors: Vectors) -> Vectors: ...


def evaluate(
    encoder: ImageTextEncoder,
    catalogue: Catalogue,
    *,
    with_baselines: bool = True,
    beside: Mapping[str, Callable[[Pixels], Vectors]] | None = None,
    whole: Catalogue | None = None,
    published: Sequence[PublishedTriplet] = (),
    max_queries: int = MAX_QUERIES,
    seed: int = 0,
) -> Report:
    """Searches the catalogue's own products for each other; give the held-out side of a split.

    A product's score is that of its best photo; queries by image use its first photo and never
    find the product itself. Lines that the catalogue cannot give (no groups, no texts) are absent.
    `beside`: more baselines by name, such as the `encode_image` of a frozen trunk. With `whole`,
    the catalogue that `catalogue` was split from, texts and composed queries are searched for in
    all its products as well, in sections of their own. `published`: composed queries that came with
    the data set, see `triplet_queries`; they have lines beside those made of attributes.
    """
    judge = _Evaluation(encoder, catalogue, limit=max_queries, seed=seed)
    judge.published = published
    if not catalogue.items:
        raise TrainingError("There are no products to evaluate on: none was held out.")
    judge.look()
    systems = {**(BASELINES if with_baselines else {}), **(beside or {})}
    judge.similar(systems)
    judge.wild()
    reads = _reads_text(encoder)
    if reads:
        judge.texts()
        judge.composed()
    judge.slices()
    judge.report.calibration = judge.calibration.as_dict()
    if whole is not None and reads:
        _in_whole(judge, whole)
    return judge.report


def _in_whole(judge: _Evaluation, whole: Catalogue) -> None:
    places = {item.id: index for index, item in enumerate(whole.items)}
    among = [places[item.id] for item in judge.coded.catalogue.items if item.id in places]
    wider = _Evaluation(
        judge.encoder, whole, limit=judge.limit, seed=judge.seed, among=among, suffix=" (whole)"
    )
    wider.report = judge.report
    wider.published = judge.published
    wider.report.whole = len(whole.items)
    with wider.timed("whole"):
        wider.vectors = judge.encoder.encode_image(wider.gallery.pixels)
    wider.texts()
    wider.composed()


class _Evaluation:
    """One encoder on one gallery, part by part."""

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

    def similar(self, systems: Mapping[str, Callable[[Pixels], Vectors]]) -> None:
        asked = queries.product_queries(
            self.coded, limit=self.limit, seed=self.seed, among=self.among
        )
        codes = self.coded.codes[asked.products]
        columns = queries.similar_columns(self.coded, attributes=MAX_ATTRIBUTES)
        columns["same group"] = [self.coded.group_column]
        wanted: dict[str, Codes] = {}
        for name, chosen in columns.items():
            wanted[name] = np.tile(self.coded.nothing(), (len(asked), 1))
            wanted[name][:, chosen] = codes[:, chosen]
        for system in (ENCODER, *systems):
            with self.timed("similar" if system == ENCODER else "baselines"):
                vectors = self.vectors
                if system != ENCODER:
                    vectors = systems[system](self.gallery.pixels)
                found = self.gallery.search(
                    vectors[self.gallery.first[asked.products]],
                    vectors,
                    wanted,
                    excluded=asked.products,
                )
            with self.timed("figures"):
                if system == ENCODER:
                    self._calibrate_similar(asked, wanted)
                for name, each in found.items():
                    has = (codes[:, columns[name]] != MISSING).all(axis=1)
                    self._similar_lines(name, system, asked, each, has)

    def _calibrate_similar(self, asked: Queries, wanted: Mapping[str, Codes]) -> None:
        """Right is what is of the same kind; where none is known, what is of the same design."""
        column = 0 if (self.coded.codes[:, 0] != MISSING).any() else self.coded.group_column
        rows = np.flatnonzero(self.coded.codes[asked.products, column] != MISSING)
        if not len(rows):
            return
        self.calibration.add(
            "image",
            self.gallery,
            self.vectors[self.gallery.first[asked.products[rows]]],
            self.vectors,
            wanted["same group" if column else "kind"][rows],
            units=[asked.units[i] for i in rows],
            excluded=asked.products[rows],
            seed=self.seed,
        )

    def _similar_lines(
        self, name: str, system: str, asked: Queries, found: Found, has: npt.NDArray[np.bool_]
    ) -> None:
        group = name == "same group"
        if group:  # a design of one product has nothing to find
            has = has & (found.right > 0)
        rows = np.flatnonzero(has)
        if not len(rows):
            return
        keys, units = [asked.keys[i] for i in rows], [asked.units[i] for i in rows]
        figures = {
            f"{name} recall@10": found.recall,
            f"{name} MRR": metrics.reciprocal(found.ranks),
        }
        if not group:
            figures = {f"{name} P@10": found.precision}
        for metric, values in figures.items():
            self.report.add("similar", metric, system, values[rows], keys=keys, units=units)
        if system == ENCODER:
            self._remember("similar", name, asked.products, [], found, rows)

    def texts(self) -> None:
        options = {"limit": self.limit, "seed": self.seed}
        first = self.coded.names[0] if self.coded.names else ""
        colour = next((name for name in self.coded.names if phrases.is_colour(name)), "")
        sets = {
            "title": queries.title_queries(self.coded, among=self.among, **options),
            "full text": queries.full_text_queries(self.coded, first, among=self.among, **options),
            "attributes": queries.attribute_queries(self.coded, among=self.among, **options),
            "kind query": queries.value_queries(self.coded, 0, among=self.among, **options),
        }
        if colour:
            column = 1 + self.coded.names.index(colour)
            sets["colour query"] = queries.value_queries(
                self.coded, column, among=self.among, **options
            )
        for name, asked in sets.items():
            if len(asked):
                self._text_lines(name, asked)

    def _text_lines(self, name: str, asked: Queries) -> None:
        section = f"text{self.suffix}"
        with self.timed(section):
            vectors = self.encoder.encode_text(asked.texts)
            found = self.gallery.search(vectors, self.vectors, {"": asked.wanted})[""]
        if name in CALIBRATED_TEXTS and not self.suffix:
            self.calibration.add(
                "text",
                self.gallery,
                vectors,
                self.vectors,
                asked.wanted,
                units=asked.units,
                seed=self.seed,
            )
        with self.timed("figures"):
            add = functools.partial(self.report.add, section, keys=asked.keys, units=asked.units)
            ranks = found.ranks
            for k in (1, 5, 10):
                metric = f"{name} R@{k}"
                add(metric, ENCODER, metrics.hits_at(ranks, k))
                chance = metrics.chance_hits_at(found.right, len(self.gallery), k)
                self._chance(section, metric, chance)
            add(f"{name} MRR", ENCODER, metrics.reciprocal(ranks))
            middle = metrics.estimate(ranks, statistic=lambda v: float(np.median(v)))
            self.report.add_estimate(section, f"{name} median rank", ENCODER, middle)
            if name not in ("title", "full text"):
                # "Blue dress" has many answers: the share of the ten shown that are right.
                metric = f"{name} P@10"
                add(metric, ENCODER, found.precision)
                self._chance(section, metric, found.right / len(self.gallery))
        rows = np.arange(len(asked))
        self._remember(section, name, asked.products, asked.texts, found, rows, with_photo=False)

    def composed(self) -> None:
        limit = 2 * self.limit
        varied = modifications.variant_attributes(self.coded)[:MAX_ATTRIBUTES]
        asked = [
            modifications.variant_queries(
                self.coded, name, limit=limit, seed=self.seed, among=self.among
            )
            for name in varied
        ]
        # The attribute that varies most has lines of its own; then all of them together.
        sets = asked[:1]
        if len(asked) > 1:
            every = modifications.joined(asked, name="any attribute", limit=limit, seed=self.seed)
            sets.append(every)
        sets += [
            each
            for each in modifications.title_word_queries(
                self.coded, limit=limit, seed=self.seed, among=self.among
            )
            if len(each) >= MIN_PAIRS
        ]
        if self.published:
            sets.append(
                file_queries(
                    self.coded, self.published, limit=limit, seed=self.seed, among=self.among
                )
            )
        for each in sets:
            if len(each):
                self._composed_lines(each)

    def _composed_lines(self, asked: ComposedQueries) -> None:
        """Image-only, text-only, their sum and the composer side by side: the gap is what counts."""
        section = f"composed{self.suffix}"
        hits: dict[str, npt.NDArray[np.floating]] = {}
        add = functools.partial(self.report.add, section, keys=asked.keys, units=asked.units)
        for system, query in self._composed_systems(asked).items():
            with self.timed(section):
                found = self.gallery.search(
                    query,
                    self.vectors,
                    {"": asked.wanted},
                    excluded=asked.references,
                    codes=asked.codes,
                )[""]
            with self.timed("figures"):
                figures = {
                    f"{asked.name} R@{k}": metrics.hits_at(found.ranks, k) for k in (1, 10, 50)
                }
                figures[f"{asked.name} MRR"] = metrics.reciprocal(found.ranks)
                hits[system] = figures[f"{asked.name} R@10"]
                for metric, values in figures.items():
                    add(metric, system, values, macro=True)
            if system == COMPOSED and not self.suffix:
                self.calibration.add(
                    "composed",
                    self.gallery,
                    query,
                    self.vectors,
                    asked.wanted,
                    units=asked.keys,
                    excluded=asked.references,
                    codes=asked.codes,
                    seed=self.seed,
                )
            if system == COMPOSED:
                rows = np.arange(len(asked))
                self._remember(section, asked.name, asked.references, asked.texts, found, rows)
        if COMPOSED in hits:
            # A query that the photo alone or the words alone answer asks nothing of composition.
            single = max(
                (IMAGE_ONLY, TEXT_ONLY),
                key=lambda name: self.report.value(section, f"{asked.name} R@10", name),
            )
            gap = hits[COMPOSED] - hits[single]
            add(f"{asked.name} gap", COMPOSED, gap, macro=True)

    def _composed_systems(self, asked: ComposedQueries) -> dict[str, Vectors]:
        with self.timed(f"composed{self.suffix}"):
            image = self.vectors[self.gallery.first[asked.references]]
            encode = self._encode_once
            text = encode(asked.texts)
            systems = {IMAGE_ONLY: image, TEXT_ONLY: text, SUM: _unit(image + text)}
            # Needs no training: what the catalogue's own words say of before and after.
            systems[DIRECTION] = _unit(image + encode(asked.after) - encode(asked.before))
            try:
                return {COMPOSED: self.encoder.compose(image, text), **systems}
            except (QueryError, EncoderUnavailableError):
                return systems  # the recipe has no composer

    def _encode_once(self, texts: list[str]) -> Vectors:
        """As `encode_text`, each distinct text once: a few dozen sentences make thousands."""
        distinct = list(dict.fromkeys(texts))
        places = {text: place for place, text in enumerate(distinct)}
        vectors: Vectors = self.encoder.encode_text(distinct)[[places[text] for text in texts]]
        return vectors

    def wild(self) -> None:
        """Photos as a shopper would take them: cropped, in other light, on a table."""
        asked = queries.product_queries(
            self.coded, limit=min(self.limit, WILD_QUERIES), seed=self.seed, among=self.among
        )
        clean = self.gallery.pixels[self.gallery.first[asked.products]]
        for name, photos in wild_sets(clean, seed=self.seed):
            with self.timed("wild"):
                vectors = self.encoder.encode_image(photos)
                found = self.gallery.find(vectors, self.vectors, asked.products)
            with self.timed("figures"):
                figures = {
                    f"{name} R@1": metrics.hits_at(found.ranks, 1),
                    f"{name} R@10": metrics.hits_at(found.ranks, 10),
                    f"{name} MRR": metrics.reciprocal(found.ranks),
                }
                for metric, values in figures.items():
                    self.report.add(
                        "wild", metric, ENCODER, values, keys=asked.keys, units=asked.units
                    )
            rows = np.arange(len(asked))
            self._remember("wild", name, asked.products, [], found, rows, photos=photos)

    def slices(self) -> None:
        """The figure of the main query set for each kind, and for men, women and children."""
        report, section, metric = self.report, "text", "title MRR"
        if (section, metric, ENCODER) not in report.per_query:
            section, metric = "similar", "kind P@10"
        whole = report.per_query.get((section, metric, ENCODER))
        if whole is None:
            return
        asked = next(
            each
            for each in report.asked
            if (each.section, each.name) == (section, metric.rpartition(" ")[0])
        )
        columns = {"kind": 0}
        if gender := queries.gender_attribute(self.coded):
            columns[gender] = 1 + self.coded.names.index(gender)
        for name, column in columns.items():
            codes = self.coded.codes[asked.products, column]
            for code in np.unique(codes[codes != MISSING]):
                rows = np.flatnonzero(codes == code)
                if len(rows) < MIN_SLICE:
                    continue
                item = self.coded.catalogue.items[int(asked.products[rows[0]])]
                value = item.attributes.get(name, "") if column else item.label
                report.add(
                    "slices",
                    f"{metric}, {name} {value}",
                    ENCODER,
                    whole.values[rows],
                    keys=[whole.keys[i] for i in rows],
                    units=[whole.units[i] for i in rows],
                )

    def _chance(self, section: str, metric: str, values: npt.NDArray[np.floating]) -> None:
        """What a random order would give: no interval, it is known."""
        value = float(values.mean())
        figure = metrics.Estimate(value, value, value, len(values))
        self.report.add_estimate(section, metric, CHANCE, figure)

    def _remember(
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


def _reads_text(encoder: ImageTextEncoder) -> bool:
    """Whether there is a text side; pretrained-knn has images only, and says so when asked."""
    try:
        encoder.encode_text(["a"])
    except (QueryError, EncoderUnavailableError):
        return False
    return True


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
