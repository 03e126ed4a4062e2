"""A product's neighbours as the worker has stored them: one statement, no encoder, no vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models

from visualsearch.search.calibration import Curve
from visualsearch.search.results import Match
from visualsearch.search.subquery import Subquery
from visualsearch.tables import deadlines, keys


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest products first, and the checkpoint that found them."""

    matches: tuple[Match, ...] = ()
    checkpoint: str | None = None
    curve: Curve | None = None
    """What their scores mean, where that was calibrated."""


# Written by hand: the ORM takes longer to put it together than Postgres to answer it. What is live
# is read by the same statement, so that a promotion cannot come between.
# A checkpoint's metrics are long: they are opened once, not for each neighbour.
_STATEMENT = """\
WITH live AS MATERIALIZED (
    SELECT id, name, (metrics #> '{{calibration,image,scores}}')::text AS scores,
           (metrics #> '{{calibration,image,matches}}')::text AS matches
    FROM visualsearch_checkpoint WHERE state = 'live'
)
SELECT near.target_id, near.score, near.position, photo.image,
       live.name, live.scores, live.matches
FROM live
JOIN visualsearch_similarproduct AS near ON near.checkpoint_id = live.id
LEFT JOIN visualsearch_embedding AS photo ON photo.checkpoint_id = live.id
    AND photo.product_id = near.target_id AND photo.position = near.position
WHERE near.source_id = %s AND near.target_id IN ({allowed}){source}
ORDER BY near.rank LIMIT %s
"""


def neighbours(
    key: Any,
    allowed: models.QuerySet[Any],
    *,
    limit: int,
    visible: models.QuerySet[Any] | None = None,
) -> Neighbours:
    """Up to `limit` stored neighbours of the product with this key that are among `allowed`.

    None at all unless the product itself is among `visible`, where that is given.
    """
    source, own = "", list[Any]()
    try:
        subquery = Subquery(allowed)
        if visible is not None:
            seen = subquery if visible is allowed else Subquery(visible)
            source, own = f" AND near.source_id IN ({seen.sql})", list(seen.parameters)
    except EmptyResultSet:
        return Neighbours()
    (prepared,) = keys.prepared([key])
    found = deadlines.read(
        _STATEMENT.format(allowed=subquery.sql, source=source),
        [prepared, *subquery.parameters, *own, limit],
    )
    if not found:
        return Neighbours()
    *_, name, scores, matches = found[0]
    return Neighbours(
        matches=tuple(
            Match(product_id=target, score=score, position=position, image_name=image or "")
            for target, score, position, image, *_ in found
        ),
        checkpoint=name,
        curve=Curve.read(
            {"scores": json.loads(scores or "null"), "matches": json.loads(matches or "null")}
        ),
    )
