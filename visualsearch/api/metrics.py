"""The endpoint that Prometheus scrapes: for staff, or with the token of the METRICS_TOKEN setting."""

from __future__ import annotations

import logging

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from visualsearch.conf import get_settings
from visualsearch.health import monitoring

logger = logging.getLogger(__name__)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Everything in Prometheus' text format; 403 for those who may not see it."""
    if not _may_see(request):
        return _say(403, "For staff, or with METRICS_TOKEN as bearer token.")
    try:
        body, content_type = monitoring.exposition()
    except monitoring.MetricsUnavailableError as error:
        return _say(error.status, error.message)
    except Error:
        logger.exception("The metrics could not be read.")
        return _say(503, "The database does not answer.")
    return HttpResponse(body, content_type=content_type)


def _may_see(request: HttpRequest) -> bool:
    token = get_settings().METRICS_TOKEN
    given = request.headers.get("Authorization", "")
    # Bytes: a header may hold what is no ASCII, which the comparison of texts refuses.
    if token and constant_time_compare(given.encode(), f"Bearer {token}".encode()):
        return True
    user = getattr(request, "user", None)
    return bool(user is not None and user.is_active and user.is_staff)


def _say(code: int, text: str) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=code, content_type="text/plain; charset=utf-8")
