"""Errors as problem+json (RFC 9457): a stable code, and a message that names the field and the fix."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import DataError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from visualsearch.exceptions import VisualSearchError

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


def problem(
    status: int,
    *,
    code: str,
    detail: str,
    field: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    """The response for one error."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if field:
        body["field"] = field
    return Response(body, status=status, content_type=CONTENT_TYPE, headers=headers)


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER for the views of this app; None lets an unknown error through."""
    if isinstance(error, VisualSearchError):
        headers = {}
        if error.status in (429, 503):
            headers["Retry-After"] = str(getattr(error, "retry_after", RETRY_AFTER_SECONDS))
        if error.status >= 500:
            logger.warning("A search could not be answered: %s", error)
        return problem(
            error.status,
            code=error.code,
            detail=error.message,
            field=error.field,
            headers=headers,
        )
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, RequestDataTooBig):
        return problem(413, code="request_too_large", detail="The request is too large: send less.")
    elif isinstance(error, DataError):
        # What Postgres cannot hold and nobody has looked at: a NUL in the name of a login, say.
        logger.exception("A request held what the database cannot take.")
        return problem(400, code="bad_request", detail="The request could not be read.")
    elif isinstance(error, SuspiciousOperation):
        return problem(400, code="bad_request", detail="The request could not be read.")
    if not isinstance(error, exceptions.APIException):
        return None
    return problem(
        error.status_code,
        code=_code(error),
        detail=_detail(error),
        headers=_headers(error),
    )


def _code(error: exceptions.APIException) -> str:
    codes = error.get_codes()
    return codes if isinstance(codes, str) else str(error.default_code)


def _detail(error: exceptions.APIException) -> str:
    return str(error.detail) if isinstance(error.detail, str) else str(error.default_detail)


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if authenticate := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = authenticate
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers
