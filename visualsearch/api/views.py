"""The endpoints of shoppers' searches: search, recommend, similar products, and changes to ask for."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, cast

from django.http import HttpRequest, QueryDict
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags, quote_etag
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from visualsearch.api import parsing, serializers
from visualsearch.api.base import SearchAPIView, answers
from visualsearch.exceptions import QueryError
from visualsearch.indexes import get_index
from visualsearch.queries import uploads
from visualsearch.queries.cleaning import clean_limit, clean_offset
from visualsearch.search import modifying, searching, visibility, word_searches
from visualsearch.search.results import Results

_REFUSALS = (400, 401, 403, 404, 405, 413, 415, 429, 503)
_ANSWERS = answers(*_REFUSALS, s200=serializers.SearchResponseSerializer)
_LIMIT = OpenApiParameter("limit", int, description="Hits, 1 to 100.")
_FILTER = OpenApiParameter(
    "filter",
    OpenApiTypes.STR,
    description="JSON object; or name each filter as a parameter of its own.",
)
_MIN_MATCH = OpenApiParameter(
    "min_match", float, description="Hits below this calibrated match, 0 to 1, are not shown."
)


class SearchView(SearchAPIView):
    """Products by words, photo, product, or "like this but…"."""

    endpoint = "search"
    upload: uploads.PhotoUploadHandler | None = None

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        # Before anything reads the body: authentication does, for its CSRF token.
        if request.method == "POST":
            self.upload = uploads.install(request)
        return super().initialize_request(request, *args, **kwargs)

    @extend_schema(
        operation_id="search_by_parameters",
        parameters=[
            OpenApiParameter("q", str, description="Words."),
            OpenApiParameter("product", str, description="Id of a product that stands as image."),
            OpenApiParameter("token", str, description="image_token of an earlier answer."),
            OpenApiParameter("url", str, description="Web address of a photo, where allowed."),
            OpenApiParameter("box", str, description="JSON: [left, top, right, bottom]."),
            OpenApiParameter("modify", str, description="What should be different about it."),
            OpenApiParameter("strength", float, description="How different: 0 to 2, 1 is usual."),
            OpenApiParameter("positive", str, description="Ids of products to resemble: 12,33."),
            OpenApiParameter("negative", str, description="Ids of products not to resemble."),
            OpenApiParameter("hybrid", str, description="true, false, or the semantic ratio."),
            OpenApiParameter("diversity", str, description="true, or JSON as in POST."),
            OpenApiParameter("collapse", str, enum=["none", "duplicates", "group"]),
            OpenApiParameter("facets", str, description="Names of fields to count: brand,colour."),
            OpenApiParameter("explain", bool, description="Whether hits say why they are hits."),
            _MIN_MATCH,
            _FILTER,
            _LIMIT,
            OpenApiParameter("offset", int, description="Hits to skip."),
        ],
        responses=_ANSWERS,
    )
    def get(self, request: Request) -> Response:
        """The same as POST for links and curl, without a photo."""
        return _answer(request, parsing.from_parameters(request.query_params))

    @extend_schema(
        operation_id="search",
        request={
            "application/json": serializers.SearchRequestSerializer,
            "multipart/form-data": serializers.PhotoRequestSerializer,
        },
        responses=_ANSWERS,
    )
    def post(self, request: Request) -> Response:
        """Search by anything; a photo comes as the file "image" or as base64 in JSON."""
        uploads.refuse_oversized(request)
        data = request.data
        if self.upload is not None and self.upload.error is not None:
            raise self.upload.error
        if isinstance(data, QueryDict):
            photo = request.FILES.get(uploads.FIELD)
            fields = data.copy()
            fields.pop(uploads.FIELD, None)
            return _answer(request, parsing.from_parameters(fields, photo=photo))
        # Our own JSON parser gives nothing but objects.
        return _answer(request, parsing.from_json(cast(dict[str, Any], data)))


class RecommendView(SearchAPIView):
    """Products that resemble some products and not others."""

    parser_classes = [parsing.JSONObjectParser]

    @extend_schema(
        operation_id="recommend",
        request=serializers.RecommendRequestSerializer,
        responses=_ANSWERS,
    )
    def post(self, request: Request) -> Response:
        """By the mean of the positive products, less that of the negative ones."""
        uploads.refuse_oversized(request)
        data = cast(dict[str, Any], request.data)
        asked = parsing.from_json(data, parts=parsing.RECOMMEND_PARTS)
        if not asked.positive:
            raise QueryError("positive is empty: name at least one product.", field="positive")
        return _answer(request, asked)


class SimilarView(SearchAPIView):
    """Products that look like one product."""

    throttle_scope = endpoint = "similar"

    @extend_schema(
        operation_id="similar_products",
        parameters=[
            OpenApiParameter("pk", str, OpenApiParameter.PATH),
            _LIMIT,
            _MIN_MATCH,
            OpenApiParameter(
                "fallback",
                str,
                enum=list(searching.FALLBACKS),
                description="What fills up to the limit.",
            ),
            _FILTER,
        ],
        responses=_ANSWERS | {304: None},
    )
    def get(self, request: Request, pk: str) -> Response:
        """Precomputed, so it needs no encoder; every other parameter is a filter."""
        began = time.perf_counter()
        parts = ("filter", "limit", "min_match", "fallback")
        asked = parsing.from_parameters(request.query_params, parts=parts)
        limit = clean_limit(asked.limit if "limit" in request.query_params else 8)
        results = searching.similar_to_key(
            pk,
            filters=asked.filters,
            limit=limit,
            min_match=asked.options.get("min_match"),
            fallback=request.query_params.get("fallback", "none"),
            request=request,
        )
        body = serializers.as_response(
            results, list(results), request=request, milliseconds=since(began)
        )
        return _with_etag(request, body)


class ModificationsView(SearchAPIView):
    """What a product could be asked for in another way."""

    throttle_scope = "similar"

    @extend_schema(
        operation_id="modifications",
        parameters=[OpenApiParameter("pk", str, OpenApiParameter.PATH)],
        responses=answers(
            401, 403, 404, 405, 429, 503, s200=serializers.ModificationsResponseSerializer
        ),
    )
    def get(self, request: Request, pk: str) -> Response:
        """Only changes that the live checkpoint has learned and some product can answer."""
        index = get_index()
        product = visibility.find(index, pk, request=request)
        found = modifying.suggestions(index, product, request=request)
        return Response({"modifications": [serializers.as_suggestion(each) for each in found]})


def find(request: Request, asked: parsing.Asked, *, page: int) -> Results:
    """The results of what was asked for, its products looked up as this visitor sees them."""
    index, image = get_index(), asked.photo
    if image is not None and asked.product is not None:
        raise QueryError("There is both a photo and a product: send one.", field="image")
    if asked.product is not None:
        image = visibility.find(index, asked.product, request=request)
    examples: dict[str, Any] = {
        name: list(
            zip(
                visibility.find_all(index, [key for key, _ in given], request=request, field=name),
                (weight for _, weight in given),
                strict=True,
            )
        )
        for name, given in (("positive", asked.positive), ("negative", asked.negative))
        if given
    }
    return searching.search(
        asked.text,
        image=image,
        modify=asked.modify,
        strength=asked.strength,
        box=asked.box,
        filters=asked.filters,
        page=page,
        request=request,
        **examples,
        **asked.options,
    )


def _answer(request: Request, asked: parsing.Asked) -> Response:
    began = time.perf_counter()
    limit, offset = clean_limit(asked.limit), clean_offset(asked.offset)
    results = find(request, asked, page=limit)
    facets = results.facets(asked.facets)
    hits = results[offset : offset + limit]
    if asked.is_words_alone and not offset:
        word_searches.keep(asked.text, results, hits)
    body = serializers.as_response(
        results,
        hits,
        request=request,
        milliseconds=since(began),
        facets=facets,
        explained=results.explain(hits) if asked.explain else None,
    )
    return Response(body)


def _with_etag(request: Request, body: dict[str, Any]) -> Response:
    """The response, or 304 where the browser has it already; never another visitor's."""
    lasting = {
        name: value
        for name, value in body.items()
        if name not in ("processing_time_ms", "query_id")
    }
    text = json.dumps(lasting, sort_keys=True, default=str)
    etag = quote_etag(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
    known = parse_etags(request.headers.get("If-None-Match", ""))
    is_known = etag in [each.removeprefix("W/") for each in known]
    response = Response(status=304) if is_known else Response(body)
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    patch_vary_headers(response, ["Cookie", "Authorization", "Accept-Language"])
    return response


def since(began: float) -> float:
    """Milliseconds."""
    return 1000 * (time.perf_counter() - began)
