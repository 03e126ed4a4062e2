"""docs/quickstart.md works as it is written: outside this repository, with the wheel that pip installs.

A new virtual environment, a new Django project, the page's own code blocks and commands, real training.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dj_database_url
import psycopg
import pytest

from shop import embedded

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "docs" / "quickstart.md"
DATABASE = "mysite"
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


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", QUICKSTART.read_text(), re.M | re.S)


def files_of_the_page() -> dict[str, str]:
    """Path -> code, by the comment that the blocks begin with."""
    found = {}
    for block in [*blocks("python"), *blocks("html")]:
        first = block.splitlines()[0]
        path = re.match(r"(?:# |\{# )(\S+)", first)
        assert path, f"a code block must begin with the name of its file, not with {first!r}"
        found[path[1]] = block
    return found


def commands_of_the_page() -> list[str]:
    """What the page tells to run, `pip install` and the server left out."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert any(line.startswith("pip install") for line in lines)
    return [
        line.removeprefix("python manage.py ")
        for line in lines
        if line.startswith("python manage.py ") and "runserver" not in line
    ]


@dataclass
class FreshProject:
    folder: Path
    python: Path
    environment: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, *arguments: str, script: str | None = None) -> str:
        began = time.monotonic()
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=self.environment,
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        self.seconds[" ".join(arguments)] = time.monotonic() - began
        assert done.returncode == 0, (
            f"{' '.join(arguments)} ended with {done.returncode}:\n"
            f"{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
        )
        return done.stdout

    def manage(self, *arguments: str, script: str | None = None) -> str:
        return self.run("manage.py", *arguments, script=script)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel; its dependencies are those that are here already."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True
    )
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    # A line in a .pth file adds the folder, and not what the .pth files in there add: this
    # repository, which is installed there for development, stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    interpreter = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "-q"]
    install += ["--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return interpreter


@pytest.fixture
def project(python: Path, services: embedded.Addresses, tmp_path: Path) -> Iterator[FreshProject]:
    """`django-admin startproject mysite`, filled from the page, with a database of its own."""
    server = dj_database_url.parse(services.database_url)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name
        not in ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL", "PYTHONPATH", "DEBUG")
    }
    # libpq's own variables: the page's settings name the database and nothing else.
    for name, key in {
        "PGHOST": "HOST",
        "PGPORT": "PORT",
        "PGUSER": "USER",
        "PGPASSWORD": "PASSWORD",
    }.items():
        if server.get(key):
            environment[name] = str(server[key])
    fresh = FreshProject(folder=tmp_path / "mysite", python=python, environment=environment)
    fresh.folder.mkdir()
    fresh.run("-m", "django", "startproject", "mysite", ".")
    fresh.manage("startapp", "catalogue")
    for name, text in files_of_the_page().items():
        path = fresh.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if name.endswith("settings.py") else ""
        path.write_text(before + text)
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        yield fresh
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def test_quickstart__has_six_lines_of_settings() -> None:
    (settings,) = (
        text for name, text in files_of_the_page().items() if name.endswith("settings.py")
    )

    assert len(settings.strip().splitlines()) - 1 == 6


def test_quickstart__followed_to_the_letter_makes_a_shop_with_visual_search(
    project: FreshProject,
) -> None:
    commands = commands_of_the_page()
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
