"""Judges an encoder on a catalogue: similar items, texts and composed queries beside baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from visualsearch.exceptions import EncoderUnavailableError, QueryError, TrainingError
from visualsearch.ml import baselines
from visualsearch.ml.composed_figures import composed
from visualsearch.ml.data import Catalogue
from visualsearch.ml.exact_search import Vectors
from visualsearch.ml.judge import ImageTextEncoder, Judge, Pixels
from visualsearch.ml.report import COLOUR_HISTOGRAM, ENCODER, RAW_PIXELS, Line, Report
from visualsearch.ml.similar_figures import similar
from visualsearch.ml.slice_figures import slices
from visualsearch.ml.text_figures import texts
from visualsearch.ml.triplet_queries import PublishedTriplet
from visualsearch.ml.wild_figures import wild

__all__ = ["ENCODER", "ImageTextEncoder", "Line", "Report", "evaluate"]

MAX_QUERIES = 2_000
BASELINES: dict[str, Callable[[Pixels], Vectors]] = {
    RAW_PIXELS: baselines.raw_pixels,
    COLOUR_HISTOGRAM: baselines.colour_histogram,
}


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
    judge = Judge(encoder, catalogue, limit=max_queries, seed=seed)
    judge.published = published
    if not catalogue.items:
        raise TrainingError("There are no products to evaluate on: none was held out.")
    judge.look()
    systems = {**(BASELINES if with_baselines else {}), **(beside or {})}
    similar(judge, systems)
    wild(judge)
    reads = _reads_text(encoder)
    if reads:
        texts(judge)
        composed(judge)
    slices(judge)
    judge.report.calibration = judge.calibration.as_dict()
    if whole is not None and reads:
        _in_whole(judge, whole)
    return judge.report


def _in_whole(judge: Judge, whole: Catalogue) -> None:
    places = {item.id: index for index, item in enumerate(whole.items)}
    among = [places[item.id] for item in judge.coded.catalogue.items if item.id in places]
    wider = Judge(
        judge.encoder, whole, limit=judge.limit, seed=judge.seed, among=among, suffix=" (whole)"
    )
    wider.report = judge.report
    wider.published = judge.published
    wider.report.whole = len(whole.items)
    with wider.timed("whole"):
        wider.vectors = judge.encoder.encode_image(wider.gallery.pixels)
    texts(wider)
    composed(wider)


def _reads_text(encoder: ImageTextEncoder) -> bool:
    """Whether there is a text side; pretrained-knn has images only, and says so when asked."""
    try:
        encoder.encode_text(["a"])
    except (QueryError, EncoderUnavailableError):
        return False
    return True
