"""Photos from web addresses: off by default, public hosts only, bounded in time, bytes and redirects."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.colour_catalogue import photo
from visualsearch.exceptions import ImageTooLargeError, ImageURLError
from visualsearch.queries import image_urls

PUBLIC = "93.184.215.14"


@pytest.fixture(autouse=True)
def _allowed(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"IMAGE_URL_HOSTS": ("*",)}


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that something connects to; none is let through."""
    made: list[Any] = []

    def refuse(self: socket.socket, address: Any) -> None:
        made.append(address)
        raise OSError("the test lets nothing out")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return made


# Hosts are written as attackers write them; what they resolve to is what the system says.
REFUSED = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://0/",
    "http://0.0.0.0/",
    "http://localhost/",
    "http://localhost./",
    "http://LOCALHOST/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fec0::1]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/",
    "http://192.0.0.192/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    f"http://user@{PUBLIC}/",
    f"http://user:secret@{PUBLIC}/",
    f"http://{PUBLIC}@127.0.0.1/",
    f"http://{PUBLIC}:22/",
    f"http://{PUBLIC}:8080/",
    f"https://{PUBLIC}:80/",
    f"http://{PUBLIC}:99999/",
    f"http://{PUBLIC}:x/",
    "http:///etc/passwd",
    "file:///etc/passwd",
    "ftp://example.com/a.png",
    "gopher://example.com/",
    "dict://example.com/",
    "data://text/plain,hello",
    "http://exa mple.com/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com/\r\nHost: internal",
    "http://\u2460\u2461\u2466.0.0.1/",
    "http://[::1",
    "http://",
    "http://" + "a" * 3000,
]


@pytest.mark.parametrize("url", REFUSED)
def test_address__that_is_not_public_is_never_connected_to(
    url: str, connections: list[Any]
) -> None:
    with pytest.raises(ImageURLError) as caught:
        image_urls.fetch(url)
    assert connections == []
    assert (caught.value.status, caught.value.field) == (400, "image")


def test_refusals__read_alike_whatever_is_there(connections: list[Any]) -> None:
    messages = set()
    for url in (
        "http://127.0.0.1/",
        "http://no-such-host.invalid/",
        f"http://{PUBLIC}/",
        "ftp://x/",
    ):
        with pytest.raises(ImageURLError) as caught:
            image_urls.fetch(url)
        messages.add(caught.value.message)
    assert len(messages) == 1
    assert [address[0] for address in connections] == [PUBLIC], "the public one was asked"


def test_off__by_default(settings: Any, connections: list[Any]) -> None:
    settings.VISUALSEARCH = {
        name: value for name, value in settings.VISUALSEARCH.items() if name != "IMAGE_URL_HOSTS"
    }
    with pytest.raises(ImageURLError, match="not read here"):
        image_urls.fetch(f"http://{PUBLIC}/a.png")
    assert connections == []


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://example.com/", True),
        ("http://cdn.example.com/", True),
        ("http://EXAMPLE.com./", True),
        ("http://notexample.com/", False),
        ("http://example.com.evil.net/", False),
        ("http://evil.net/example.com", False),
        (f"http://{PUBLIC}/", False),
    ],
)
def test_allow_list__names_hosts_with_their_subdomains(
    url: str, asked: bool, settings: Any, connections: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"IMAGE_URL_HOSTS": ["example.com"]}
    _resolve(monkeypatch, lambda host: PUBLIC)
    with pytest.raises(ImageURLError):
        image_urls.fetch(url)
    assert bool(connections) is asked


