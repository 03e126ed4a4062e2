"""The filters of the search page as a form, with the choices that this visitor's products offer."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from typing import Any

from django import forms
from django.core.cache import cache
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist
from django.db import models
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from visualsearch.exceptions import SearchTimeoutError
from visualsearch.indexes import VisualIndex
from visualsearch.search.filters import FilterField, filter_fields
from visualsearch.tables.deadlines import bounded

logger = logging.getLogger(__name__)

MOST_CHOICES = 60
"""Beyond this many values a text box is easier than a list."""
REMEMBERED_SECONDS = 60

_INPUTS: tuple[tuple[type[models.Field[Any, Any]], dict[str, str]], ...] = (
    (models.DateTimeField, {"type": "datetime-local"}),
    (models.DateField, {"type": "date"}),
    (models.TimeField, {"type": "time"}),
    (models.IntegerField, {"type": "number", "step": "1"}),
    (models.DecimalField, {"type": "number", "step": "any", "inputmode": "decimal"}),
    (models.FloatField, {"type": "number", "step": "any", "inputmode": "decimal"}),
)


class FilterForm(forms.Form):
    """Shows the filters; what they mean is read by `filters.parse`, as for the API."""

    def __init__(
        self, *args: Any, index: VisualIndex, products: models.QuerySet[Any], **kwargs: Any
    ) -> None:
        kwargs.setdefault("auto_id", "visual-filter-%s")
        super().__init__(*args, **kwargs)
        for name, field in filter_fields(index).items():
            self._add(name, field, products)

    def _add(self, name: str, field: FilterField, products: models.QuerySet[Any]) -> None:
        title = _title(products.model, name)
        if isinstance(field.field, models.BooleanField):
            choices = [("", _("Any")), ("true", _("Yes")), ("false", _("No"))]
            self.fields[name] = forms.ChoiceField(label=title, required=False, choices=choices)
        elif "gte" in field.lookups:
            widget = next((attrs for kind, attrs in _INPUTS if isinstance(field.field, kind)), {})
            for lookup, label in (("gte", _("%s from")), ("lte", _("%s to"))):
                self.fields[f"{name}__{lookup}"] = forms.CharField(
                    label=label % title, required=False, widget=forms.TextInput(attrs=widget)
                )
        elif values := _values(field, products):
            chosen = self.data.get(name, [])
            # A value that is new or not on offer is still shown as what was asked for.
            asked = map(str, chosen if isinstance(chosen, list) else [chosen])
            values += [value for value in dict.fromkeys(asked) if value not in values]
            self.fields[name] = forms.ChoiceField(
                label=title,
                required=False,
                choices=[("", _("Any")), *((value, capfirst(value)) for value in values)],
            )
        else:
            self.fields[name] = forms.CharField(label=title, required=False)


def _title(model: type[models.Model], name: str) -> str:
    """The words of a filter: those of the model's field, which may be translated.

    Over a relation the last field's own words say too little: "name" of the brand. An annotation
    has none.
    """
    words = " ".join(name.replace("_", " ").split())
    with suppress(FieldDoesNotExist):
        words = str(getattr(model._meta.get_field(name), "verbose_name", words))
    return capfirst(words)


def _values(field: FilterField, products: models.QuerySet[Any]) -> list[str]:
    """The values of the field among `products`; none if there are too many for a list."""
    values = products.order_by(field.path).values_list(field.path, flat=True).distinct()
    try:
        sql, parameters = values.query.sql_with_params()
    except EmptyResultSet:
        return []
    # The SQL holds the visitor's visibility, so two who may see different products never share.
    digest = hashlib.blake2b(repr((sql, parameters)).encode("utf-8", "replace"), digest_size=16)
    key = f"visualsearch:values:{digest.hexdigest()}"
    remembered, cache_answers = None, True
    try:
        remembered = cache.get(key)
    except Exception:  # caches share no base error
        logger.warning("The values of %s are not remembered.", field.name, exc_info=True)
        cache_answers = False  # and is not waited for a second time
    if remembered is not None:
        return list(remembered)
    try:
        with bounded():
            found = [str(value) for value in values[: MOST_CHOICES + 1] if value not in (None, "")]
    except SearchTimeoutError:
        logger.warning("The values of %s took too long to list: showing a text box.", field.name)
        found = []
    found = found if len(found) <= MOST_CHOICES else []
    if cache_answers:
        with suppress(Exception):
            cache.set(key, found, REMEMBERED_SECONDS)
    return found
