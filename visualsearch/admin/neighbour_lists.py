"""What the inspector shows: the nearest products by one checkpoint, and where two of them differ most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.urls import NoReverseMatch, reverse

from visualsearch import encoding
from visualsearch.indexes import VisualIndex, get_index
from visualsearch.models import Checkpoint, SimilarProduct
from visualsearch.search.nearest import Kind, NearestProducts
from visualsearch.tables import stored_vectors
from visualsearch.tables.stored_vectors import Vector

SHOWN = 10
SAMPLE = 2000
"""Products whose neighbours are compared; the first by key of those that both checkpoints know."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A product as the admin's lists show it."""

    pk: Any
    title: str
    image_url: str
    label: str
    attributes: str
    url: str
    score: float | None = None
    is_shared: bool = True
    """Whether the list it is compared with has it as well."""
    verdict: str = ""
    """What staff said of it beside the product whose neighbours these are."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A product and its neighbours by two checkpoints."""

    product: Shown
    before: list[Shown]
    after: list[Shown]
    shared: int


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The products whose neighbours differ most between two checkpoints."""

    compared: int
    """Products that were compared."""
    mean_shared: float
    """How many of the first SHOWN neighbours are the same, on average."""
    most: list[Change]


def by_product(checkpoint: Checkpoint, product: models.Model) -> list[tuple[Any, float | None]]:
    """(key, cosine) of the nearest others; empty while the checkpoint has not embedded it."""
    vectors = stored_vectors.of_product(checkpoint, product)
    if vectors is None:
        return []
    return _search(checkpoint, vectors, Kind.IMAGE, without=product.pk)


def by_text(checkpoint: Checkpoint, text: str) -> list[tuple[Any, float | None]]:
    """(key, cosine) of the products nearest to the words."""
    return _search(checkpoint, encoding.encode_query_text(checkpoint, text), Kind.TEXT)


def by_change(
    checkpoint: Checkpoint, product: models.Model, text: str
) -> list[tuple[Any, float | None]]:
    """(key, cosine) of what is like the product but as `text` says."""
    vectors = stored_vectors.of_product(checkpoint, product)
    if vectors is None:
        return []
    vector = encoding.compose_query(checkpoint, vectors[0], text)
    return _search(checkpoint, vector, Kind.COMPOSED, without=product.pk)


def by_photo(checkpoint: Checkpoint, data: bytes) -> list[tuple[Any, float | None]]:
    """(key, cosine) of the products nearest to a photo, which is not kept."""
    return _search(checkpoint, encoding.encode_query_image(checkpoint, data), Kind.IMAGE)


def side_by_side(lists: Sequence[Sequence[tuple[Any, float | None]]]) -> list[list[Shown]]:
    """Lists of (key, score) as products to show, with what only one of two lists has marked."""
    shown = show({key for each in lists for key, _ in each})
    keys = [{key for key, _ in each} for each in lists]
    everywhere = set.intersection(*keys) if len(keys) > 1 else set().union(*keys)
    return [
        [
            _scored(shown[key], score, is_shared=key in everywhere)
            for key, score in each
            if key in shown
        ]
        for each in lists
    ]


def add_verdicts(columns: Iterable[dict[str, Any]], verdicts: Mapping[Any, str]) -> None:
    """What staff said of the hits beside the product that was asked about."""
    for column in columns:
        column["hits"] = [
            Shown(**{**vars(each), "verdict": verdicts.get(each.pk, "")}) for each in column["hits"]
        ]


def changes(before: Checkpoint, after: Checkpoint, *, most: int = SHOWN) -> Changes:
    """Where `after` differs most from `before`, by their precomputed neighbours."""
    rows = SimilarProduct.objects.filter(rank__lte=SHOWN)
    known = rows.filter(checkpoint=before).order_by().values("source_id")
    sources = list(
        rows.filter(checkpoint=after, rank=1, source_id__in=known)
        .order_by("source_id")
        .values_list("source_id", flat=True)[:SAMPLE]
    )
    old, new = (_neighbours(rows, checkpoint, sources) for checkpoint in (before, after))
    shared = {key: len({k for k, _ in old[key]} & {k for k, _ in new[key]}) for key in sources}
    worst = sorted(sources, key=lambda key: shared[key])[:most]
    products = show([*worst, *(k for key in worst for k, _ in (*old[key], *new[key]))])
    found = []
    for key in worst:
        if key in products:
            left, right = side_by_side([old[key], new[key]])
            found.append(
                Change(product=products[key], before=left, after=right, shared=shared[key])
            )
    return Changes(
        compared=len(sources),
        mean_shared=sum(shared.values()) / len(shared) if shared else 0.0,
        most=found,
    )


def find(key: str) -> models.Model | None:
    """The product of the index with this key; None for what is none."""
    index = get_index()
    try:
        cleaned = index.model._meta.pk.to_python(key)
        return index.get_queryset().filter(pk=cleaned).first()
    except Exception:  # each field type has its own way of refusing; all mean "no such product"
        return None


def show(keys: Iterable[Any]) -> dict[Any, Shown]:
    """key -> what is shown of the product, in two or three queries."""
    index = get_index()
    products = index.with_related(index.get_queryset().filter(pk__in=set(keys)))
    return {product.pk: _shown(index, product) for product in products}


def _search(
    checkpoint: Checkpoint, vector: Vector, kind: Kind, *, without: Any = None
) -> list[tuple[Any, float | None]]:
    allowed = get_index().get_queryset()
    if without is not None:
        allowed = allowed.exclude(pk=without)
    source = NearestProducts(checkpoint=checkpoint, vector=vector, kind=kind, allowed=allowed)
    return [(match.product_id, match.score) for match in source.block(0).matches[:SHOWN]]


def _neighbours(
    rows: models.QuerySet[SimilarProduct], checkpoint: Checkpoint, sources: Sequence[Any]
) -> Mapping[Any, list[tuple[Any, float | None]]]:
    found: defaultdict[Any, list[tuple[Any, float | None]]] = defaultdict(list)
    wanted = rows.filter(checkpoint=checkpoint, source_id__in=sources).order_by("source_id", "rank")
    for source, target, score in wanted.values_list("source_id", "target_id", "score"):
        found[source].append((target, score))
    return found


def _shown(index: VisualIndex, product: models.Model) -> Shown:
    images = index.get_images(product)
    meta = index.model._meta
    try:
        url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[product.pk])
    except NoReverseMatch:
        url = index.get_url(product)
    return Shown(
        pk=product.pk,
        title=index.get_title(product),
        image_url=images[0].url if images else "",
        label=index.get_label(product),
        attributes=", ".join(index.get_attributes(product).values()),
        url=url,
    )


def _scored(shown: Shown, score: float | None, *, is_shared: bool) -> Shown:
    return Shown(**{**vars(shown), "score": score, "is_shared": is_shared})
