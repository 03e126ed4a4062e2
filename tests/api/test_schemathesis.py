"""Requests made from the OpenAPI schema, good and bad: no server error, and every answer conforms."""

from __future__ import annotations

import base64
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.wsgi import get_wsgi_application
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.colour_catalogue import embed, product, set_neighbours
from visualsearch.models import Checkpoint
from visualsearch.testing import fake_checkpoint

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CURVE = {"scores": [-1.0, 1.0], "matches": [0.0, 1.0]}

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def api_schema(db: None, settings: Any) -> Any:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"THROTTLE_RATES": {}}
    fake_checkpoint()
    checkpoint = fake_checkpoint(
        metrics={
            "calibration": {kind: CURVE for kind in ("image", "text", "composed")},
            "attributes": {"colour": ["red", "blue", "green"]},
        }
    )
    made = [product(f"p{n}", colour) for n, colour in enumerate(["red", "blue", "green", "navy"])]
    embed(checkpoint, *made)
    set_neighbours(checkpoint, *made)
    schema = schemathesis.openapi.from_wsgi("/api/schema/", get_wsgi_application())
    known = [str(each.pk) for each in made] + [str(pk) for pk in _keys(Checkpoint)]
    schema.known = known
    return schema


def _keys(model: Any) -> list[Any]:
    return list(model.objects.values_list("pk", flat=True))


schema = schemathesis.pytest.from_fixture("api_schema")
_settings = hypothesis.settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


@schema.parametrize()
@_settings
def test_anonymous__every_answer_conforms(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)


@pytest.fixture
def boss(db: None) -> dict[str, str]:
    User.objects.create_superuser("boss", password="let me in")
    login = base64.b64encode(b"boss:let me in").decode()
    return {"Authorization": f"Basic {login}"}


@schema.parametrize()
@_settings
def test_staff__every_answer_conforms(case: schemathesis.Case, boss: dict[str, str]) -> None:
    case.call_and_validate(checks=CHECKS, headers=boss)
