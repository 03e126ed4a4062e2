"""System checks of the shop's VisualIndex: each path, file and relation it names exists."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models
from django.db.models.fields.reverse_related import ManyToOneRel

from visualsearch import conf
from visualsearch.indexes import (
    VisualIndex,
    fields_by_attribute,
    product_model,
    registered,
    resolve_path,
)

ONE_PATH = ("image_field", "label_field", "group_field", "price_field")
MANY_PATHS = ("text_fields", "attribute_fields")


def check_declaration(app_configs: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """The product model exists, has an index, and has what the index names."""
    try:
        name = conf.product_model_name()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint='Name it as "app_label.Model".', id="visualsearch.E002")]
    try:
        model = product_model()
    except ImproperlyConfigured as error:
        app = name.split(".")[0]
        hint = f"Add the app {app!r} to INSTALLED_APPS, or correct VISUALSEARCH['PRODUCT_MODEL']."
        return [Error(str(error), hint=hint, id="visualsearch.E003")]
    index = registered().get(model)
    if index is None:
        others = ", ".join(sorted(other._meta.label for other in registered())) or "none"
        return [
            Error(
                f"No VisualIndex is registered for {model._meta.label}; registered: {others}.",
                hint="Put a class with @visualsearch.register("
                f"{model.__name__}) into {model._meta.app_label}/visual_indexes.py.",
                id="visualsearch.E004",
            )
        ]
    return check_index(index)


def check_index(index: VisualIndex) -> list[CheckMessage]:
    """What one VisualIndex declares."""
    return [
        *_check_shapes(index),
        *_check_paths(index),
        *_check_image(index),
        *_check_filters(index),
        *_check_related(index),
        *_check_texts(index),
    ]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A hint with the names most like `name`, or with all of them."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(repr(each) for each in close)}?"
    return f"Choose from: {', '.join(names)}."


def _paths(index: VisualIndex, attribute: str) -> list[str]:
    value = getattr(index, attribute)
    if attribute in ONE_PATH:
        return [value] if value and isinstance(value, str) else []
    return [path for path in value if isinstance(path, str)] if _is_sequence(value) else []


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _check_shapes(index: VisualIndex) -> Iterator[CheckMessage]:
    """A string for one path, a list for many: ("name") without a comma is a classic."""
    wanted: dict[str, tuple[bool, str]] = {}
    for attribute in ONE_PATH:
        wanted[attribute] = isinstance(getattr(index, attribute), str), "a string"
    for attribute in (*MANY_PATHS, "filter_fields"):
        value = getattr(index, attribute)
        right = _is_sequence(value) and all(isinstance(path, str) for path in value)
        wanted[attribute] = right, "a list of strings"
    wanted["related"] = isinstance(index.related, Mapping), "a dictionary"
    for attribute, (right, description) in wanted.items():
        if not right:
            yield Error(
                f"{_name(index)}.{attribute} is {getattr(index, attribute)!r}, not {description}.",
                hint=f"Make it {description}.",
                obj=index.model,
                id="visualsearch.E005",
            )


def _check_paths(index: VisualIndex) -> Iterator[CheckMessage]:
    for attribute in (*ONE_PATH, *MANY_PATHS):
        for path in _paths(index, attribute):
            if problem := _problem(index.model, path):
                message, hint = problem
                yield Error(
                    f"{_name(index)}.{attribute} names {path!r}: {message}.",
                    hint=hint,
                    obj=index.model,
                    id="visualsearch.E006",
                )


def _problem(model: type[models.Model], path: str) -> tuple[str, str] | None:
    """Where `path` ends before its end, and what there is instead."""
    parts = path.split("__")
    owner: type[models.Model] | None = model
    for depth, part in enumerate(parts):
        try:
            step = resolve_path(model, "__".join(parts[: depth + 1]))[-1]
        except FieldDoesNotExist as error:
            if owner is None:
                return str(error), f"End the path at {'__'.join(parts[:depth])!r}."
            if depth == len(parts) - 1 and _is_readable(owner, part):
                return None
            return str(error), did_you_mean(part, fields_by_attribute(owner))
        owner = step.related_model if step.is_relation else None
    return None


def _is_readable(model: type[models.Model], name: str) -> bool:
    """Whether a product has such a value though it is no field: a property, or "brand_id"."""
    value = inspect.getattr_static(model, name, None)
    return value is not None and not inspect.isroutine(value)


def _check_image(index: VisualIndex) -> Iterator[CheckMessage]:
    if _overrides(index, "get_images"):
        return
    if not index.image_field:
        yield Error(
            f"{_name(index)} does not say where the images are.",
            hint='Set image_field, for example image_field = "image", or override get_images().',
            obj=index.model,
            id="visualsearch.E007",
        )
        return
    for path in _paths(index, "image_field"):
        if _problem(index.model, path):
            return
        if not isinstance(_last_field(index.model, path), models.FileField):
            yield Error(
                f"{_name(index)}.image_field names {path!r}, which is not an ImageField.",
                hint=_image_hint(index.model, path),
                obj=index.model,
                id="visualsearch.E009",
            )
        accessor = path.split("__")[0]
        relation = fields_by_attribute(index.model).get(accessor)
        if isinstance(relation, ManyToOneRel) and accessor not in index.related:
            yield Warning(
                f"{_name(index)}.related does not name {accessor!r}: new images go unnoticed until "
                "the product itself is saved.",
                hint=f"Set related = {{{accessor!r}: {relation.field.name!r}}}.",
                obj=index.model,
                id="visualsearch.W004",
            )


def _last_field(model: type[models.Model], path: str) -> Any:
    try:
        return resolve_path(model, path)[-1]
    except FieldDoesNotExist:
        return None  # a property


def _image_hint(model: type[models.Model], path: str) -> str:
    """The files that the last model of `path` has, if it has any."""
    *before, _last = path.split("__")
    steps = resolve_path(model, "__".join(before)) if before else []
    last = _last_field(model, path)
    if last is not None and last.is_relation:
        before, steps = path.split("__"), [last]
    owner: Any = steps[-1].related_model if steps else model
    files = [f.name for f in owner._meta.get_fields() if isinstance(f, models.FileField)]
    if files:
        return f"Did you mean {' or '.join(repr('__'.join([*before, name])) for name in files)}?"
    return "Name an ImageField, or override get_images()."


def _check_filters(index: VisualIndex) -> Iterator[CheckMessage]:
    for path in _paths(index, "filter_fields"):
        if path in index.get_queryset().query.annotations:
            continue
        problem = _problem(index.model, path)
        if problem is None and _last_field(index.model, path) is None:
            fields = fields_by_attribute(index.model)
            problem = f"{path!r} is not a column", did_you_mean(path.split("__")[0], fields)
        if problem is not None:
            message, hint = problem
            yield Error(
                f"{_name(index)}.filter_fields names {path!r}, which SQL cannot filter by: "
                f"{message}.",
                hint=hint,
                obj=index.model,
                id="visualsearch.E017",
            )


def _check_related(index: VisualIndex) -> Iterator[CheckMessage]:
    declared: Any = index.related
    if not isinstance(declared, Mapping):
        return
    accessors = {
        name: field
        for name, field in fields_by_attribute(index.model).items()
        if isinstance(field, ManyToOneRel)
    }
    for accessor, named in declared.items():
        relation = accessors.get(accessor)
        if relation is None:
            message = f"{index.model._meta.label} has no rows of its own by {accessor!r}"
            hint = "The key is the accessor of a foreign key that points to the product. " + (
                did_you_mean(accessor, accessors) if accessors else "No foreign key does."
            )
        elif named != relation.field.name:
            label = relation.related_model._meta.label
            message = f"the foreign key of {label} behind {accessor!r} is not {named!r}"
            hint = f"Set related = {{{accessor!r}: {relation.field.name!r}}}."
        elif not relation.field.target_field.primary_key:
            message = f"{named!r} refers to {relation.field.target_field.name!r} of the product"
            hint = "Only a foreign key to the product's primary key can be followed: drop to_field."
        else:
            continue
        yield Error(
            f"{_name(index)}.related is wrong: {message}.",
            hint=hint,
            obj=index.model,
            id="visualsearch.E008",
        )


def _check_texts(index: VisualIndex) -> Iterator[CheckMessage]:
    if not index.text_fields and not _overrides(index, "get_text"):
        yield Warning(
            f"{_name(index)} names no text: shoppers cannot search by words.",
            hint='Set text_fields, the title first: text_fields = ["name", "description"].',
            obj=index.model,
            id="visualsearch.W002",
        )


def _overrides(index: VisualIndex, hook: str) -> bool:
    return getattr(type(index), hook) is not getattr(VisualIndex, hook)


def _name(index: VisualIndex) -> str:
    return type(index).__name__
