"""Search and similar products at the addresses and in the shapes of Algolia, for front ends that speak it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from visualsearch import throttling
from visualsearch.api import algolia_answers, algolia_queries, errors, parsing, views
from visualsearch.api.base import SearchAPIView, answers
from visualsearch.conf import get_settings
from visualsearch.exceptions import QueryError
from visualsearch.indexes import get_index
from visualsearch.queries import uploads
from visualsearch.queries.cleaning import clean_fraction
from visualsearch.search import searching, visibility, word_searches

USUAL_RECOMMENDATIONS = 30
_INDEX = OpenApiParameter(
    "index", str, OpenApiParameter.PATH, description="Of no account: there is one index."
)
_REFUSALS = (400, 401, 403, 404, 405, 413, 429, 503)
_SIMILAR = ("indexName", "model", "objectID", "threshold", "maxRecommendations", "queryParameters")


class AnyTypeParser(parsing.JSONObjectParser):
    """JSON under whatever name: Algolia's clients call it text or a form, to save browsers a request."""

    media_type = "*/*"


class AlgoliaAPIView(SearchAPIView):
    """Reads JSON; errors have a `message`, where Algolia's clients look for one."""

    parser_classes = [AnyTypeParser]

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return _with_message

    def count(self, request: Request, queries: int) -> None:
        """Each query counts as a search; the throttle has counted the first."""
        for _ in range(queries - 1):
            throttling.check(request, self.throttle_scope)


class QueriesView(AlgoliaAPIView):
    """Several searches at once, as InstantSearch makes them."""

    endpoint = "algolia_queries"

    @extend_schema(
        operation_id="algolia_queries",
        parameters=[_INDEX],
        request={"application/json": algolia_answers.AlgoliaQueriesSerializer},
        responses=answers(*_REFUSALS, s200=algolia_answers.AlgoliaResultsSerializer),
    )
    def post(self, request: Request, index: str) -> Response:
        """query, page, hitsPerPage, facets, facetFilters, numericFilters, and filters joined by AND."""
        uploads.refuse_oversized(request)
        data = cast(dict[str, Any], request.data)
        queries = algolia_queries.queries(data, get_index())
        self.count(request, len(queries))
        return Response({"results": [_answer(each, request) for each in queries]})


class RecommendationsView(AlgoliaAPIView):
    """Products that look similar, as Algolia's Recommend gives them."""

    throttle_scope = "similar"
    endpoint = "algolia_recommendations"

    @extend_schema(
        operation_id="algolia_recommendations",
        parameters=[_INDEX],
        request={"application/json": algolia_answers.RecommendationsSerializer},
        responses=answers(*_REFUSALS, s200=algolia_answers.LookingSimilarResultsSerializer),
    )
    def post(self, request: Request, index: str) -> Response:
        """The model looking-similar; threshold is per cent of match."""
        uploads.refuse_oversized(request)
        given = algolia_queries.requests(cast(dict[str, Any], request.data))
        self.count(request, len(given))
        return Response({"results": [_looking_similar(each, request) for each in given]})


def _answer(query: algolia_queries.AlgoliaQuery, request: Request) -> dict[str, Any]:
    began = time.perf_counter()
    asked = query.asked
    results = (
        searching.browse(filters=asked.filters, request=request)
        if query.is_listing
        else views.find(request, asked, page=query.hits_per_page or algolia_queries.USUAL_HITS)
    )
    facets = results.facets(asked.facets)
    hits = results[asked.offset : asked.offset + query.hits_per_page]
    if asked.is_words_alone and query.page == 0 and query.hits_per_page:
        word_searches.keep(asked.text, results, hits)
    return algolia_answers.as_result(
        query,
        results,
        hits,
        facets=facets,
        request=request,
        milliseconds=views.since(began),
    )


def _looking_similar(given: Any, request: Request) -> dict[str, Any]:
    began = time.perf_counter()
    algolia_queries.check_parameters(given, _SIMILAR, where="the request")
    if given.get("model") != "looking-similar":
        raise QueryError('model is not "looking-similar", the one there is.', field="model")
    parameters = given.get("queryParameters") or {}
    if not isinstance(parameters, dict):
        raise QueryError("queryParameters is not an object.", field="queryParameters")
    names = ("facetFilters", "numericFilters", "filters")
    algolia_queries.check_parameters(parameters, names, where="queryParameters")
    threshold = given.get("threshold") or 0
    share = threshold / 100 if type(threshold) in (int, float) else threshold
    most = algolia_queries.number(given, "maxRecommendations", 0, most=get_settings().LIMIT_MAX)
    results = searching.similar_to(
        visibility.find(get_index(), given.get("objectID"), request=request),
        filters=algolia_queries.filters(parameters),
        limit=most or USUAL_RECOMMENDATIONS,
        min_match=clean_fraction(share, field="threshold") or None,
        request=request,
    )
    return algolia_answers.as_recommendations(
        results, list(results), request=request, milliseconds=views.since(began)
    )


def _with_message(error: Exception, context: dict[str, Any]) -> Response | None:
    response = errors.handle(error, context)
    if response is not None:
        response.data["message"] = response.data["detail"]
    return response
