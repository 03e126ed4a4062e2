"""Counts API requests by scope, without the project having to set any rates in DRF."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from visualsearch import throttling


class ScopeThrottle(BaseThrottle):
    """Counts a request of the view's `throttle_scope`; over the rate it raises, with the wait."""

    def allow_request(self, request: Request, view: Any) -> bool:
        throttling.check(request, view.throttle_scope)
        return True
