"""open_clip's tokenizers as JSON that web processes read without open_clip."""

from __future__ import annotations

import string
from typing import Any

from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from visualsearch.exceptions import TrainingError
from visualsearch.ml import foundation
from visualsearch.ml.recipes import Recipe
from visualsearch.ml.tokenizer import Tokenizer, locked

# How CLIP cuts a text into words (Radford et al., 2021).
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_BLANKS = (normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip())
_PUNCTUATION = Regex("[" + "".join("\\" + character for character in string.punctuation) + "]")
_CLEANING = {
    # open_clip's names of what it does to a text first. It repairs wrongly decoded characters and
    # HTML besides, which the texts of a shop's own database do not need.
    "lower": (*_BLANKS, normalizers.Lowercase()),
    "whitespace": _BLANKS,
    "canonicalize": (
        normalizers.Replace("_", " "),
        normalizers.Replace(_PUNCTUATION, ""),
        normalizers.Lowercase(),
        *_BLANKS,
    ),
}


def tower_tokenizer(recipe: Recipe) -> Tokenizer:
    """The tokenizer of `recipe`'s text tower; TrainingError for one that JSON cannot express."""
    open_clip = foundation.import_open_clip()
    with foundation.source(recipe) as source:
        try:
            made = open_clip.get_tokenizer(source)
        except Exception as error:  # each library below raises errors of its own
            raise TrainingError(
                f"The tokenizer of {recipe.trunk} cannot be loaded: {error}. Put its files "
                "(tokenizer.json, tokenizer_config.json) into the model's folder, and give that."
            ) from error
    if hasattr(made, "bpe_ranks") and made.reduction_fn is None:
        backend = clip_backend(made)
    elif hasattr(getattr(made, "tokenizer", None), "backend_tokenizer"):
        backend = hub_backend(made)
    else:
        raise TrainingError(
            f"{recipe.trunk} reads texts by {type(made).__name__}, which web processes cannot run "
            "without open_clip. Take a model with CLIP's own or a Hugging Face tokenizer."
        )
    return locked(backend, text_length=int(made.context_length))


def clip_backend(made: Any) -> Backend:
    """CLIP's byte-pair encoding, from open_clip's SimpleTokenizer."""
    backend = Backend(
        models.BPE(
            vocab=made.encoder,
            merges=list(made.bpe_ranks),
            end_of_word_suffix="</w>",
            continuing_subword_prefix="",
            fuse_unk=False,
        )
    )
    backend.normalizer = normalizers.Sequence(list(_CLEANING[_cleaning(made)]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    names = {number: name for name, number in made.encoder.items()}
    start, end = names[made.sot_token_id], names[made.eot_token_id]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, made.sot_token_id), (end, made.eot_token_id)],
    )
    backend.enable_truncation(max_length=made.context_length)
    return backend


def hub_backend(made: Any) -> Backend:
    """A Hugging Face tokenizer, with what open_clip's HFTokenizer does around it."""
    if made.strip_sep_token or made.tokenizer_mode:
        raise TrainingError(
            "The model's tokenizer changes tokens after the fact (strip_sep_token or "
            "tokenizer_mode), which web processes cannot do without open_clip. Take another model."
        )
    hub = made.tokenizer
    backend: Backend = Backend.from_str(hub.backend_tokenizer.to_str())
    own = [backend.normalizer] if backend.normalizer is not None else []
    backend.normalizer = normalizers.Sequence([*_CLEANING[_cleaning(made)], *own])
    backend.enable_truncation(max_length=made.context_length)
    backend.enable_padding(
        length=made.context_length, pad_id=hub.pad_token_id, pad_token=hub.pad_token
    )
    return backend


def _cleaning(made: Any) -> str:
    """Which of open_clip's cleanings a tokenizer does, by the name of its function."""
    return str(made.clean_fn.__name__).removeprefix("_clean_")
