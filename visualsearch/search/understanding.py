"""Price and size words in a sentence: "under 50", "cheaper", "in size M" become conditions, not vectors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from visualsearch.indexes import VisualIndex, values_at
from visualsearch.search.filters import Condition, FilterField, filter_fields, resolve

_CURRENCY = r"(?:[£$€]|euros?\b|eur\b|dollars?\b|usd\b|pounds?\b|gbp\b)"
_NUMBER = r"(\d{1,7}(?:[.,]\d{1,2})?)"
# Not "under 50 cm", "over 12 years", "under 100%" or "under 5th".
_END = (
    r"(?![\w%.,]*\w)(?!\s*(?:%|cm\b|mm\b|m\b|in\b|inch|years?\b|months?\b|kg\b|g\b|den\b|denier\b))"
)
_AMOUNT = rf"{_CURRENCY}?\s*{_NUMBER}(?:\s*{_CURRENCY})?{_END}"
_PATTERNS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(rf"(?<!\w){words}\s*{rest}", re.IGNORECASE), lookups)
    for words, rest, lookups in (
        (r"(?:between|from)", rf"{_AMOUNT}\s*(?:and|to|-|–)\s*{_AMOUNT}", ("gte", "lte")),
        (r"(?:under|below|less than|cheaper than|for less than|<)", _AMOUNT, ("lt",)),
        (r"(?:up to|at most|max\.?|maximum|no more than|not more than)", _AMOUNT, ("lte",)),
        (r"(?:over|above|more than|more expensive than|>)", _AMOUNT, ("gt",)),
        (r"(?:at least|min\.?|minimum)", _AMOUNT, ("gte",)),
    )
)
_BESIDE = (
    (re.compile(r"(?<!\w)(?:a bit |much )?(?:cheaper|less expensive)(?!\w)", re.IGNORECASE), "lt"),
    (
        re.compile(r"(?<!\w)(?:a bit |much )?(?:pricier|more expensive)(?!\w)", re.IGNORECASE),
        "gt",
    ),
)
_SIZE = re.compile(r"(?<!\w)(?:in )?size ([\w./-]{1,8})(?!\w)", re.IGNORECASE)
_LEFT_OVER = re.compile(r"^(?:and|but|,|;|\s)+|(?:\b(?:and|but)|,|;|\s)+$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A sentence, less what is a condition."""

    text: str
    conditions: tuple[Condition, ...] = field(default=())

    @property
    def filters(self) -> dict[str, str]:
        """The conditions by the names that a filter would have."""
        return {each.name: str(each.value) for each in self.conditions}


def understand(
    index: VisualIndex, text: str, *, reference: models.Model | None = None
) -> Understood:
    """Take the conditions out of `text`.

    Prices need a declared `price_field` that is a number in the database; "cheaper" needs the
    product to be cheaper than; sizes need a filter field whose name ends in "size".
    """
    if not text:
        return Understood(text=text)
    found: list[Condition] = []
    price = _price_field(index)
    if price is not None:
        text = _take_prices(text, price, found)
        text = _take_comparisons(text, index, price, reference, found)
    size = next((f for n, f in filter_fields(index).items() if n.endswith("size")), None)
    if size is not None and (match := _SIZE.search(text)):
        found.append(_condition(size, "iexact", match[1]))
        text = _without(text, match)
    return Understood(text=text, conditions=tuple(found))


def _take_prices(text: str, price: FilterField, found: list[Condition]) -> str:
    for pattern, lookups in _PATTERNS:
        match = pattern.search(text)
        amounts = [_amount(group) for group in match.groups()] if match else []
        if match and all(amount is not None for amount in amounts):
            found += [
                _condition(price, lookup, amount)
                for lookup, amount in zip(lookups, amounts, strict=True)
            ]
            text = _without(text, match)
    return text


def _take_comparisons(
    text: str,
    index: VisualIndex,
    price: FilterField,
    reference: models.Model | None,
    found: list[Condition],
) -> str:
    own = next(iter(values_at(reference, index.price_field)), None) if reference else None
    if own is None:
        return text
    for pattern, lookup in _BESIDE:
        if match := pattern.search(text):
            found.append(_condition(price, lookup, own))
            text = _without(text, match)
    return text


def _price_field(index: VisualIndex) -> FilterField | None:
    if not index.price_field:
        return None
    try:
        found = resolve(index, index.price_field)
    except FieldDoesNotExist:
        return None  # a property: SQL cannot compare it
    numbers = (models.DecimalField, models.FloatField, models.IntegerField)
    return found if isinstance(found.field, numbers) else None


def _amount(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "."))
    except InvalidOperation:
        return None


def _condition(target: FilterField, lookup: str, value: Any) -> Condition:
    return Condition(
        name=target.name if lookup == "iexact" else f"{target.name}__{lookup}",
        path=target.path,
        lookup=lookup,
        value=value,
        to_many=target.to_many,
    )


def _without(text: str, match: re.Match[str]) -> str:
    rest = f"{text[: match.start()]} {text[match.end() :]}"
    return _LEFT_OVER.sub("", " ".join(rest.split()))
