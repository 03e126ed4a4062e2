"""The endpoints beside search: health, the OpenAPI schema, events of visitors and stats."""

from __future__ import annotations

import logging
from typing import Any, cast

from django.db import Error
from django.urls import include, path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from visualsearch.api import parsing, serializers
from visualsearch.api.base import SearchAPIView, StaffAPIView, answers
from visualsearch.health import status
from visualsearch.models import Checkpoint
from visualsearch.queries import uploads
from visualsearch.search import events

logger = logging.getLogger(__name__)


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
        """ok, untrained (search compares words), or down."""
        try:
            found = "ok" if Checkpoint.objects.live() else "untrained"
        except Error:
            logger.exception("The health check found no database.")
            return Response({"status": "down"}, status=503)
        return Response({"status": found})


class SchemaView(SpectacularAPIView):
    """The OpenAPI schema of these endpoints, at the prefix where the project has put them."""

    @extend_schema(operation_id="schema", responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        prefix = request.path.lstrip("/").removesuffix("schema/")
        self.patterns = [path(prefix, include("visualsearch.api.urls"))]
        return super().get(request, *args, **kwargs)


class EventsView(SearchAPIView):
    """What a visitor did with an answer."""

    parser_classes = [parsing.JSONObjectParser]
    throttle_scope = "events"

    @extend_schema(
        operation_id="record_event",
        request=serializers.EventSerializer,
        responses=answers(
            400, 401, 403, 404, 405, 413, 415, 429, s201=serializers.EventResponseSerializer
        ),
    )
    def post(self, request: Request) -> Response:
        """In the names of OpenSearch's User Behavior Insights; kept for EVENT_DAYS."""
        uploads.refuse_oversized(request)
        data = cast(dict[str, Any], request.data)
        names = ("query_id", "action_name", "object_id", "position")
        parsing.check_names(data, names, where="the body")
        event = events.record(
            query_id=data.get("query_id"),
            action_name=data.get("action_name"),
            object_id=data.get("object_id"),
            position=data.get("position"),
            request=request,
        )
        return Response({"query_id": event.query_id, "action_name": event.action_name}, status=201)


class StatsView(StaffAPIView):
    """How much of the catalogue is indexed, what waits, who works on it."""

    needs = {"GET": "visualsearch.view_checkpoint"}

    @extend_schema(
        operation_id="stats",
        responses=answers(401, 403, 405, 429, s200=serializers.StatsSerializer),
    )
    def get(self, request: Request) -> Response:
        """Counted now."""
        live = Checkpoint.objects.live()
        run = status.open_run()
        found = status.coverage()
        return Response(
            {
                "products": found.products,
                "indexed": found.indexed,
                "pending": found.pending,
                "failed": found.failed,
                "embeddings": found.embeddings,
                "oldest_pending_seconds": round(found.oldest_pending_seconds),
                "last_indexed": found.last_indexed,
                "checkpoint": live.name if live else None,
                "open_run": run.pk if run else None,
            }
        )