def test_rebinding__the_address_that_was_checked_is_the_one_connected_to(
    connections: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer of the name server is public, every later one is not."""
    answers = iter([PUBLIC])
    _resolve(monkeypatch, lambda host: next(answers, "127.0.0.1"))
    with pytest.raises(ImageURLError):
        image_urls.fetch("http://rebind.example/")
    assert {address[0] for address in connections} <= {PUBLIC}


def _resolve(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], str]) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
        is_address = host.replace(".", "").isdigit() or ":" in host
        return real(host if is_address else answer(host), port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# --- what a public host may do ------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Stands for a public host: PUBLIC leads here."""

    daemon_threads = True
    answer: Callable[[BaseHTTPRequestHandler], None]
    asked: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answer(self)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), _Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connect = socket.socket.connect

    def lead_here(self: socket.socket, address: Any) -> None:
        assert address[0] == PUBLIC, f"connected to {address}"
        connect(self, server.server_address)

    monkeypatch.setattr(socket.socket, "connect", lead_here)
    yield server
    server.shutdown()
    server.server_close()


def send(body: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(*places: str) -> Callable[[BaseHTTPRequestHandler], None]:
    left = list(places)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if not left:
            send(photo("red"))(handler)
            return
        handler.send_response(302)
        handler.send_header("Location", left.pop(0))
        handler.end_headers()

    return answer


def test_photo__is_fetched(host: Server) -> None:
    host.answer = send(photo("red"))
    assert image_urls.fetch(f"http://{PUBLIC}/a.png?x=1") == photo("red")
    assert host.asked == ["/a.png?x=1"]


def test_redirects__are_followed_three_times_and_no_more(host: Server) -> None:
    base = f"http://{PUBLIC}"
    host.answer = redirect(f"{base}/b", "/c", "d")
    assert image_urls.fetch(f"{base}/a") == photo("red")
    host.answer = redirect("/b", "/c", "/d", "/e")
    with pytest.raises(ImageURLError, match="more than 3"):
        image_urls.fetch(f"{base}/a")


@pytest.mark.parametrize(
    "place",
    [
        "http://169.254.169.254/latest/",
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "//10.0.0.1/",
        f"http://{PUBLIC}:22/",
        "http://[::1]/",
        "http://localhost/",
    ],
)
def test_redirect__to_what_is_not_public_is_not_followed(host: Server, place: str) -> None:
    host.answer = redirect(place)
    with pytest.raises(ImageURLError):
        image_urls.fetch(f"http://{PUBLIC}/")
    assert host.asked == ["/"]


def test_bytes__are_counted_as_they_come_and_after_they_were_unpacked(host: Server) -> None:
    bomb = gzip.compress(b"\0" * (40 * 1024 * 1024))
    assert len(bomb) < 100_000
    host.answer = send(bomb, Content_Encoding="gzip")
    with pytest.raises((ImageTooLargeError, ImageURLError)):
        image_urls.fetch(f"http://{PUBLIC}/")
    host.answer = send(b"x" * (9 * 1024 * 1024))
    with pytest.raises(ImageTooLargeError):
        image_urls.fetch(f"http://{PUBLIC}/")


@pytest.mark.parametrize("part", ["head", "body"])
def test_time__a_host_that_drips_does_not_hold_the_visitor(
    host: Server, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_urls, "TOTAL_SECONDS", 1.0)
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        if part == "body":
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not stop.wait(0.1):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    host.answer = drip
    began = time.monotonic()
    try:
        with pytest.raises(ImageURLError):
            image_urls.fetch(f"http://{PUBLIC}/")
        assert time.monotonic() - began < 2.0
    finally:
        stop.set()


@pytest.mark.parametrize("status", [204, 301, 404, 500])
def test_answer__that_is_no_photo_is_refused(host: Server, status: int) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()

    host.answer = answer
    with pytest.raises(ImageURLError):
        image_urls.fetch(f"http://{PUBLIC}/")


def test_at_once__only_so_many(host: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_urls, "_fetching", threading.BoundedSemaphore(1))
    host.answer = send(photo("red"))
    with image_urls._fetching, pytest.raises(ImageURLError):
        image_urls.fetch(f"http://{PUBLIC}/")
    assert image_urls.fetch(f"http://{PUBLIC}/") == photo("red"), "the turn was given back"
