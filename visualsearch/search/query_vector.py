"""A query's vector: words, photo, modification and example products, each with its weight, added up."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np

from visualsearch import encoding
from visualsearch.exceptions import (
    EncoderUnavailableError,
    ImageError,
    PhotoTokenError,
    QueryError,
    VisualSearchError,
)
from visualsearch.models import Checkpoint
from visualsearch.queries.query import Query
from visualsearch.search.nearest import Kind
from visualsearch.tables import stored_vectors
from visualsearch.tables.stored_vectors import Vector

logger = logging.getLogger(__name__)

NOTHING_LEFT = 1e-3
"""Length below which a sum of unit vectors points nowhere in particular."""


class NotIndexedError(Exception):
    """None of the products that were asked about has an embedding yet."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One summand of a query's vector."""

    field: str
    """The part of the request that it comes from: q, image, positive or negative."""
    label: str
    """The words, or the product's key; "" for a photo."""
    weight: float
    vector: Vector
    """float32 [width], length 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryVector:
    """What is looked for in the index."""

    vector: Vector
    """float32 [width], or [photos, width] of a product that alone is asked about."""
    kind: Kind
    match_kind: str
    """Whose calibration tells what a score means: image, text or composed."""
    parts: tuple[Part, ...] = ()
    """What was added up; one part of a product that alone is asked about."""
    photo: Vector | None = None
    """float32 [width] of the photo that was sent, before anything was added to it."""
    reason: str = ""
    """Why a part of the query was ignored, if one was."""


@dataclass(kw_only=True)
class _Sum:
    """The parts as they are found, and what could not be."""

    parts: list[Part] = field(default_factory=list)
    photo: Vector | None = None
    is_composed: bool = False
    reason: str = ""

    def add(self, name: str, label: str, weight: float, vector: Vector) -> None:
        self.parts.append(Part(field=name, label=label, weight=weight, vector=vector))

    def leave_out(self, what: str, error: VisualSearchError) -> None:
        logger.warning("Searching without %s: %s", what, error)
        self.reason = error.code


def encode(query: Query, checkpoint: Checkpoint) -> QueryVector:
    """The vector of `query` by `checkpoint`.

    The parts are added up with their weights: words, the image (changed as `modify` says), the mean
    of the positive products, less that of the negative ones; so it takes no more time than the parts.
    Raises NotIndexedError for products without an embedding, EncoderUnavailableError for words and
    photos that cannot be encoded here, EncoderBusyError, and QueryError if the parts cancel out.
    """
    if query.product is not None and query == Query(product=query.product):
        # Each photo may be the one that is matched.
        photos = _photos(query, checkpoint)
        part = Part(field="image", label=str(query.product.pk), weight=1.0, vector=photos[0])
        return QueryVector(vector=photos, kind=Kind.IMAGE, match_kind="image", parts=(part,))
    total = _Sum()
    _add_image(total, query, checkpoint)
    _add_examples(total, query, checkpoint)
    _add_words(total, query, checkpoint)
    vector = np.sum([part.weight * part.vector for part in total.parts], axis=0)
    fields = {part.field for part in total.parts}
    if total.is_composed:
        kind = Kind.COMPOSED
    elif fields <= {"image"} or fields <= {"positive"}:
        kind = Kind.IMAGE
    else:
        kind = Kind.TEXT if fields <= {"q"} else Kind.COMPOSED
    return QueryVector(
        vector=_unit(vector),
        kind=kind,
        match_kind=_match_kind(fields, is_composed=total.is_composed),
        parts=tuple(total.parts),
        photo=total.photo,
        reason=total.reason,
    )


def _add_image(total: _Sum, query: Query, checkpoint: Checkpoint) -> None:
    """The image, changed as `modify` says."""
    if query.product is not None:
        vector, label = _photos(query, checkpoint)[0], str(query.product.pk)
    elif query.photo_vector is not None:
        if query.photo_vector.checkpoint_id != checkpoint.pk:
            raise PhotoTokenError(
                "The token of the photo is of an earlier checkpoint: send the photo again.",
                field="image",
            )
        vector, label = query.photo_vector.vector, ""
        total.photo = vector
    elif query.photo is not None:
        vector, label = _encode_photo(query, checkpoint), ""
        total.photo = vector
    else:
        return
    if query.modify:
        try:
            changed = encoding.compose_query(checkpoint, vector, query.modify)
            # On the line from the image to what it becomes, and beyond; exact where it is all of it.
            vector = (
                changed
                if query.strength == 1
                else _unit(vector + query.strength * (changed - vector))
            )
            total.is_composed = True
            label = f"{label} {query.modify}".strip()
        except EncoderUnavailableError as error:
            total.leave_out("the words", error)
    total.add("image", label, 1.0, vector)


def _add_examples(total: _Sum, query: Query, checkpoint: Checkpoint) -> None:
    """The mean of the positive products, less that of the negative ones, however many they are."""
    vectors = stored_vectors.of_main_photos(checkpoint, [each.product for each in query.examples])
    for name, sign in (("positive", 1), ("negative", -1)):
        asked = [each for each in query.examples if each.weight * sign > 0]
        known = [each for each in asked if each.product.pk in vectors]
        if asked and not known and sign > 0 and not query.has_image and not query.terms:
            raise NotIndexedError
        for each in known:
            weight = each.weight / len(known)
            total.add(name, str(each.product.pk), weight, vectors[each.product.pk])


def _add_words(total: _Sum, query: Query, checkpoint: Checkpoint) -> None:
    for term in query.terms:
        try:
            vector = encoding.encode_query_text(checkpoint, term.text)
        except EncoderUnavailableError as error:
            if not any(part.weight > 0 for part in total.parts):
                raise
            # Images and products can still be searched for: some recipes read no text.
            total.leave_out("the words", error)
            return
        total.add("q", term.text, term.weight, vector)


def _photos(query: Query, checkpoint: Checkpoint) -> Vector:
    """float32 [photos, width] of the product that stands for the image."""
    assert query.product is not None
    photos = stored_vectors.of_product(checkpoint, query.product)
    if photos is None:
        raise NotIndexedError
    return photos


def _encode_photo(query: Query, checkpoint: Checkpoint) -> Vector:
    assert query.photo is not None
    try:
        return encoding.encode_query_image(checkpoint, query.photo, box=query.box)
    except ImageError as error:
        error.field = error.field or "image"
        raise


def _match_kind(fields: set[str], *, is_composed: bool) -> str:
    if fields == {"q"}:
        return "text"
    return "composed" if is_composed or "q" in fields else "image"


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    if not length > NOTHING_LEFT:
        raise QueryError("The parts of the query cancel each other out: leave some of them out.")
    return np.asarray(vector / length, dtype=np.float32)
