"""The wheel alone, in a Django project that knows nothing of this repository."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from shop import embedded

ROOT = Path(__file__).resolve().parent.parent

SETTINGS = """
import dj_database_url, os
SECRET_KEY = "x"; DEBUG = True; ROOT_URLCONF = "project.urls"; USE_TZ = True; STATIC_URL = "/static/"
ALLOWED_HOSTS = ["*"]; MEDIA_ROOT = os.environ["MEDIA"]; MEDIA_URL = "/media/"
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
INSTALLED_APPS = ["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles", "store"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": ["django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth", "django.contrib.messages.context_processors.messages"]}}]
# --- what the owner of a shop adds ---
INSTALLED_APPS += ["visualsearch", "rest_framework", "drf_spectacular"]
VISUALSEARCH = {"PRODUCT_MODEL": "store.Poster", "ENCODER": "visualsearch.testing.FakeEncoder"}
"""
MODELS = """
from django.db import models

class Poster(models.Model):
    title = models.CharField(max_length=100)
    picture = models.ImageField(upload_to="posters")
    def get_absolute_url(self):
        return f"/posters/{self.pk}/"
"""
INDEX = """
import visualsearch
from store.models import Poster

@visualsearch.register(Poster)
class PosterIndex(visualsearch.VisualIndex):
    image_field = "picture"
    text_fields = ["title"]
"""
URLS = """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("search/", include("visualsearch.urls")),
    path("api/", include("visualsearch.api.urls")),
]
"""
JOURNEY = """
import io
import django
django.setup()
import visualsearch
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client
from PIL import Image
from store.models import Poster
from visualsearch import indexing, searching
from visualsearch.testing import fake_checkpoint

print("imported from", visualsearch.__file__)
fake_checkpoint()
for colour in ["red", "green", "blue", "navy"]:
    data = io.BytesIO()
    Image.new("RGB", (120, 160), colour).save(data, "PNG")
    Poster.objects.create(title=f"{colour} poster", picture=ContentFile(data.getvalue(), f"{colour}.png"))
indexing.index_pending(limit_seconds=60)
blue = Poster.objects.get(title="blue poster")
similar = [hit.product.title for hit in searching.similar_to(blue, limit=1)]
assert similar == ["navy poster"], similar
client = Client()
answer = client.get("/api/search/", {"q": "red", "limit": 1}).json()
assert answer["hits"][0]["id"] == Poster.objects.get(title="red poster").pk, answer
assert answer["degraded"] is False, answer
answer = client.get(f"/api/products/{blue.pk}/similar/").json()
assert answer["hits"], answer
page = client.get("/search/", {"q": "red"})
assert page.status_code == 200 and b"red poster" in page.content, page.content[:2000]
client.force_login(User.objects.create_superuser("owner", "", "x"))
for name in ["", "visualsearch/", "visualsearch/checkpoint/", "visualsearch/trainingrun/add/"]:
    assert client.get(f"/admin/{name}").status_code == 200, name
import sys
assert "torch" not in sys.modules
print("journey done")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


def run(*arguments: str, cwd: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_wheel__holds_the_app_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "visualsearch").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    packaged = {name for name in names if ".dist-info/" not in name}

    assert packaged == source
    assert {"visualsearch/py.typed", "visualsearch/migrations/0001_vector_extension.py"} <= packaged


def test_wheel__six_lines_of_settings_and_one_class_make_a_searchable_shop(
    wheel: Path, services: embedded.Addresses, tmp_path: Path
) -> None:
    import psycopg

    site = tmp_path / "site"
    run("-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel), cwd=tmp_path)
    project = tmp_path / "project"
    for name, text in {
        "project/__init__.py": "",
        "project/settings.py": SETTINGS,
        "project/urls.py": URLS,
        "store/__init__.py": "",
        "store/migrations/__init__.py": "",
        "store/models.py": MODELS,
        "store/visual_indexes.py": INDEX,
    }.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    server, _, _ = services.database_url.rpartition("/")
    database = "wheel_journey"
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {database}")
    environment = {
        "PYTHONPATH": f"{site}{os.pathsep}{project}",
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": f"{server}/{database}",
        "MEDIA": str(tmp_path / "media"),
    }
    try:
        for command in (
            ["makemigrations", "store"],
            ["migrate"],
            ["check", "--fail-level", "ERROR"],
        ):
            run("-m", "django", *command, cwd=project, environment=environment)
        output = run("-c", JOURNEY, cwd=project, environment=environment)
    finally:
        with psycopg.connect(services.database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
    assert f"imported from {site}" in output
    assert "journey done" in output
