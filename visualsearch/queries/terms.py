"""The weighted parts of a query: words, and products that it should or should not resemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import models

from visualsearch import indexes
from visualsearch.exceptions import EmptyQueryError, QueryError
from visualsearch.queries.cleaning import clean_text, clean_weight

MOST_TERMS = 8
"""Texts with weights in one query: each is a run of the encoder."""
MOST_EXAMPLES = 20
MOST_WEIGHT = 10.0
NEGATIVE_WEIGHT = 0.5
"""What a negative product counts if nothing is said: the whole would turn away from all products
alike, as their vectors have much in common. Twice the positive mean less the negative one, which
others take, is the same."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """Words and what they count for; less than 0 for what is not wanted."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Example:
    """A product that the result should resemble, or if `weight` is less than 0 should not."""

    product: models.Model
    weight: float = 1.0


def clean_terms(value: Any, *, field: str = "q") -> tuple[Term, ...]:
    """The terms of a text, or of a mapping text -> weight; QueryError for what cannot be asked."""
    if not isinstance(value, Mapping):
        text = clean_text(value, field=field)
        return (Term(text=text),) if text else ()
    if len(value) > MOST_TERMS:
        raise QueryError(
            f"{field} has {len(value)} texts: at most {MOST_TERMS} are read.", field=field
        )
    if not value:
        raise EmptyQueryError(f"{field} is empty: give a text, or texts with weights.", field=field)
    terms: dict[str, Term] = {}
    for given, weight in value.items():
        text = clean_text(given, field=field)
        if not text:
            raise QueryError(f"{field} has a weight without a text.", field=field)
        if text in terms:
            raise QueryError(f"{field} has {text[:40]!r} twice.", field=field)
        terms[text] = Term(text=text, weight=clean_weight(weight, field=field, most=MOST_WEIGHT))
    return tuple(terms.values())


def clean_examples(value: Any, *, field: str, sign: int) -> tuple[Example, ...]:
    """Examples of products, of (product, weight) pairs or of a mapping product -> weight.

    `sign` is 1 for products that are wanted and -1 for others; their weights are more than 0.
    """
    if value is None:
        return ()
    given = list(value.items()) if isinstance(value, Mapping) else list(_listed(value, field))
    if len(given) > MOST_EXAMPLES:
        raise QueryError(
            f"{field} has {len(given)} products: at most {MOST_EXAMPLES} are read.", field=field
        )
    usual = 1.0 if sign > 0 else NEGATIVE_WEIGHT
    examples: dict[Any, Example] = {}
    for each in given:
        product, weight = each if isinstance(each, tuple) else (each, usual)
        check_product(product, field=field)
        weight = clean_weight(weight, field=field, most=MOST_WEIGHT)
        if weight < 0:
            raise QueryError(
                f"{field} has the weight {weight:g}: weights are more than 0; what is not wanted "
                "goes into negative.",
                field=field,
            )
        if product.pk in examples:
            raise QueryError(f"{field} has product {product.pk} twice.", field=field)
        examples[product.pk] = Example(product=product, weight=sign * weight)
    return tuple(examples.values())


def check_product(value: Any, *, field: str) -> None:
    """TypeError unless `value` is a product of the index."""
    model = indexes.product_model()
    if not isinstance(value, model):
        kind = value._meta.label if isinstance(value, models.Model) else type(value).__name__
        raise TypeError(f"{field} is a {kind}: give a {model._meta.label}.")


def _listed(value: Any, field: str) -> Iterable[Any]:
    if isinstance(value, models.Model):
        return [value]
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{field} is {type(value).__name__}: give a list of products.")
    return value
