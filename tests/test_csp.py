"""The Content-Security-Policy of every page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from shop.csp import ContentSecurityPolicyMiddleware


def policy_of(path: str, response: HttpResponse | None = None) -> str:
    def view(request: HttpRequest) -> HttpResponse:
        return response or HttpResponse()

    answer = ContentSecurityPolicyMiddleware(view)(RequestFactory().get(path))
    return answer.headers["Content-Security-Policy"]


def test_policy__nothing_inline_and_nothing_from_elsewhere() -> None:
    policy = policy_of("/")

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "img-src 'self' blob:;" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_policy__only_the_admin_may_show_data_images() -> None:
    assert "data:" in policy_of("/admin/shop/")
    assert "data:" not in policy_of("/products/1/")


def test_policy__a_view_may_set_its_own() -> None:
    own = HttpResponse(headers={"Content-Security-Policy": "default-src 'self'"})

    assert policy_of("/", own) == "default-src 'self'"
