"""docs/django-oscar.md and docs/wagtail.md work as they are written, with the released packages.

A new project from each page's code blocks and commands, real training, and the pages a visitor opens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shop import embedded
from tests.fresh_project import FreshProject, commands_of, new_project

DOCS = Path(__file__).resolve().parent.parent / "docs"
QUICK_TRAINING = "visualsearch_train --epochs 20"

DRAW = """
import io
from django.core.files.images import ImageFile
from PIL import Image as Picture, ImageDraw

COLOURS = ["red", "orange", "gold", "green", "teal", "blue", "navy", "purple", "pink", "black"]


def draw(kind, colour):
    picture = Picture.new("RGB", (120, 160), "white")
    pen = ImageDraw.Draw(picture)
    if kind == "shirt":
        pen.polygon([(15, 40), (60, 20), (105, 40), (92, 70), (90, 140), (30, 140), (28, 70)], fill=colour)
    elif kind == "bag":
        pen.rectangle((25, 70, 95, 140), fill=colour)
        pen.arc((40, 30, 80, 110), 180, 360, fill=colour, width=6)
    else:
        pen.ellipse((20, 60, 100, 130), fill=colour)
    data = io.BytesIO()
    picture.save(data, "PNG")
    data.seek(0)
    return ImageFile(data, name=f"{kind}-{colour}.png")
"""

FILL_OSCAR = (
    DRAW
    + """
from oscar.apps.catalogue.models import Product, ProductAttribute, ProductClass, ProductImage
from oscar.apps.catalogue.models import ProductAttributeValue

for kind in ["shirt", "bag", "hat"]:
    group = ProductClass.objects.create(name=kind)
    colours = ProductAttribute.objects.create(product_class=group, name="Colour", code="colour", type="text")
    for colour in COLOURS:
        product = Product.objects.create(title=f"{colour.capitalize()} {kind}", product_class=group)
        ProductAttributeValue.objects.create(product=product, attribute=colours, value_text=colour)
        ProductImage.objects.create(product=product, original=draw(kind, colour))
"""
)

FILL_WAGTAIL = (
    DRAW
    + """
from wagtail.images.models import Image

for kind in ["shirt", "bag", "hat"]:
    for colour in COLOURS:
        Image.objects.create(title=f"{colour.capitalize()} {kind}", file=draw(kind, colour))
"""
)

ASK = """
import json
from django.contrib.auth.models import User
from django.test import Client
from visualsearch.indexes import get_index
from visualsearch.models import Checkpoint, Embedding

index = get_index()
client = Client(headers={"host": "localhost"})
shirt = next(p for p in index.get_queryset() if index.get_title(p) == "Red shirt")
photo = client.post("/look/", {"image": index.get_images(shirt)[0].open()})
owner = Client(headers={"host": "localhost"})
owner.force_login(User.objects.create_superuser("owner", "owner@example.org", "x"), "django.contrib.auth.backends.ModelBackend")
page = client.get(shirt.get_absolute_url()) if hasattr(shirt, "get_absolute_url") else None
print(json.dumps({
    "embedded": Embedding.objects.filter(checkpoint=Checkpoint.objects.live()).count(),
    "attributes": index.get_attributes(shirt),
    "page": page and page.status_code,
    "widget": bool(page) and "visual-similar" in page.content.decode(),
    "words": client.get("/look/", {"q": "blue"}).status_code,
    "photo": photo.status_code,
    "photo_found": index.get_url(shirt) in photo.content.decode(),
    "similar": client.get(f"/api/products/{shirt.pk}/similar/").json(),
    "retrain": owner.get(f"{ADMIN}visualsearch/trainingrun/add/").status_code,
    "health": owner.get(f"{ADMIN}visualsearch/indexentry/").status_code,
}))
"""


@pytest.fixture
def project(
    request: pytest.FixtureRequest,
    fresh_python: Path,
    services: embedded.Addresses,
    tmp_path: Path,
) -> Iterator[FreshProject]:
    page = DOCS / request.param
    with new_project(
        page, python=fresh_python, services=services, folder=tmp_path, apps=()
    ) as made:
        yield made


def follow(project: FreshProject, page: str, *, fill: str, admin: str) -> dict[str, Any]:
    """Do what the page says, and ask the site that it makes."""
    commands = commands_of(DOCS / page)
    assert commands[-1] == "visualsearch_train"
    for command in commands:
        if command == "visualsearch_train":
            project.manage("shell", script=fill)
            command = QUICK_TRAINING
        project.manage(*command.split())
    output = project.manage("shell", script=f"ADMIN = {admin!r}\n{ASK}")
    answer: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return answer


def check(answer: dict[str, Any]) -> None:
    assert answer["embedded"] == 30
    assert (answer["words"], answer["photo"], answer["photo_found"]) == (200, 200, True)
    assert len(answer["similar"]["hits"]) == 8
    assert not answer["similar"]["degraded"]
    assert (answer["retrain"], answer["health"]) == (200, 200)


@pytest.mark.slow
@pytest.mark.parametrize("project", ["django-oscar.md"], indirect=True)
def test_oscar__similar_items_search_and_retrain_by_the_page_alone(project: FreshProject) -> None:
    answer = follow(project, "django-oscar.md", fill=FILL_OSCAR, admin="/admin/")

    check(answer)
    assert (answer["page"], answer["widget"]) == (200, True)
    assert answer["attributes"] == {"colour": "red"}


@pytest.mark.slow
@pytest.mark.parametrize("project", ["wagtail.md"], indirect=True)
def test_wagtail__the_image_library_by_how_pictures_look(project: FreshProject) -> None:
    check(follow(project, "wagtail.md", fill=FILL_WAGTAIL, admin="/django-admin/"))
