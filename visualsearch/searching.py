"""Query -> ranked products: similar products, words, a photo, and "like this but…"."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from django.db import models
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest

from visualsearch import encoding, indexes, nearest, visibility
from visualsearch import filters as filtering
from visualsearch import query as queries
from visualsearch.deadlines import bounded
from visualsearch.exceptions import EncoderUnavailableError, ImageError, NoCheckpointError
from visualsearch.lexical import LexicalMatches, SameKind, same_kind
from visualsearch.models import Checkpoint, Embedding, SimilarProduct
from visualsearch.nearest import Kind, NearestProducts, Vector
from visualsearch.query import Query
from visualsearch.results import Found, Match, Results, Source

logger = logging.getLogger(__name__)

NOT_INDEXED = "not_indexed"
"""Reason of a degraded answer: the product has no embedding by the live checkpoint yet."""


def search(
    text: str | None = None,
    *,
    image: Any = None,
    modify: str | None = None,
    box: Any = None,
    queryset: models.QuerySet[Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    limit: int | None = None,
    request: HttpRequest | None = None,
) -> Results:
    """Products that answer the words, the image, or the image changed as `modify` says.

    `image` is bytes, an open file or a product; a product is not among its own results. Of
    `queryset`, which may have any conditions and annotations, only what the index has and `request`
    may see is searched. `limit` caps the results; without it they can be paged through.

    Raises QueryError and ImageError for what cannot be asked, NoCheckpointError or
    EncoderUnavailableError for a photo that nothing can look at, EncoderBusyError when waiting
    helps. Words and products are answered without vectors then: `Results.degraded`.
    """
    query = Query.of(text, image=image, modify=modify, box=box)
    scope = _Scope(queryset=queryset, filters=filters, request=request, without=query.product)
    if limit is not None:
        limit = queries.clean_limit(limit)
    checkpoint = Checkpoint.objects.live()
    try:
        if checkpoint is None:
            raise NoCheckpointError(
                "Nothing has been trained yet, so photos cannot be searched for: search by words, "
                "or come back when training has finished."
            )
        vector, kind, reason = _encode(query, checkpoint)
    except (NoCheckpointError, EncoderUnavailableError) as error:
        if query.photo is not None:
            raise
        logger.warning("Answering without vectors: %s", error)
        return scope.results(_without_vectors(query, scope), limit=limit, reason=error.code)
    except _NotIndexed:
        return scope.results(_without_vectors(query, scope), limit=limit, reason=NOT_INDEXED)
    source = NearestProducts(checkpoint=checkpoint, vector=vector, kind=kind, allowed=scope.allowed)
    return scope.results(source, limit=limit, checkpoint=checkpoint.name, reason=reason)


def similar_to(
    product: models.Model,
    *,
    queryset: models.QuerySet[Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    limit: int = 8,
    request: HttpRequest | None = None,
) -> Results:
    """Products that look like this one: precomputed where enough of them match, else searched.

    A product that has no embedding yet gets others of its kind: `Results.degraded`.
    """
    limit = queries.clean_limit(limit)
    scope = _Scope(queryset=queryset, filters=filters, request=request, without=product)
    matches, name = _precomputed(product, scope, limit=limit)
    if len(matches) == limit:
        return scope.results(Found(matches=matches, exact=False), limit=limit, checkpoint=name)
    return search(image=product, queryset=queryset, filters=filters, limit=limit, request=request)


class _Scope:
    """What may be found, and how it becomes hits."""

    def __init__(
        self,
        *,
        queryset: models.QuerySet[Any] | None,
        filters: Mapping[str, Any] | None,
        request: HttpRequest | None,
        without: models.Model | None,
    ) -> None:
        self.index = indexes.get_index()
        self.queryset = queryset
        conditions = filtering.parse(self.index, filters or {})
        products = visibility.allowed(self.index, request=request, queryset=queryset)
        products = filtering.apply(self.index, products, conditions)
        self.allowed = products if without is None else products.exclude(pk=without.pk)

    def results(
        self,
        source: Source,
        *,
        limit: int | None,
        checkpoint: str | None = None,
        reason: str = "",
    ) -> Results:
        load = partial(
            visibility.fetch,
            self.index,
            self.allowed,
            self.queryset,
            with_images=checkpoint is None,
        )
        return Results(
            source, load=load, index=self.index, limit=limit, checkpoint=checkpoint, reason=reason
        )


class _NotIndexed(Exception):
    """The product that was asked about has no embedding yet."""


def _encode(query: Query, checkpoint: Checkpoint) -> tuple[Vector, Kind, str]:
    """The query's vector or vectors, their kind, and why if a part of the query was ignored."""
    if not query.has_image:
        return encoding.encode_query_text(checkpoint, query.text), Kind.TEXT, ""
    if query.product is not None:
        photos = nearest.stored_vectors(checkpoint, query.product)
        if photos is None:
            raise _NotIndexed
        # Words change one photo; alone, each photo may be the one that is matched.
        vector = photos[0] if query.modify or query.text else photos
    else:
        vector = _encode_photo(query, checkpoint)
    kind, reason = Kind.IMAGE, ""
    try:
        if query.modify:
            vector, kind = encoding.compose_query(checkpoint, vector, query.modify), Kind.COMPOSED
        if query.text:
            vector = vector + encoding.encode_query_text(checkpoint, query.text)
            norm = float(np.linalg.norm(vector))
            if norm > 1e-6:  # words that say the exact opposite leave nothing to look for
                vector = vector / norm
            kind = Kind.COMPOSED
    except EncoderUnavailableError as error:
        # The image alone can still be searched for: some recipes read no text.
        logger.warning("Searching by the image alone: %s", error)
        reason = error.code
    return vector, kind, reason


def _encode_photo(query: Query, checkpoint: Checkpoint) -> Vector:
    assert query.photo is not None
    try:
        return encoding.encode_query_image(checkpoint, query.photo, box=query.box)
    except ImageError as error:
        error.field = error.field or "image"
        raise


def _without_vectors(query: Query, scope: _Scope) -> Source:
    """The lexical answer: by words, of the product's kind if one is named."""
    words = f"{query.text} {query.modify}".strip()
    if query.product is None:
        return LexicalMatches(index=scope.index, allowed=scope.allowed, text=words)
    if words:
        kind = same_kind(scope.index, scope.allowed, query.product)
        source = LexicalMatches(index=scope.index, allowed=kind, text=words)
        if source.block(0).matches:
            return source
    return SameKind(index=scope.index, allowed=scope.allowed, product=query.product)


def _precomputed(
    product: models.Model, scope: _Scope, *, limit: int
) -> tuple[tuple[Match, ...], str | None]:
    """The product's neighbours by the live checkpoint that are allowed, and its name: one query."""
    photo = Embedding.objects.filter(
        checkpoint_id=OuterRef("checkpoint_id"),
        product_id=OuterRef("target_id"),
        position=OuterRef("position"),
    )
    rows = (
        SimilarProduct.objects.filter(
            checkpoint_id=Subquery(Checkpoint.objects.filter(state="live").values("pk")[:1]),
            source_id=product.pk,
            target_id__in=scope.allowed.order_by().values("pk"),
        )
        .order_by("rank")
        .values_list(
            "target_id",
            "score",
            "position",
            Subquery(photo.values("image")[:1]),
            Subquery(Checkpoint.objects.filter(state="live").values("name")[:1]),
        )[:limit]
    )
    with bounded():
        found = list(rows)
    matches = tuple(
        Match(product_id=target, score=score, position=position, image_name=image or "")
        for target, score, position, image, _ in found
    )
    return matches, found[0][4] if found else None
