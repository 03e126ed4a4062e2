"""Ask the running shop the four kinds of question over HTTP and print what came back."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

TIMEOUT_S = 30.0
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one question brought."""

    question: str
    titles: list[str]
    milliseconds: float
    problem: str = ""


def ask_all(url: str, *, seconds: float) -> int:
    """0 when all four answers have hits and none is degraded, else 1."""
    api = urllib.parse.urljoin(url, "api/")
    product = _some_product()
    photo = _photo_of(product)
    search = f"{api}search/"
    composed = {"image": {"product": product.pk}, "modify": "in blue", "limit": 5}
    answers = [
        _ask(f"similar to “{product.name}”", f"{api}products/{product.pk}/similar/"),
        _ask("text “red dress”", f"{search}?{urllib.parse.urlencode({'q': 'red dress'})}"),
        _ask(f"a photo of “{product.name}”", search, *_multipart(photo)),
        _ask(
            f"like “{product.name}” but “in blue”",
            search,
            json.dumps(composed).encode(),
            "application/json",
        ),
    ]
    table = Table(
        title=f"The shop's answers, {seconds:.0f} s after the start", title_justify="left"
    )
    for column in ("question", "first hits", "ms", ""):
        table.add_column(column, overflow="fold")
    for answer in answers:
        table.add_row(
            answer.question,
            "\n".join(answer.titles[:SHOWN]),
            f"{answer.milliseconds:.0f}",
            answer.problem or "ok",
        )
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
    else:
        print(_wide(table))  # a log has no width to fold to
    return int(any(answer.problem for answer in answers))


def _wide(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=120, highlight=False).print(table)
    return text.getvalue()


def _some_product() -> Any:
    """A red dress when there is one: "in blue" then has something to change."""
    from shop.models import Product

    shown = Product.objects.filter(published=True, images__isnull=False).order_by("pk")
    red = shown.filter(colour__iexact="red")
    found = red.filter(category__icontains="dress").first() or red.first() or shown.first()
    if found is None:
        raise LookupError("The catalogue is empty: nothing to ask for.")
    return found


def _photo_of(product: Any) -> bytes:
    """As a shopper would take it: not the file in the catalogue, but a tighter, recompressed one."""
    from PIL import Image

    with product.images.first().original.open("rb") as file, Image.open(file) as image:
        margin_x, margin_y = image.width // 20, image.height // 20
        cropped = image.convert("RGB").crop(
            (margin_x, margin_y, image.width - margin_x, image.height - margin_y)
        )
    taken = io.BytesIO()
    cropped.save(taken, "JPEG", quality=70)
    return taken.getvalue()


def _multipart(photo: bytes) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + photo + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _ask(question: str, url: str, body: bytes | None = None, content_type: str = "") -> Answer:
    headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if body else {})
    request = urllib.request.Request(url, data=body, headers=headers)
    began = time.perf_counter()
    problem, answer = "", {}
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        problem = f"HTTP {error.code}: {error.read(300).decode(errors='replace')}"
    except (OSError, ValueError) as error:
        problem = str(error)
    milliseconds = 1000 * (time.perf_counter() - began)
    titles = [_title(hit) for hit in answer.get("hits", [])]
    if not problem and not titles:
        problem = "no hits"
    elif not problem and answer.get("degraded", True):
        problem = "degraded"
    return Answer(question=question, titles=titles, milliseconds=milliseconds, problem=problem)


def _title(hit: dict[str, Any]) -> str:
    from shop.models import Product

    # The shop's own name, so that the table does not depend on what the API says of a product.
    found = Product.objects.filter(pk=hit["id"]).first() if "id" in hit else None
    return found.photo_description if found else f"#{hit.get('id')}, which is not in the catalogue"
