"""Requests made from the OpenAPI schema, good and bad: no server error, and every answer conforms."""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.colour_catalogue import embed, product, set_neighbours
from visualsearch.testing import fake_checkpoint

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 3
"""Requests of each kind for each operation; the whole takes about a minute."""
CURVE = {"scores": [-1.0, 1.0], "matches": [0.0, 1.0]}

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def api_schema(db: None, settings: Any) -> Iterator[Any]:
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
    # As Django's own test client does: the test's connection is not the requests' to close.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield schemathesis.openapi.from_wsgi("/api/schema/", get_wsgi_application())
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


_settings = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],
)


def ask(schema: Any, headers: dict[str, str]) -> Counter[int]:
    """Every operation with requests that fit the schema, and with such as do not; the statuses."""
    statuses: Counter[int] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @_settings
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def conforms(case: schemathesis.Case) -> None:
                response = case.call_and_validate(checks=CHECKS, headers=headers)
                statuses[response.status_code] += 1

            with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing could be wrong
                conforms()
    return statuses


def test_anonymous__every_answer_conforms(api_schema: Any) -> None:
    statuses = ask(api_schema, {})
    print("anonymous", dict(statuses))
    assert not [status for status in statuses if status >= 500 and status != 503]
    assert statuses[200] and statuses[400] and statuses[403]


def test_staff__every_answer_conforms(api_schema: Any) -> None:
    User.objects.create_superuser("boss", password="let me in")
    login = base64.b64encode(b"boss:let me in").decode()
    statuses = ask(api_schema, {"Authorization": f"Basic {login}"})
    print("staff", dict(statuses))
    assert not [status for status in statuses if status >= 500 and status != 503]
    assert statuses[200] and statuses[202] and statuses[400]
