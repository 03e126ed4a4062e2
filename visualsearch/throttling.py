"""How many searches a visitor may make: a fixed window, counted atomically in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import time

from django.core.cache import cache, caches
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from visualsearch.conf import get_settings
from visualsearch.exceptions import VisualSearchError

logger = logging.getLogger(__name__)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class TooManyRequestsError(VisualSearchError):
    """The visitor has used up a window; `retry_after` is in seconds."""

    code = "throttled"
    status = 429

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def check(request: HttpRequest, scope: str) -> None:
    """Count one request of `scope`, or raise TooManyRequestsError.

    A scope without a rate is not limited. A cache that is down lets everybody in: the shop goes on.
    """
    rate = (get_settings().THROTTLE_RATES or {}).get(scope)
    if not rate:
        return
    most, seconds = parse_rate(rate)
    now = time.time()
    window = int(now // seconds)
    key = f"visualsearch:throttle:{scope}:{window}:{_visitor(request)}"
    try:
        count = _increment(key, seconds)
    except Exception:  # caches share no base error
        logger.warning("Requests are not counted: the cache does not answer.", exc_info=True)
        return
    if count > most:
        retry_after = max(1, int((window + 1) * seconds - now) + 1)
        raise TooManyRequestsError(
            f"More than {rate} requests: try again in {retry_after} s.", retry_after=retry_after
        )


def parse_rate(rate: str) -> tuple[int, int]:
    """ "120/min" as (120, 60)."""
    found = (
        re.fullmatch(r"\s*(\d+)\s*/\s*([smhd])[a-z]*\s*", rate) if isinstance(rate, str) else None
    )
    if found is None:
        raise ImproperlyConfigured(
            f"VISUALSEARCH['THROTTLE_RATES'] has {rate!r}: write a number per s, min, hour or day, "
            'such as "120/min".'
        )
    return int(found[1]), _SECONDS[found[2]]


def _increment(key: str, seconds: int) -> int:
    backend = caches["default"]
    if isinstance(backend, RedisCache):
        # Its `incr` asks first whether the key is there: twice the way for a number that Redis begins
        # by itself. It begins with its expiry, so that no number stays for ever.
        key = backend.make_key(key)
        steps = backend._cache.get_client(key, write=True).pipeline(transaction=False)
        steps.set(key, 0, ex=2 * seconds, nx=True)
        steps.incr(key)
        count: int = steps.execute()[1]
        return count
    # `incr` and `add` are atomic in every shared cache; reading and writing back is not. All but the
    # first request of a window need the first of them alone.
    with contextlib.suppress(ValueError):
        return cache.incr(key)
    if cache.add(key, 1, timeout=2 * seconds):
        return 1
    return cache.incr(key)  # another request was the first


def _visitor(request: HttpRequest) -> str:
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        who = f"user:{user.pk}"
    else:
        who = f"address:{_address(request)}"
    return hashlib.blake2b(who.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _address(request: HttpRequest) -> str:
    """The visitor's address; X-Forwarded-For counts only as far as NUM_PROXIES says.

    Anybody can send that header, so that believing it would give every request its own count.
    """
    from rest_framework.settings import api_settings

    remote: str = request.META.get("REMOTE_ADDR", "")
    proxies: int | None = api_settings.NUM_PROXIES
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if not proxies or not forwarded:
        return remote
    addresses = [address.strip() for address in forwarded.split(",")]
    return addresses[-min(proxies, len(addresses))]
