"""docs/quickstart.md works as it is written: outside this repository, with the wheel that pip installs.

A new virtual environment, a new Django project, the page's own code blocks and commands, real training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop import embedded
from tests.fresh_project import FreshProject, commands_of, files_of, new_project

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "docs" / "quickstart.md"
# The recipe's own epochs take minutes; so few are just enough for the gate.
QUICK_TRAINING = "visualsearch_train --epochs 20"
TRAINING_MOST_SECONDS = 180
"""Two idle cores take half a minute; this is about whether it works on busy ones."""

FILL_SHOP = """
import io
from django.core.files.base import ContentFile
from PIL import Image, ImageDraw
from catalogue.models import Product

COLOURS = ["red", "orange", "gold", "green", "teal", "blue", "navy", "purple", "pink", "black"]


def draw(kind, colour):
    image = Image.new("RGB", (120, 160), "white")
    pen = ImageDraw.Draw(image)
    if kind == "shirt":
        pen.polygon([(15, 40), (60, 20), (105, 40), (92, 70), (90, 140), (30, 140), (28, 70)], fill=colour)
    elif kind == "bag":
        pen.rectangle((25, 70, 95, 140), fill=colour)
        pen.arc((40, 30, 80, 110), 180, 360, fill=colour, width=6)
    else:
        pen.ellipse((20, 60, 100, 130), fill=colour)
    data = io.BytesIO()
    image.save(data, "PNG")
    return ContentFile(data.getvalue(), f"{kind}-{colour}.png")


for kind in ["shirt", "bag", "hat"]:
    for colour in COLOURS:
        Product.objects.create(
            name=f"{colour.capitalize()} {kind}", colour=colour, category=kind, photo=draw(kind, colour)
        )
"""

ASK_SHOP = """
import json, sys
from django.contrib.auth.models import User
from django.test import Client
from catalogue.models import Product
import visualsearch
from visualsearch.models import Checkpoint, Embedding, IndexEntry

client = Client(headers={"host": "localhost"})
shirt = Product.objects.get(name="Red shirt")
page = client.get(shirt.get_absolute_url())
photo = client.post("/search/", {"image": shirt.photo.open()})
text = client.get("/api/search/", {"q": "blue", "limit": 5}).json()
admin = {}
client.force_login(User.objects.create_superuser("owner", password="x"))
for name in ["", "visualsearch/", "visualsearch/checkpoint/", "visualsearch/trainingrun/",
             "visualsearch/trainingrun/add/", "visualsearch/indexentry/"]:
    admin[name] = client.get(f"/admin/{name}").status_code
others = [p.get_absolute_url() for p in Product.objects.exclude(pk=shirt.pk)]
print(json.dumps({
    "module": visualsearch.__file__,
    "products": Product.objects.count(),
    "embedded": Embedding.objects.filter(checkpoint=Checkpoint.objects.live()).count(),
    "entries": IndexEntry.objects.counts(),
    "page": page.status_code,
    "widget": sum(f'href="{url}"' in page.content.decode() for url in others),
    "widget_itself": f'href="{shirt.get_absolute_url()}"' in page.content.decode(),
    "form": "<form" in page.content.decode(),
    "photo": photo.status_code,
    "photo_found": shirt.get_absolute_url() in photo.content.decode(),
    "text": text,
    "similar": client.get(f"/api/products/{shirt.pk}/similar/").json(),
    "results_page": client.get("/search/", {"q": "blue"}).status_code,
    "schema": client.get("/api/schema/").status_code,
    "admin": admin,
    "torch": "torch" in sys.modules,
}))
"""


@pytest.fixture
def project(
    fresh_python: Path, services: embedded.Addresses, tmp_path: Path
) -> Iterator[FreshProject]:
    with new_project(QUICKSTART, python=fresh_python, services=services, folder=tmp_path) as made:
        yield made


def test_quickstart__has_six_lines_of_settings() -> None:
    (settings,) = (
        text for name, text in files_of(QUICKSTART).items() if name.endswith("settings.py")
    )

    assert len(settings.strip().splitlines()) - 1 == 6


def test_quickstart__followed_to_the_letter_makes_a_shop_with_visual_search(
    project: FreshProject,
) -> None:
    commands = commands_of(QUICKSTART)
    assert [command.split()[0] for command in commands] == [
        "makemigrations",
        "migrate",
        "check",
        "visualsearch_train",
        "visualsearch_index",
    ]
    for command in commands:
        if command == "visualsearch_train":
            project.manage("shell", script=FILL_SHOP)
            command = QUICK_TRAINING
        project.manage(*command.split())

    output = project.manage("shell", script=ASK_SHOP)

    answer = json.loads(output.strip().splitlines()[-1])
    assert Path(answer["module"]).is_relative_to(project.python.parent.parent)
    assert answer["products"] == answer["embedded"] == 30
    assert answer["entries"] == {"pending": 0, "indexed": 30, "failed": 0}
    # the product page, with its widget and its form
    assert answer["page"] == 200
    assert answer["widget"] == 8
    assert not answer["widget_itself"]
    assert answer["form"]
    # the search page: words, and a photo that is found again
    assert answer["results_page"] == 200
    assert answer["photo"] == 200
    assert answer["photo_found"]
    # the API answers with the network that was just trained
    assert len(answer["text"]["hits"]) == 5
    assert not answer["text"]["degraded"]
    assert answer["similar"]["hits"]
    assert not answer["similar"]["degraded"]
    assert answer["schema"] == 200
    assert set(answer["admin"].values()) == {200}
    # the web process does all that without torch
    assert not answer["torch"]
    assert project.seconds[f"manage.py {QUICK_TRAINING}"] < TRAINING_MOST_SECONDS
