"""A validated search query: words, a photo or products, and what should be different about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from django.db import models

from visualsearch.exceptions import EmptyQueryError, QueryError
from visualsearch.photos import images
from visualsearch.queries import image_urls, photo_tokens, terms
from visualsearch.queries.cleaning import clean_box, clean_strength, clean_text, read_photo
from visualsearch.queries.photo_tokens import PhotoVector
from visualsearch.queries.terms import Example, Term


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked for; made by `Query.of`, which raises a QueryError or ImageError otherwise."""

    terms: tuple[Term, ...] = ()
    """Words with their weights; plain words are one term of weight 1."""
    photo: bytes | None = None
    """An image file that has not been looked into yet."""
    photo_vector: PhotoVector | None = None
    """A photo that was sent before: its token."""
    product: models.Model | None = None
    """The product that stands for the image."""
    box: images.Box | None = None
    """The part of the photo that is meant."""
    modify: str = ""
    """What should be different about the image or the product."""
    strength: float = 1.0
    """How much of that: 0 is nothing, 1 what the checkpoint has learned, 2 twice as much."""
    examples: tuple[Example, ...] = ()
    """Products that the result should, and should not, resemble."""

    @classmethod
    def of(
        cls,
        text: Any = None,
        *,
        image: Any = None,
        modify: Any = None,
        strength: Any = None,
        box: Any = None,
        positive: Any = None,
        negative: Any = None,
    ) -> Self:
        """The query these parts make.

        `text` is words, or a mapping words -> weight. `image` is bytes, an open file, a product,
        the token of an earlier photo ("im_…") or, where the settings allow it, a web address.
        """
        query = cls(
            terms=terms.clean_terms(text),
            box=clean_box(box),
            modify=clean_text(modify, field="modify"),
            strength=clean_strength(strength),
            examples=(
                *terms.clean_examples(positive, field="positive", sign=1),
                *terms.clean_examples(negative, field="negative", sign=-1),
            ),
            **_image(image),
        )
        query._check()
        if strength is not None and not query.modify:
            raise QueryError(
                "There is no change whose strength could be given: say what should be different.",
                field="strength",
            )
        return query

    @property
    def text(self) -> str:
        """The words that are wanted, for what compares words."""
        return " ".join(term.text for term in self.terms if term.weight > 0)

    @property
    def is_plain_text(self) -> bool:
        """Whether words are all that is asked for, without weights."""
        return len(self.terms) == 1 and self.terms[0].weight == 1 and not self.has_products_or_image

    @property
    def has_image(self) -> bool:
        return any(part is not None for part in (self.photo, self.photo_vector, self.product))

    @property
    def has_products_or_image(self) -> bool:
        return self.has_image or bool(self.examples)

    @property
    def needs_photo(self) -> bool:
        """Whether it cannot be answered without looking into a photo."""
        return self.photo is not None or self.photo_vector is not None

    @property
    def reference(self) -> models.Model | None:
        """The product that is asked about, the first of those that are wanted."""
        wanted = (each.product for each in self.examples if each.weight > 0)
        return self.product if self.product is not None else next(wanted, None)

    @property
    def own_products(self) -> list[models.Model]:
        """Products that the query names; none of them is its answer."""
        named = [each.product for each in self.examples]
        return named if self.product is None else [self.product, *named]

    def _check(self) -> None:
        if self.modify and not self.has_image:
            raise QueryError(
                "There is nothing to modify: name the product or send the photo that should be "
                "different, or put the words into the text.",
                field="modify",
            )
        if self.box is not None and self.photo is None:
            raise QueryError(
                "A box is a part of a photo: send the photo itself as well.", field="box"
            )
        ids = [each.product.pk for each in self.examples]
        if len(set(ids)) < len(ids):
            raise QueryError("A product is both positive and negative.", field="negative")
        weights = [term.weight for term in self.terms] + [each.weight for each in self.examples]
        if not weights and not self.has_image:
            raise EmptyQueryError("Nothing was asked for: give words, a photo or a product.")
        if not self.has_image and not any(weight > 0 for weight in weights):
            raise QueryError(
                "Only what is not wanted was given: add words, a photo or a product that is.",
                field="negative" if self.examples else "q",
            )


def _image(image: Any) -> dict[str, Any]:
    """The part of the query that `image` is."""
    if image is None:
        return {}
    if isinstance(image, models.Model):
        terms.check_product(image, field="image")
        return {"product": image}
    if isinstance(image, str) and image.startswith(photo_tokens.PREFIX):
        return {"photo_vector": photo_tokens.read(image)}
    if isinstance(image, str) and image_urls.is_url(image):
        return {"photo": image_urls.fetch(image)}
    return {"photo": read_photo(image)}
