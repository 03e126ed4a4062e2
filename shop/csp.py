"""Send the strict Content-Security-Policy under which every page of the shop works."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse

POLICY = {
    "default-src": "'none'",
    "img-src": "'self' blob:",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
# The stylesheets of Django's admin carry their icons as data: URLs.
ADMIN_POLICY = POLICY | {"img-src": "'self' blob: data:"}


def header(policy: dict[str, str]) -> str:
    return "; ".join(f"{directive} {sources}" for directive, sources in policy.items())


class ContentSecurityPolicyMiddleware:
    """Django 5.2 brings none; a view may set its own header, which is kept."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        try:
            in_admin = request.path.startswith(reverse("admin:index"))
        except NoReverseMatch:
            in_admin = False
        response.headers.setdefault(
            "Content-Security-Policy", header(ADMIN_POLICY if in_admin else POLICY)
        )
        return response
