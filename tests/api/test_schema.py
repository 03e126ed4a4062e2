"""The OpenAPI schema is valid, has no warnings, and is served at the project's own prefix."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from django.test import Client
from drf_spectacular.validation import validate_schema

ROOT = Path(__file__).resolve().parents[2]


def test_schema__validates_without_warnings() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "spectacular", "--validate", "--fail-on-warn"],
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "/api/search/" in done.stdout


def test_schema__is_served_with_the_paths_as_they_are(client: Client, db: None) -> None:
    response = client.get("/api/schema/")
    assert response.status_code == 200
    schema = yaml.safe_load(response.content)
    validate_schema(schema)
    assert set(schema["paths"]) == {
        "/api/search/",
        "/api/recommend/",
        "/api/products/{id}/similar/",
        "/api/products/{id}/modifications/",
        "/api/1/indexes/{index}/queries",
        "/api/1/indexes/{index}/recommendations",
        "/api/events/",
        "/api/health/",
        "/api/schema/",
        "/api/stats/",
        "/api/checkpoints/",
        "/api/checkpoints/{id}/promote/",
        "/api/checkpoints/rollback/",
        "/api/training-runs/",
        "/api/training-runs/{id}/",
    }
    answers = schema["paths"]["/api/search/"]["post"]["responses"]
    assert "application/problem+json" in answers["400"]["content"]
    assert set(schema["paths"]["/api/search/"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
    }
