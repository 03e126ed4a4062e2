"""What the endpoints share: JSON only, our errors, counted requests, Django permissions for staff."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from visualsearch.api import errors, parsing, serializers
from visualsearch.api.throttling import ScopeThrottle
from visualsearch.health import monitoring

PROBLEM = OpenApiResponse(serializers.ProblemSerializer, description="problem+json")


def answers(*statuses: int, **ok: Any) -> dict[Any, Any]:
    """The responses of an operation for the schema: `answers(403, s200=Serializer)`.

    Any request may hold what cannot be read, a NUL in its address or its login, so 400 is always
    among them.
    """
    good = {int(name[1:]): serializer for name, serializer in ok.items()}
    refusals = sorted({400, *statuses})
    return good | {(status, errors.CONTENT_TYPE): PROBLEM for status in refusals}


class JSONOnly(BaseContentNegotiation):
    """Everything is answered in JSON, whatever the client says it would rather have."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        from rest_framework.negotiation import DefaultContentNegotiation

        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class SearchAPIView(APIView):
    """The project's authentication and permissions, our errors."""

    schema = AutoSchema()
    renderer_classes = [JSONRenderer]
    parser_classes: list[Any] = [parsing.JSONObjectParser, MultiPartParser]
    content_negotiation_class = JSONOnly
    throttle_classes = [ScopeThrottle]
    throttle_scope = "search"
    endpoint = ""
    """Its name in the metrics; those without are not timed."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        began = time.perf_counter()
        response = super().dispatch(request, *args, **kwargs)
        if self.endpoint:
            seconds = time.perf_counter() - began
            monitoring.observe(self.endpoint, seconds, status=response.status_code)
        return response

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return errors.handle


class HasPermission(BasePermission):
    """The Django permission that the view names for the request's method."""

    def has_permission(self, request: Request, view: Any) -> bool:
        name = view.needs.get("GET" if request.method == "HEAD" else request.method)
        if name is None:  # OPTIONS tells what there is to those who may see any of it
            return any(request.user.has_perm(each) for each in view.needs.values())
        return bool(request.user and request.user.has_perm(name))


class StaffAPIView(SearchAPIView):
    """For staff with the Django permission that `needs` gives by method."""

    permission_classes: list[Any] = [HasPermission]
    parser_classes: list[Any] = [parsing.JSONObjectParser]
    throttle_scope = "staff"
    needs: ClassVar[Mapping[str, str]] = {}
