"""What one search may find, as a queryset, and how what was found becomes hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.db import models
from django.http import HttpRequest

from visualsearch import indexes
from visualsearch.models import Checkpoint
from visualsearch.search import explaining, facets, visibility
from visualsearch.search import filters as filtering
from visualsearch.search.calibration import Curve
from visualsearch.search.filters import Condition
from visualsearch.search.query_vector import QueryVector
from visualsearch.search.results import Details, Match, Results, Source


class Scope:
    """The index's products, less what the visitor may not see and what the conditions leave out."""

    def __init__(
        self,
        *,
        queryset: models.QuerySet[Any] | None,
        filters: Mapping[str, Any] | None,
        request: HttpRequest | None,
        without: Sequence[models.Model] = (),
        conditions: Sequence[Condition] = (),
    ) -> None:
        self.index = indexes.get_index()
        self.queryset = queryset
        given = filtering.parse(self.index, filters or {})
        self.visible = visibility.allowed(self.index, request=request, queryset=queryset)
        self.matching = filtering.apply(self.index, self.visible, (*given, *conditions))
        """What the filters leave; the products that were asked about are still there."""
        self.allowed = (
            self.matching.exclude(pk__in=[product.pk for product in without])
            if without
            else self.matching
        )

    def results(
        self,
        source: Source,
        *,
        limit: int | None,
        checkpoint: Checkpoint | None = None,
        name: str | None = None,
        reason: str = "",
        asked: QueryVector | None = None,
        reference: models.Model | None = None,
        curve: Curve | None = None,
        understood: Mapping[str, str] | None = None,
        photo_token: str = "",
        query_id: str = "",
    ) -> Results:
        """The results of `source`, by `checkpoint` or, where only that is known, the one of `name`."""
        name = checkpoint.name if checkpoint is not None else name
        load = partial(
            visibility.fetch,
            self.index,
            self.allowed,
            self.queryset,
            with_images=name is None,
        )

        def explain(
            matches: Sequence[Match], products: Sequence[models.Model]
        ) -> Sequence[explaining.Explanation]:
            return explaining.explain(
                matches,
                index=self.index,
                checkpoint=checkpoint,
                asked=asked,
                reference=reference,
                products=products,
            )

        def count(names: Any) -> Sequence[facets.Facet]:
            fields = facets.clean_names(self.index, names)
            return facets.count(self.index, self.allowed, fields, checkpoint=checkpoint)

        details = Details(
            match=partial(_match, curve),
            explain=explain,
            facets=count,
            understood=understood or {},
            photo_token=photo_token,
            query_id=query_id,
        )
        return Results(
            source,
            load=load,
            index=self.index,
            limit=limit,
            checkpoint=name,
            reason=reason,
            details=details,
        )


def _match(curve: Curve | None, match: Match) -> float | None:
    if match.is_code:
        return 1.0
    return None if curve is None or match.score is None else curve.match(match.score)
