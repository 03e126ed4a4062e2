"""A Django project made from the code blocks of one of the documents, outside this repository."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dj_database_url
import psycopg

from shop import embedded

DATABASE = "mysite"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def files_of(page: Path) -> dict[str, str]:
    """Path -> code, by the comment that the blocks begin with; blocks of one file follow each other."""
    found: dict[str, str] = {}
    for block in [*blocks(page, "python"), *blocks(page, "html")]:
        first = block.splitlines()[0]
        path = re.match(r"(?:# |\{# )(\S+)", first)
        assert path, f"a code block must begin with the name of its file, not with {first!r}"
        found[path[1]] = found.get(path[1], "") + block
    return found


def commands_of(page: Path) -> list[str]:
    """What the page tells to run, `pip install` and the server left out."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
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


@contextmanager
def new_project(
    page: Path,
    *,
    python: Path,
    services: embedded.Addresses,
    folder: Path,
    apps: tuple[str, ...] = ("catalogue",),
) -> Iterator[FreshProject]:
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
    fresh = FreshProject(folder=folder / "mysite", python=python, environment=environment)
    fresh.folder.mkdir()
    fresh.run("-m", "django", "startproject", "mysite", ".")
    for app in apps:
        fresh.manage("startapp", app)
    for name, text in files_of(page).items():
        path = fresh.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if name.endswith("settings.py") else ""
        path.write_text(before + text)
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        yield fresh
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
