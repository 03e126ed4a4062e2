"""The sentences that training and evaluation make of a product's attributes, in varied forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

COLOUR_TEMPLATES = (
    "in {new} instead of {old}",
    "{new} instead of {old}",
    "in {new}",
    "{new}",
    "make it {new}",
    "the same in {new}",
    "{new}, not {old}",
    "not {old} but {new}",
    "I would like it in {new}",
    "change the {name} to {new}",
    "in {new} please",
    "replace {old} with {new}",
)
OTHER_TEMPLATES = (
    "{new} {name} instead of {old}",
    "{new} instead of {old}",
    "with {new} {name}",
    "with {new} {name} instead of {old}",
    "{new} {name}",
    "{new}",
    "with {new}",
    "make it {new}",
    "change the {name} to {new}",
    "not {old} but {new}",
    "the same with {new} {name}",
    "{name} {new}",
    "in {new}",
    "in {new} instead of {old}",
)

WORD_TEMPLATES = (
    "{new} instead of {old}",
    "{new}, not {old}",
    "not {old} but {new}",
    "{new}",
    "replace {old} with {new}",
    "the same with {new}",
)


def modification(name: str, *, old: str, new: str, rng: np.random.Generator) -> str:
    """A sentence that asks for attribute `name` to become `new`, in one of many forms."""
    templates: tuple[str, ...] = COLOUR_TEMPLATES if is_colour(name) else OTHER_TEMPLATES
    if not old:
        templates = tuple(template for template in templates if "{old}" not in template)
    template = templates[int(rng.integers(len(templates)))]
    return template.format(name=name.replace("_", " "), old=old.lower(), new=new.lower())


def changed_word(*, old: str, new: str, rng: np.random.Generator) -> str:
    """A sentence that asks for one word of a title to become another."""
    template = WORD_TEMPLATES[int(rng.integers(len(WORD_TEMPLATES)))]
    return template.format(old=old, new=new)


def plain_modification(name: str, *, old: str, new: str) -> str:
    """The one form that evaluation asks in: "in red instead of black", "long instead of short"."""
    sentence = f"{new.lower()} instead of {old.lower()}" if old else new.lower()
    return f"in {sentence}" if is_colour(name) else sentence


def description(values: Mapping[str, str], label: str, rng: np.random.Generator) -> str:
    """A short query of attribute values and kind: "blue dress", "dress, blue, striped"."""
    words = [value.lower() for value in values.values()]
    words = [words[i] for i in rng.permutation(len(words))]
    if not label:
        return " ".join(words)
    form = rng.random()
    if form < 0.7 or not words:
        return " ".join([*words, label.lower()])
    if form < 0.85:
        return ", ".join([label.lower(), *words])
    return f"{label.lower()} in {' '.join(words)}"


def drop_words(text: str, rng: np.random.Generator) -> str:
    """`text` with a third of its words left out at random, at least one kept."""
    words = text.split()
    kept = [word for word in words if rng.random() > 0.33]
    return " ".join(kept) if kept else words[int(rng.integers(len(words)))] if words else text


def piece(text: str, rng: np.random.Generator, *, words: int = 14) -> str:
    """A stretch of a long text that starts at a sentence or in the middle of one."""
    parts = text.split()
    if len(parts) <= words:
        return text
    start = 0 if rng.random() < 0.5 else int(rng.integers(len(parts) - words + 1))
    return " ".join(parts[start : start + words])


def is_colour(name: str) -> bool:
    return "colour" in name or "color" in name


def join(sentences: Sequence[str]) -> str:
    return " and ".join(sentences)
