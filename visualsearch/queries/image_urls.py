"""Photos from web addresses: off by default, public hosts only, bounded in time, bytes and redirects.

The address is resolved once, refused if it is not public, and that very address is connected to
(requests-hardened), for every redirect anew: a name that changes between check and use gains nothing.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from concurrent.futures import Future
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from visualsearch.conf import get_settings
from visualsearch.exceptions import ImageURLError
from visualsearch.queries.cleaning import photo_too_large

MOST_REDIRECTS = 3
MOST_CHARACTERS = 2048
TOTAL_SECONDS = 8.0
"""From the first connection to the last byte, redirects included."""
CONNECT_SECONDS, READ_SECONDS = 3.0, 3.0
CHUNK = 64 * 1024
AT_ONCE = 4
"""Photos that one process fetches at the same time."""
_fetching = threading.BoundedSemaphore(AT_ONCE)
_PORTS = {"http": 80, "https": 443}


def is_url(text: str) -> bool:
    """Whether the text is meant as a web address."""
    return "://" in text[:12]


def fetch(url: str) -> bytes:
    """The bytes behind a web address, at most UPLOAD_MAX_BYTES; ImageURLError or ImageTooLargeError.

    Every refusal reads the same, whether a host is private, closed or does not exist: what the
    server can reach is nobody's business.
    """
    if not get_settings().IMAGE_URL_HOSTS:
        raise ImageURLError(
            "Web addresses are not read here: send the photo itself.", field="image"
        )
    session = _session()
    _check(url)
    if not _fetching.acquire(blocking=False):
        raise _refused()
    # In a thread of its own: a host that sends its answer byte by byte holds that, not the visitor.
    answer: Future[bytes] = Future()
    threading.Thread(target=_answer, args=(answer, session, url), daemon=True).start()
    try:
        return answer.result(timeout=TOTAL_SECONDS)
    except TimeoutError:
        session.close()
        raise _refused() from None


def _answer(answer: Future[bytes], session: Any, url: str) -> None:
    try:
        answer.set_result(_fetch(session, url))
    except BaseException as error:
        answer.set_exception(error)
    finally:
        _fetching.release()


def _fetch(session: Any, url: str) -> bytes:
    deadline = time.monotonic() + TOTAL_SECONDS
    with session:
        for _ in range(MOST_REDIRECTS + 1):
            _check(url)
            response = _get(session, url, deadline)
            with response:
                if not response.is_redirect:
                    return _body(response, deadline)
                url = urljoin(url, response.headers["Location"])
    raise ImageURLError(
        f"The address leads on more than {MOST_REDIRECTS} times: give the last one.", field="image"
    )


def _session() -> Any:
    try:
        from requests_hardened import Config, Manager
    except ImportError as error:
        raise ImageURLError(
            "Web addresses cannot be read: on the server, `pip install "
            "'django-visualsearch[urls]'`; meanwhile send the photo itself.",
            field="image",
        ) from error
    config = Config(
        ip_filter_enable=True,
        ip_filter_allow_loopback_ips=False,
        never_redirect=True,
        default_timeout=(CONNECT_SECONDS, READ_SECONDS),
        user_agent_override="visualsearch",
    )
    session = Manager(config).get_session()
    session.trust_env = False  # neither proxies nor the passwords of ~/.netrc
    return session


def _check(url: str) -> None:
    """ImageURLError unless the address may be asked at all."""
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused() from None
    host = (parts.hostname or "").rstrip(".").lower()
    has_odd_characters = any(not "!" <= character <= "~" for character in url) or "\\" in url
    if (
        len(url) > MOST_CHARACTERS
        or has_odd_characters
        or parts.scheme not in _PORTS
        or not host
        or parts.username is not None
        or parts.password is not None
        or port not in (None, _PORTS[parts.scheme])
        or not _is_allowed(host)
    ):
        raise _refused()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return  # a name: what it resolves to is checked when it is connected to
    is_old_private = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    if not address.is_global or address.is_multicast or is_old_private:
        raise _refused()


def _is_allowed(host: str) -> bool:
    """Whether the settings name the host, or a domain that it is part of."""
    for allowed in get_settings().IMAGE_URL_HOSTS:
        name = allowed.lower().lstrip(".")
        if name == "*" or host == name or host.endswith(f".{name}"):
            return True
    return False


def _get(session: Any, url: str, deadline: float) -> Any:
    import requests

    left = deadline - time.monotonic()
    if left <= 0:
        raise _refused()
    timeout = min(CONNECT_SECONDS, left), min(READ_SECONDS, left)
    try:
        # No compression: a gzip bomb is not even asked for. What is sent all the same is counted
        # after it was unpacked.
        headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
        return session.get(url, stream=True, timeout=timeout, headers=headers)
    except (requests.RequestException, ValueError, UnicodeError) as error:
        raise _refused() from error


def _body(response: Any, deadline: float) -> bytes:
    from urllib3.exceptions import HTTPError

    if response.status_code != 200:
        raise _refused()
    most = get_settings().UPLOAD_MAX_BYTES
    data = bytearray()
    try:
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            data += chunk
            if len(data) > most:
                raise photo_too_large()
            if time.monotonic() > deadline:
                raise _refused()
    except (HTTPError, OSError, ValueError) as error:
        raise _refused() from error
    if not data:
        raise _refused()
    return bytes(data)


def _refused() -> ImageURLError:
    return ImageURLError(
        "The photo could not be fetched: give the http or https address of an image on a public "
        "host that this shop allows, or send the photo itself.",
        field="image",
    )
