"""Answers in the shape that Algolia's clients and InstantSearch read, and its schema."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from visualsearch.api.algolia_queries import MOST_REQUESTS, AlgoliaQuery
from visualsearch.api.serializers import absolute
from visualsearch.conf import get_settings
from visualsearch.search.facets import Facet
from visualsearch.search.results import Hit, Results


@extend_schema_field(
    {
        "oneOf": [{"type": "string"}, {"type": "object", "additionalProperties": True}],
        "description": "Parameters as an object or a query string.",
    }
)
class ParamsField(serializers.JSONField):
    """Parameters of a query."""


class AlgoliaQuerySerializer(serializers.Serializer[Any]):
    indexName = serializers.CharField(required=False, help_text="Repeated in the answer.")
    params = ParamsField(required=False)
    query = serializers.CharField(required=False, allow_blank=True)
    page = serializers.IntegerField(required=False, min_value=0)
    hitsPerPage = serializers.IntegerField(required=False, min_value=0, max_value=100)


class AlgoliaQueriesSerializer(serializers.Serializer[Any]):
    requests = serializers.ListField(
        child=AlgoliaQuerySerializer(), min_length=1, max_length=MOST_REQUESTS
    )
    strategy = serializers.CharField(required=False)


class LookingSimilarSerializer(serializers.Serializer[Any]):
    indexName = serializers.CharField(required=False)
    model = serializers.ChoiceField(choices=["looking-similar"])
    objectID = serializers.CharField()
    threshold = serializers.FloatField(
        required=False, min_value=0, max_value=100, help_text="Per cent of match."
    )
    maxRecommendations = serializers.IntegerField(required=False, min_value=0, max_value=100)
    queryParameters = serializers.DictField(required=False)


class RecommendationsSerializer(serializers.Serializer[Any]):
    requests = serializers.ListField(
        child=LookingSimilarSerializer(), min_length=1, max_length=MOST_REQUESTS
    )


@extend_schema_field(OpenApiTypes.ANY)
class PriceField(serializers.JSONField):
    """A number where the price is one."""


class AlgoliaHitSerializer(serializers.Serializer[Any]):
    objectID = serializers.CharField()
    title = serializers.CharField(allow_blank=True)
    url = serializers.CharField(allow_blank=True)
    image = serializers.CharField(allow_blank=True)
    price = PriceField(allow_null=True)
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    _score = serializers.FloatField(allow_null=True, help_text="Per cent of match.")
    _highlightResult = serializers.DictField()


class AlgoliaResultSerializer(serializers.Serializer[Any]):
    hits = AlgoliaHitSerializer(many=True)
    nbHits = serializers.IntegerField()
    page = serializers.IntegerField()
    nbPages = serializers.IntegerField()
    hitsPerPage = serializers.IntegerField()
    exhaustiveNbHits = serializers.BooleanField()
    exhaustiveFacetsCount = serializers.BooleanField()
    processingTimeMS = serializers.IntegerField()
    query = serializers.CharField(allow_blank=True)
    params = serializers.CharField(allow_blank=True)
    index = serializers.CharField(allow_blank=True)
    queryID = serializers.CharField(help_text="query_id in events.")
    facets = serializers.DictField(child=serializers.DictField(child=serializers.IntegerField()))
    facets_stats = serializers.DictField(
        child=serializers.DictField(child=serializers.FloatField())
    )
    image_token = serializers.CharField(allow_null=True)
    degraded = serializers.BooleanField()
    degraded_reason = serializers.CharField(allow_null=True)


class AlgoliaResultsSerializer(serializers.Serializer[Any]):
    results = AlgoliaResultSerializer(many=True)


class LookingSimilarResultSerializer(serializers.Serializer[Any]):
    hits = AlgoliaHitSerializer(many=True)
    nbHits = serializers.IntegerField()
    processingTimeMS = serializers.IntegerField()
    queryID = serializers.CharField()
    degraded = serializers.BooleanField()
    degraded_reason = serializers.CharField(allow_null=True)


class LookingSimilarResultsSerializer(serializers.Serializer[Any]):
    results = LookingSimilarResultSerializer(many=True)


def as_result(
    query: AlgoliaQuery,
    results: Results,
    hits: Sequence[Hit],
    *,
    facets: Sequence[Facet],
    request: HttpRequest,
    milliseconds: float,
) -> dict[str, Any]:
    """The answer to one query of a request."""
    total = results.matching
    return {
        "hits": [_hit(hit, request) for hit in hits],
        "nbHits": total.value,
        "page": query.page,
        "nbPages": _pages(total.value, query.hits_per_page),
        "hitsPerPage": query.hits_per_page,
        "exhaustiveNbHits": total.exact,
        "exhaustiveFacetsCount": True,
        "processingTimeMS": round(milliseconds),
        "query": query.asked.text or "",
        "params": query.params,
        "index": query.index_name,
        "queryID": results.query_id,
        "facets": {
            facet.name: {_key(value): count for value, count in facet.counts[: query.most_values]}
            for facet in facets
        },
        "facets_stats": {facet.name: ends for facet in facets if (ends := _ends(facet))},
        "image_token": results.photo_token or None,
        "degraded": results.degraded,
        "degraded_reason": results.reason or None,
    }


def as_recommendations(
    results: Results, hits: Sequence[Hit], *, request: HttpRequest, milliseconds: float
) -> dict[str, Any]:
    """The answer to one request for what looks similar."""
    return {
        "hits": [_hit(hit, request) for hit in hits],
        "nbHits": len(hits),
        "processingTimeMS": round(milliseconds),
        "queryID": results.query_id,
        "degraded": results.degraded,
        "degraded_reason": results.reason or None,
    }


def _hit(hit: Hit, request: HttpRequest) -> dict[str, Any]:
    # Algolia's values are not escaped either: InstantSearch escapes what it shows.
    title = {"value": hit.title, "matchLevel": "none", "matchedWords": []}
    return {
        "objectID": str(hit.product.pk),
        "title": hit.title,
        "url": absolute(hit.url, request),
        "image": absolute(hit.image_url, request),
        "price": _price(hit.price),
        "label": hit.label,
        "_score": None if hit.match is None else round(100 * hit.match, 2),
        "_highlightResult": {"title": title},
    }


def _price(value: Any) -> Any:
    if value is None:
        return None
    is_number = isinstance(value, int | float | Decimal) and math.isfinite(value)
    return float(value) if is_number else str(value)


def _pages(total: int, hits_per_page: int) -> int:
    """How many pages can be asked for."""
    if not hits_per_page:
        return 0
    return min(math.ceil(total / hits_per_page), get_settings().OFFSET_MAX // hits_per_page + 1)


def _key(value: Any) -> str:
    """A facet's value as a key, in the form that facetFilters take back."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ends(facet: Facet) -> dict[str, float]:
    """The least and the greatest value of a field of numbers."""
    try:
        return {"min": float(facet.least), "max": float(facet.most)}
    except (TypeError, ValueError):  # none, or dates
        return {}
