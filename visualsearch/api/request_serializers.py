"""The shapes of requests, as the OpenAPI schema shows them; parsing.py reads them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from visualsearch.models import SearchEvent
from visualsearch.queries.cleaning import MOST_STRENGTH
from visualsearch.queries.options import COLLAPSE
from visualsearch.queries.terms import MOST_EXAMPLES, MOST_TERMS, MOST_WEIGHT

_WEIGHT = {"type": "number", "minimum": -MOST_WEIGHT, "maximum": MOST_WEIGHT}
_KEY = {"oneOf": [{"type": "string", "maxLength": 255}, {"type": "integer"}]}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": _WEIGHT, "maxProperties": MOST_TERMS},
        ],
        "description": 'Words, or words with weights: {"red dress": 1, "formal": -0.4}.',
    }
)
class WordsField(serializers.JSONField):
    """Words, or a mapping words -> weight."""


@extend_schema_field(
    {
        "type": "array",
        "maxItems": MOST_EXAMPLES,
        "items": {
            "oneOf": [
                *_KEY["oneOf"],
                {
                    "type": "object",
                    "required": ["id"],
                    "properties": {"id": _KEY, "weight": {**_WEIGHT, "minimum": 0}},
                    "additionalProperties": False,
                },
            ]
        },
        "description": 'Ids of products, or {"id": 33, "weight": 0.5}.',
    }
)
class ExamplesField(serializers.JSONField):
    """Products with or without weights."""


@extend_schema_field(
    {
        "oneOf": [
            {"type": "boolean"},
            _SHARE,
            {
                "type": "object",
                "properties": {"semantic_ratio": _SHARE},
                "additionalProperties": False,
            },
        ],
        "description": "Whether words are matched as words too; semantic_ratio 1 is vectors alone.",
    }
)
class HybridField(serializers.JSONField):
    """Whether words are matched as words too."""


@extend_schema_field(
    {
        "oneOf": [
            {"type": "boolean"},
            {
                "type": "object",
                "properties": {
                    "mmr": _SHARE,
                    "max_per": {
                        "type": "object",
                        "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 100},
                        "maxProperties": 3,
                    },
                },
                "additionalProperties": False,
            },
        ],
        "description": "mmr: how much variety counts against nearness; max_per: hits a value.",
    }
)
class DiversityField(serializers.JSONField):
    """Variety, and caps by field."""


class ImageRequestSerializer(serializers.Serializer[Any]):
    product = serializers.CharField(required=False, help_text="Id of a product.")
    base64 = serializers.CharField(required=False, help_text="A JPEG, PNG or WebP.")
    token = serializers.CharField(required=False, help_text="image_token of an earlier answer.")
    url = serializers.CharField(
        required=False, help_text="Web address of a photo, on a host that the shop allows."
    )
    box = serializers.ListField(
        child=serializers.FloatField(min_value=0, max_value=1),
        min_length=4,
        max_length=4,
        required=False,
        help_text="Left, top, right, bottom of the part that is meant, as fractions.",
    )


class AnswerRequestSerializer(serializers.Serializer[Any]):
    """What an answer shall be like, whatever is asked for."""

    filter = serializers.DictField(
        required=False, help_text="Allowed name -> value, or a list of values."
    )
    facets = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        max_length=10,
        help_text="Filter fields whose values are counted.",
    )
    diversity = DiversityField(required=False)
    collapse = serializers.ChoiceField(choices=COLLAPSE, required=False)
    min_match = serializers.FloatField(
        required=False, min_value=0, max_value=1, help_text="Hits below are not shown."
    )
    limit = serializers.IntegerField(required=False, min_value=1, max_value=100, default=20)
    offset = serializers.IntegerField(required=False, min_value=0, max_value=1000, default=0)
    explain = serializers.BooleanField(required=False, default=False)


class SearchRequestSerializer(AnswerRequestSerializer):
    q = WordsField(required=False)
    image = ImageRequestSerializer(required=False)
    modify = serializers.CharField(
        required=False, help_text="What should be different about the image or product."
    )
    strength = serializers.FloatField(
        required=False,
        min_value=0,
        max_value=MOST_STRENGTH,
        help_text="How different: 1 is usual.",
    )
    positive = ExamplesField(required=False)
    negative = ExamplesField(required=False)
    hybrid = HybridField(required=False)


class RecommendRequestSerializer(AnswerRequestSerializer):
    positive = ExamplesField()
    negative = ExamplesField(required=False)


class PhotoRequestSerializer(serializers.Serializer[Any]):
    image = serializers.FileField(required=False)
    product = serializers.CharField(required=False)
    token = serializers.CharField(required=False)
    url = serializers.CharField(required=False)
    q = serializers.CharField(required=False)
    modify = serializers.CharField(required=False)
    strength = serializers.FloatField(required=False, min_value=0, max_value=MOST_STRENGTH)
    box = serializers.CharField(required=False, help_text="JSON: [left, top, right, bottom].")
    positive = serializers.CharField(required=False, help_text="Ids with commas, or JSON.")
    negative = serializers.CharField(required=False, help_text="Ids with commas, or JSON.")
    hybrid = serializers.CharField(required=False, help_text="JSON.")
    filter = serializers.CharField(required=False, help_text="JSON object.")
    facets = serializers.CharField(required=False, help_text="Names with commas, or JSON.")
    diversity = serializers.CharField(required=False, help_text="JSON.")
    collapse = serializers.ChoiceField(choices=COLLAPSE, required=False)
    min_match = serializers.FloatField(required=False, min_value=0, max_value=1)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=100, default=20)
    offset = serializers.IntegerField(required=False, min_value=0, max_value=1000, default=0)
    explain = serializers.BooleanField(required=False, default=False)


@extend_schema_field(_KEY)
class KeyField(serializers.JSONField):
    """A product's key."""


class EventSerializer(serializers.Serializer[Any]):
    query_id = serializers.CharField(help_text="query_id of the answer.")
    action_name = serializers.ChoiceField(choices=SearchEvent.Action.choices)
    object_id = KeyField(required=False, help_text="The product; for all but impression.")
    position = serializers.IntegerField(required=False, min_value=1, max_value=100_000)


class TrainingRequestSerializer(serializers.Serializer[Any]):
    recipe = serializers.CharField(required=False)
    epochs = serializers.IntegerField(required=False, min_value=1, max_value=1000)
    seed = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)
