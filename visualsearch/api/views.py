"""The endpoints: search, similar products, health and the OpenAPI schema."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, cast

from django.db import Error
from django.http import HttpRequest, QueryDict
from django.urls import include, path
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from visualsearch import searching, uploads, visibility
from visualsearch.api import errors, parsing, serializers
from visualsearch.api.throttling import ScopeThrottle
from visualsearch.cleaning import clean_limit, clean_offset
from visualsearch.exceptions import QueryError
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint

logger = logging.getLogger(__name__)

_PROBLEM = OpenApiResponse(serializers.ProblemSerializer, description="problem+json")
_ANSWERS: dict[Any, Any] = {
    200: serializers.SearchResponseSerializer,
    **{
        (status, errors.CONTENT_TYPE): _PROBLEM
        for status in (400, 401, 403, 404, 413, 415, 429, 503)
    },
}
_LIMIT = OpenApiParameter("limit", int, description="Hits, 1 to 100.")


class _JSONOnly(BaseContentNegotiation):
    """Everything is answered in JSON, whatever the client says it would rather have."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        from rest_framework.negotiation import DefaultContentNegotiation

        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class SearchAPIView(APIView):
    """What the endpoints share: the project's authentication and permissions, our errors."""

    schema = AutoSchema()
    renderer_classes = [JSONRenderer]
    parser_classes = [parsing.JSONObjectParser, MultiPartParser]
    content_negotiation_class = _JSONOnly
    throttle_classes = [ScopeThrottle]
    throttle_scope = "search"

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return errors.handle


class SearchView(SearchAPIView):
    """Products by words, photo, product, or "like this but…"."""

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
            OpenApiParameter("modify", str, description="What should be different about it."),
            OpenApiParameter(
                "filter",
                OpenApiTypes.STR,
                description="JSON object; or name each filter as a parameter of its own.",
            ),
            _LIMIT,
            OpenApiParameter("offset", int, description="Hits to skip."),
        ],
        responses=_ANSWERS,
    )
    def get(self, request: Request) -> Response:
        """The same as POST for links and curl, without a photo."""
        return self._answer(request, parsing.from_parameters(request.query_params))

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
            return self._answer(request, parsing.from_parameters(fields, photo=photo))
        # Our own JSON parser gives nothing but objects.
        return self._answer(request, parsing.from_json(cast(dict[str, Any], data)))

    def _answer(self, request: Request, asked: parsing.Asked) -> Response:
        began = time.perf_counter()
        limit, offset = clean_limit(asked.limit), clean_offset(asked.offset)
        image = asked.photo
        if image is not None and asked.product is not None:
            raise QueryError("There is both a photo and a product: send one.", field="image")
        if asked.product is not None:
            image = visibility.find(get_index(), asked.product, request=request)
        results = searching.search(
            asked.text,
            image=image,
            modify=asked.modify,
            box=asked.box,
            filters=asked.filters,
            request=request,
        )
        return _response(results, results[offset : offset + limit], request, began)


class SimilarView(SearchAPIView):
    """Products that look like one product."""

    throttle_scope = "similar"

    @extend_schema(
        operation_id="similar_products",
        parameters=[OpenApiParameter("pk", str, OpenApiParameter.PATH), _LIMIT],
        responses=_ANSWERS,
    )
    def get(self, request: Request, pk: str) -> Response:
        """Precomputed, so it needs no encoder; every other parameter is a filter."""
        began = time.perf_counter()
        asked = parsing.from_parameters(request.query_params, parts=("filter", "limit"))
        limit = clean_limit(asked.limit if "limit" in request.query_params else 8)
        product = visibility.find(get_index(), pk, request=request)
        results = searching.similar_to(
            product,
            filters=asked.filters,
            limit=limit,
            request=request,
        )
        return _response(results, list(results), request, began)


class HealthView(SearchAPIView):
    """Whether search can answer; says nothing more to the public."""

    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []
    throttle_classes: list[Any] = []

    @extend_schema(
        operation_id="health",
        responses={200: serializers.HealthSerializer, 503: serializers.HealthSerializer},
    )
    def get(self, request: Request) -> Response:
        try:
            status = "ok" if Checkpoint.objects.live() else "untrained"
        except Error:
            logger.exception("The health check found no database.")
            return Response({"status": "down"}, status=503)
        return Response({"status": status})


class SchemaView(SpectacularAPIView):
    """The OpenAPI schema of these endpoints, at the prefix where the project has put them."""

    @extend_schema(operation_id="schema", responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        prefix = request.path.lstrip("/").removesuffix("schema/")
        self.patterns = [path(prefix, include("visualsearch.api.urls"))]
        return super().get(request, *args, **kwargs)


def _response(results: Any, hits: list[Any], request: Request, began: float) -> Response:
    body = serializers.as_response(
        results,
        hits,
        request=request,
        milliseconds=1000 * (time.perf_counter() - began),
    )
    return Response(body)
