"""The catalogue as a map: products as a checkpoint sees them, in the two directions that tell them apart most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.utils.translation import gettext as _

from visualsearch import encoding
from visualsearch.admin.neighbour_lists import Shown, show
from visualsearch.exceptions import VisualSearchError
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, Embedding

POINTS = 1200
"""Products on the map; of a larger catalogue every n-th by key."""
TEXTS = 60
"""Titles that are joined to their photos by lines."""
COLOURS = 8
"""Groups with a colour of their own; the rest share one."""
WIDTH, HEIGHT, MARGIN = 960, 640, 16

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A product on the map; x and y are in the units of the picture."""

    product: Shown
    x: float
    y: float
    group: str
    style: int
    """Number of its group's colour, from 1; 0 for all the others."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """From a photo to where the product's title lies."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, kw_only=True)
class Map:
    """What the template draws."""

    points: list[Point]
    lines: list[Line]
    legend: list[tuple[str, int, int]]
    """(group, number of its colour, products)."""
    explained: float
    """Share of the vectors' variance that the two directions show."""
    products: int
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def percent(self) -> int:
        return round(100 * self.explained)


def draw(checkpoint: Checkpoint, *, by: str = "", with_texts: bool = False) -> Map:
    """The map of `checkpoint`, coloured by the attribute `by`, or by label when that is ""."""
    index = get_index()
    keys = list(index.get_queryset().order_by("pk").values_list("pk", flat=True))
    step = max(1, -(-len(keys) // POINTS))
    sampled = keys[::step]
    rows = Embedding.objects.filter(checkpoint=checkpoint, product_id__in=sampled)
    vectors = {
        pk: vector for pk, vector in rows.order_by("-position").values_list("product_id", "vector")
    }
    products = {pk: shown for pk, shown in show(vectors).items()}
    known = [pk for pk in sampled if pk in vectors and pk in products]
    if len(known) < 3:
        return Map(points=[], lines=[], legend=[], explained=0.0, products=len(keys))
    photos = np.array([_numbers(vectors[pk]) for pk in known])
    project, explained = _principal(photos)
    flat = project(photos)
    texts = _titles(checkpoint, [products[pk].title for pk in known]) if with_texts else {}
    ends = project(np.array(list(texts.values()))) if texts else np.zeros((0, 2))
    everything = _fit(np.concatenate([flat, ends]))
    groups = _groups(known, products, by)
    counts = Counter(groups)
    styles = {group: n for n, (group, _) in enumerate(counts.most_common(COLOURS), start=1)}
    points = [
        Point(
            product=products[pk],
            x=float(x),
            y=float(y),
            group=group,
            style=styles.get(group, 0),
        )
        for pk, group, (x, y) in zip(known, groups, everything, strict=False)
    ]
    return Map(
        points=points,
        lines=[
            Line(
                x1=points[at].x,
                y1=points[at].y,
                x2=float(everything[len(known) + number][0]),
                y2=float(everything[len(known) + number][1]),
            )
            for number, at in enumerate(texts)
        ],
        legend=_legend(counts, styles),
        explained=explained,
        products=len(keys),
    )


def _legend(counts: Counter[str], styles: dict[str, int]) -> list[tuple[str, int, int]]:
    """Each group with a colour of its own, and how many share the last one."""
    named = [(group, style, counts[group]) for group, style in styles.items()]
    rest = counts.total() - sum(count for *_, count in named)
    return [*named, (_("others"), 0, rest)] if rest else named


def _titles(checkpoint: Checkpoint, titles: list[str]) -> dict[int, Points]:
    """Number of the product -> vector of its title, for some that are spread over the catalogue."""
    step = max(1, len(titles) // TEXTS)
    try:
        return {
            at: np.asarray(encoding.encode_query_text(checkpoint, titles[at]), dtype=np.float64)
            for at in range(0, len(titles), step)
            if titles[at]
        }
    except VisualSearchError:
        return {}  # a checkpoint that reads no text, or whose files are gone, still has a map


def _groups(known: list[Any], products: dict[Any, Shown], by: str) -> list[str]:
    if not by:
        return [products[pk].label for pk in known]
    index = get_index()
    found = index.with_related(index.get_queryset().filter(pk__in=known))
    values = {product.pk: index.get_attributes(product).get(by, "") for product in found}
    return [values.get(pk, "") for pk in known]


def _numbers(vector: Any) -> Points:
    return np.asarray(vector.to_list() if hasattr(vector, "to_list") else vector, dtype=np.float64)


def _principal(vectors: Points) -> tuple[Any, float]:
    """A projection onto the first two principal components, and the variance they explain."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    values, directions = np.linalg.eigh(centred.T @ centred)
    axes = directions[:, ::-1][:, :2]
    # The sign of an eigenvector is arbitrary; with this one the map is the same every time.
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    total = float(values.sum())
    explained = float(values[-2:].sum()) / total if total > 0 else 0.0

    def project(others: Points) -> Points:
        return (others - mean) @ axes

    return project, explained


def _fit(points: Points) -> Points:
    """The points stretched to the picture, with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high - low > 0, high - low, 1.0)
    size = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    placed: Points = MARGIN + (points - low) / span * size
    return placed
