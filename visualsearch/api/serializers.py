"""The shapes of requests and answers, as the OpenAPI schema shows them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from rest_framework import serializers

from visualsearch.results import Hit, Results


class ImageRequestSerializer(serializers.Serializer[Any]):
    product = serializers.CharField(required=False, help_text="Id of a product.")
    base64 = serializers.CharField(required=False, help_text="A JPEG, PNG or WebP.")
    box = serializers.ListField(
        child=serializers.FloatField(min_value=0, max_value=1),
        min_length=4,
        max_length=4,
        required=False,
        help_text="Left, top, right, bottom of the part that is meant, as fractions.",
    )


class SearchRequestSerializer(serializers.Serializer[Any]):
    q = serializers.CharField(required=False, help_text="Words.")
    image = ImageRequestSerializer(required=False)
    modify = serializers.CharField(
        required=False, help_text="What should be different about the image or product."
    )
    filter = serializers.DictField(
        required=False, help_text="Allowed name -> value, or a list of values."
    )
    limit = serializers.IntegerField(required=False, min_value=1, default=20)
    offset = serializers.IntegerField(required=False, min_value=0, default=0)


class PhotoRequestSerializer(serializers.Serializer[Any]):
    image = serializers.FileField(required=False)
    product = serializers.CharField(required=False)
    q = serializers.CharField(required=False)
    modify = serializers.CharField(required=False)
    box = serializers.CharField(required=False, help_text="JSON: [left, top, right, bottom].")
    filter = serializers.CharField(required=False, help_text="JSON object.")
    limit = serializers.IntegerField(required=False, min_value=1, default=20)
    offset = serializers.IntegerField(required=False, min_value=0, default=0)


class HitImageSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(allow_blank=True)
    position = serializers.IntegerField(allow_null=True, help_text="Which photo matched.")


class HitProductSerializer(serializers.Serializer[Any]):
    title = serializers.CharField(allow_blank=True)
    url = serializers.CharField(allow_blank=True)
    price = serializers.CharField(allow_null=True)
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]


class HitSerializer(serializers.Serializer[Any]):
    # Product keys may be numbers, UUIDs or texts.
    id = serializers.JSONField(help_text="The product's key.")
    score = serializers.FloatField(
        allow_null=True, help_text="Cosine of query and photo; null in a degraded answer."
    )
    image = HitImageSerializer()
    product = HitProductSerializer()


class TotalSerializer(serializers.Serializer[Any]):
    value = serializers.IntegerField()
    relation = serializers.ChoiceField(choices=[("eq", "exactly"), ("gte", "at least")])


class SearchResponseSerializer(serializers.Serializer[Any]):
    hits = HitSerializer(many=True)
    total = TotalSerializer()
    checkpoint = serializers.CharField(allow_null=True)
    processing_time_ms = serializers.IntegerField()
    degraded = serializers.BooleanField(help_text="A lesser answer than was asked for.")
    degraded_reason = serializers.CharField(allow_null=True)


class ProblemSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable: programs may rely on it.")
    detail = serializers.CharField(help_text="For people: what is wrong and what to do.")
    field = serializers.CharField(required=False, help_text="The part at fault.")


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "untrained", "down"])


def as_response(
    results: Results, hits: list[Hit], *, request: HttpRequest, milliseconds: float
) -> dict[str, Any]:
    """The body that SearchResponseSerializer describes."""
    total = results.matching
    return {
        "hits": [_hit(hit, request) for hit in hits],
        "total": {"value": total.value, "relation": "eq" if total.exact else "gte"},
        "checkpoint": results.checkpoint,
        "processing_time_ms": round(milliseconds),
        "degraded": results.degraded,
        "degraded_reason": results.reason or None,
    }


def _hit(hit: Hit, request: HttpRequest) -> dict[str, Any]:
    key = hit.product.pk
    return {
        "id": key if isinstance(key, int) else str(key),
        "score": None if hit.score is None else round(hit.score, 4),
        "image": {"url": _absolute(hit.image_url, request), "position": hit.position},
        "product": {
            "title": hit.title,
            "url": _absolute(hit.url, request),
            "price": None if hit.price is None else str(hit.price),
            "label": hit.label,
        },
    }


def _absolute(url: str, request: HttpRequest) -> str:
    return request.build_absolute_uri(url) if url else ""
