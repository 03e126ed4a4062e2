"""What to offer after "like this, but…": changes that the catalogue can answer for a product."""

from __future__ import annotations

from collections import Counter

from shop.models import Product

LOOKED_AT = 200
PHRASES = {
    "colour": "in {}",
    "sleeve": "with {} sleeves",
    "pattern": "{}",
    "length": "{}",
    "neckline": "with {} neckline",
    "material": "in {}",
}
WORDS = {
    ("sleeve", "sleeveless"): "sleeveless",
    ("neckline", "collar"): "with a collar",
    ("neckline", "v-neck"): "with a V-neck",
    ("neckline", "turtleneck"): "with a turtleneck",
    ("neckline", "crew"): "with a crew neck",
    ("neckline", "round"): "with a round neckline",
}
PER_ATTRIBUTE = {"colour": 2}
MOST = 6


def suggestions(product: Product) -> list[str]:
    """Short phrases such as "in red" and "with long sleeves", the most common values first."""
    own = product.all_attributes()
    near = Product.objects.published().filter(category=product.category).exclude(pk=product.pk)
    counts: dict[str, Counter[str]] = {name: Counter() for name in PHRASES}
    for other in near.defer("description").order_by("place")[:LOOKED_AT]:
        attributes = other.all_attributes()
        for name, counter in counts.items():
            value = attributes.get(name)
            if value and name in own and value != own[name]:
                counter[value] += 1
    return [
        WORDS.get((name, value), PHRASES[name].format(value))
        for name, counter in counts.items()
        for value, _ in counter.most_common(PER_ATTRIBUTE.get(name, 1))
    ][:MOST]
