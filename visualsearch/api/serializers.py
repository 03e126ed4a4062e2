"""The shapes of answers, as the OpenAPI schema shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from visualsearch.api.request_serializers import (
    EventSerializer,
    KeyField,
    PhotoRequestSerializer,
    RecommendRequestSerializer,
    SearchRequestSerializer,
    TrainingRequestSerializer,
)
from visualsearch.models import Checkpoint, TrainingRun
from visualsearch.search.facets import SCOPE, Facet
from visualsearch.search.modifying import Suggestion
from visualsearch.search.results import Hit, Results, Total

__all__ = [
    "EventSerializer",
    "PhotoRequestSerializer",
    "RecommendRequestSerializer",
    "SearchRequestSerializer",
    "TrainingRequestSerializer",
]


class HitImageSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(allow_blank=True)
    position = serializers.IntegerField(allow_null=True, help_text="Which photo matched.")


class HitProductSerializer(serializers.Serializer[Any]):
    title = serializers.CharField(allow_blank=True)
    url = serializers.CharField(allow_blank=True)
    price = serializers.CharField(allow_null=True)
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]


class ScorePartSerializer(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="The part of the request: q, image, positive, …")
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    weight = serializers.FloatField()
    cosine = serializers.FloatField()
    adds = serializers.FloatField(help_text="What it adds to the score.")


class ExplanationSerializer(serializers.Serializer[Any]):
    parts = ScorePartSerializer(many=True)
    photo = serializers.IntegerField(allow_null=True)
    place_by_vector = serializers.IntegerField(allow_null=True)
    place_by_words = serializers.IntegerField(allow_null=True)
    exact_code = serializers.BooleanField()
    shared_attributes = serializers.DictField(child=serializers.CharField())


class HitSerializer(serializers.Serializer[Any]):
    # Product keys may be numbers, UUIDs or texts.
    id = KeyField(help_text="The product's key.")
    score = serializers.FloatField(
        allow_null=True, help_text="Cosine of query and photo; null in a degraded answer."
    )
    match = serializers.FloatField(
        allow_null=True,
        help_text="Share of right hits among those with such a score; it keeps its meaning after "
        "a retrain. null where it was not calibrated.",
    )
    image = HitImageSerializer()
    product = HitProductSerializer()
    explanation = ExplanationSerializer(required=False)


class TotalSerializer(serializers.Serializer[Any]):
    value = serializers.IntegerField()
    relation = serializers.ChoiceField(choices=[("eq", "exactly"), ("gte", "at least")])


@extend_schema_field(OpenApiTypes.ANY)
class ValueField(serializers.JSONField):
    """A text, a number, true or false."""


class FacetValueSerializer(serializers.Serializer[Any]):
    value = ValueField()
    count = serializers.IntegerField()


class FacetStatsSerializer(serializers.Serializer[Any]):
    min = ValueField()
    max = ValueField()


class SearchResponseSerializer(serializers.Serializer[Any]):
    hits = HitSerializer(many=True)
    total = TotalSerializer(help_text="How many the filters leave: vectors rank all of them.")
    answering = TotalSerializer(
        allow_null=True,
        help_text="How many have all of the words, or match where no vectors were compared: the "
        "number to show. Null where nobody can say, as of a photo.",
    )
    facets = serializers.DictField(child=FacetValueSerializer(many=True))
    facet_stats = serializers.DictField(child=FacetStatsSerializer())
    facet_scope = serializers.ChoiceField(
        choices=[SCOPE], help_text="Everything that matches the filters is counted."
    )
    understood = serializers.DictField(
        child=serializers.CharField(),
        help_text="Conditions that were taken out of the words, as filters.",
    )
    query_id = serializers.CharField(help_text="Names this search in events.")
    image_token = serializers.CharField(
        allow_null=True, help_text="Stands for the photo in further searches."
    )
    checkpoint = serializers.CharField(allow_null=True)
    processing_time_ms = serializers.IntegerField()
    degraded = serializers.BooleanField(help_text="A lesser answer than was asked for.")
    degraded_reason = serializers.CharField(allow_null=True)


class ModificationSerializer(serializers.Serializer[Any]):
    attribute = serializers.CharField()
    value = serializers.CharField()
    modify = serializers.CharField(help_text="What to search with.")
    count = serializers.IntegerField()


class ModificationsResponseSerializer(serializers.Serializer[Any]):
    modifications = ModificationSerializer(many=True)


class EventResponseSerializer(serializers.Serializer[Any]):
    query_id = serializers.CharField()
    action_name = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable: programs may rely on it.")
    detail = serializers.CharField(help_text="For people: what is wrong and what to do.")
    field = serializers.CharField(required=False, help_text="The part at fault.")


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "untrained", "down"])


class StatsSerializer(serializers.Serializer[Any]):
    products = serializers.IntegerField()
    indexed = serializers.IntegerField()
    pending = serializers.IntegerField()
    failed = serializers.IntegerField()
    embeddings = serializers.IntegerField()
    oldest_pending_seconds = serializers.IntegerField()
    last_indexed = serializers.DateTimeField(allow_null=True)
    checkpoint = serializers.CharField(allow_null=True)
    open_run = serializers.IntegerField(allow_null=True)


class CheckpointSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    recipe = serializers.CharField()
    state = serializers.ChoiceField(choices=Checkpoint.State.choices)
    verdict = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    promoted_at = serializers.DateTimeField(allow_null=True)


class CheckpointsSerializer(serializers.Serializer[Any]):
    checkpoints = CheckpointSerializer(many=True)


class ProgressSerializer(serializers.Serializer[Any]):
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    eta_s = serializers.FloatField(allow_null=True)


@extend_schema_field({"type": "object", "additionalProperties": True})
class FiguresField(serializers.JSONField):
    """The figures of the evaluation."""


class TrainingRunSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    recipe = serializers.CharField()
    status = serializers.ChoiceField(choices=TrainingRun.State.choices)
    stage = serializers.CharField(allow_blank=True)
    progress = ProgressSerializer()
    metrics = FiguresField()
    error = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


def as_response(
    results: Results,
    hits: list[Hit],
    *,
    request: HttpRequest,
    milliseconds: float,
    facets: Sequence[Facet] = (),
    explained: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """The body that SearchResponseSerializer describes."""
    total, answering = results.matching, results.answering
    found = [_hit(hit, request) for hit in hits]
    for body, explanation in zip(found, explained or (), strict=False):
        body["explanation"] = explanation.as_dict()
    return {
        "hits": found,
        "total": _total(total),
        "answering": None if answering is None else _total(answering),
        "facets": {
            facet.name: [{"value": value, "count": count} for value, count in facet.counts]
            for facet in facets
        },
        "facet_stats": {
            facet.name: {"min": facet.least, "max": facet.most}
            for facet in facets
            if facet.least is not None
        },
        "facet_scope": SCOPE,
        "understood": results.understood,
        "query_id": results.query_id,
        "image_token": results.photo_token or None,
        "checkpoint": results.checkpoint,
        "processing_time_ms": round(milliseconds),
        "degraded": results.degraded,
        "degraded_reason": results.reason or None,
    }


def _total(total: Total) -> dict[str, Any]:
    return {"value": total.value, "relation": "eq" if total.exact else "gte"}


def as_suggestion(suggestion: Suggestion) -> dict[str, Any]:
    """The body that ModificationSerializer describes."""
    return {
        "attribute": suggestion.attribute,
        "value": suggestion.value,
        "modify": suggestion.modify,
        "count": suggestion.count,
    }


def as_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """The body that CheckpointSerializer describes."""
    return {
        "id": checkpoint.pk,
        "name": checkpoint.name,
        "recipe": checkpoint.recipe,
        "state": checkpoint.state,
        "verdict": checkpoint.verdict,
        "created_at": checkpoint.created_at,
        "promoted_at": checkpoint.promoted_at,
    }


def as_run(run: TrainingRun) -> dict[str, Any]:
    """The body that TrainingRunSerializer describes."""
    return {
        "id": run.pk,
        "recipe": run.recipe,
        "status": run.state,
        "stage": run.stage,
        "progress": {"done": run.done, "total": run.total, "eta_s": run.eta_seconds},
        "metrics": run.metrics,
        "error": run.error,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
    }


def _hit(hit: Hit, request: HttpRequest) -> dict[str, Any]:
    key = hit.product.pk
    return {
        "id": key if isinstance(key, int) else str(key),
        "score": None if hit.score is None else round(hit.score, 4),
        "match": None if hit.match is None else round(hit.match, 4),
        "image": {"url": absolute(hit.image_url, request), "position": hit.position},
        "product": {
            "title": hit.title,
            "url": absolute(hit.url, request),
            "price": None if hit.price is None else str(hit.price),
            "label": hit.label,
        },
    }


def absolute(url: str, request: HttpRequest) -> str:
    """With scheme and host, for clients that are not pages of the shop."""
    return request.build_absolute_uri(url) if url else ""
