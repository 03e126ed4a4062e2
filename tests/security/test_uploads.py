"""Photos from strangers: of any format and length, many at once, and none of them kept (S1, S3, S4, S10)."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import Client
from PIL import Image

from shop.models import Product
from tests.colour_catalogue import embed, photo, product
from visualsearch.testing import FakeEncoder, fake_checkpoint

SEARCH = "/api/search/"
MEGABYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def _no_throttle(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}


def shop() -> None:
    embed(fake_checkpoint(), product("red", "red"), product("blue", "blue"))


def upload(data: bytes, name: str = "photo.jpg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, content_type="image/jpeg")


@pytest.mark.django_db
def test_formats__that_are_not_ours_are_refused_over_http(client: Client) -> None:
    shop()
    refused = []
    Image.init()
    for format in sorted(set(Image.SAVE) - {"JPEG", "PNG", "WEBP", "MPO"}):
        buffer = io.BytesIO()
        try:
            Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(buffer, format)
        except Exception:  # needs another library, or another mode
            continue
        response = client.post(SEARCH, {"image": upload(buffer.getvalue())})
        assert (response.status_code, response.json()["code"]) == (400, "image_format"), format
        refused.append(format)
    assert len(refused) >= 10, refused


class Counted(io.RawIOBase):
    """A body that never ends by itself, and how much of it was read."""

    def __init__(self, head: bytes) -> None:
        self.head, self.taken = head, 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "nobody asks for all of it"
        data = self.head[self.taken : self.taken + size]
        data += b"x" * (size - len(data))
        self.taken += len(data)
        return data


def ask(body: Any, **environment: Any) -> tuple[str, bytes]:
    """Status and answer of a POST whose body is a stream, as a server hands it on."""
    status: list[str] = []
    answer = get_wsgi_application()(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": SEARCH,
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "10.0.0.9",
            "CONTENT_TYPE": "multipart/form-data; boundary=edge",
            "wsgi.url_scheme": "http",
            "wsgi.input": body,
            "wsgi.errors": io.StringIO(),
        }
        | environment,
        lambda line, headers: status.append(line),
    )
    return status[0], b"".join(answer)


HEAD = (
    b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n"
)


@pytest.mark.django_db(transaction=True)
def test_upload__is_left_as_soon_as_it_is_too_large() -> None:
    body = Counted(HEAD)
    status, answer = ask(body, CONTENT_LENGTH=str(10 * MEGABYTE))
    assert status.startswith("413") and b"image_too_large" in answer
    assert body.taken < 9 * MEGABYTE

    announced = Counted(HEAD)
    status, _ = ask(announced, CONTENT_LENGTH=str(10**12))
    assert status.startswith("413") and announced.taken == 0


@pytest.mark.django_db(transaction=True)
def test_upload__without_a_length_is_no_fault() -> None:
    for length in ({}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "-5"}, {"CONTENT_LENGTH": "x"}):
        body = Counted(HEAD)
        status, answer = ask(body, HTTP_TRANSFER_ENCODING="chunked", **length)
        assert status.startswith("400"), (length, status, answer)
        assert body.taken < 9 * MEGABYTE


@pytest.mark.django_db
def test_hundred_photos__leave_no_file_key_or_row(client: Client, data_folder: Any) -> None:
    from django.apps import apps

    shop()

    def everything() -> Any:
        rows = {model: model._base_manager.count() for model in apps.get_models()}
        return rows, sorted(data_folder.rglob("*")), sorted(cache._cache)  # type: ignore[attr-defined]

    before = everything()
    for number in range(100):
        data = photo("blue" if number % 2 else "red", size=(64 + number, 64))
        assert client.post(SEARCH, {"image": upload(data, "a.png")}).status_code == 200
    assert everything() == before


@pytest.mark.django_db(transaction=True)
def test_two_hundred_uploads_at_once__are_answered_or_told_to_wait(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER_CONCURRENCY": 2,
        "ENCODER_WAIT_SECONDS": 0.05,
    }
    shop()
    at_work: list[int] = []
    most: list[int] = []
    original = FakeEncoder.encode_image

    def slow(self: FakeEncoder, pixels: Any) -> Any:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.05)
        at_work.pop()
        return original(self, pixels)

    monkeypatch.setattr(FakeEncoder, "encode_image", slow)
    statuses: Counter[int] = Counter()
    waits: list[str] = []
    start = threading.Barrier(20)

    def visitor() -> None:
        client = Client(raise_request_exception=False)
        start.wait()
        for _ in range(10):
            response = client.post(SEARCH, {"image": upload(photo("red"))})
            statuses[response.status_code] += 1
            if response.status_code == 503:
                waits.append(response["Retry-After"])
        connections.close_all()

    threads = [threading.Thread(target=visitor) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200, 503} and sum(statuses.values()) == 200, statuses
    assert len(waits) == statuses[503] and all(int(each) > 0 for each in waits)
    assert max(most) <= 2
    assert Product.objects.count() == 2
