"""MRR of searches by words alone, by vectors alone, and by both (hybrid), for four kinds of queries.

The queries are made from the catalogue, with the seed: two words of a title, the same with one
letter changed, an article number, and a colour with a kind. Right is any product with that title,
the product with that number, or any of that colour and kind. The searches are those that the views
make, over all products; reciprocal rank is that of the first right hit among DEPTH, else 0.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record, stack
from benchmarks.trained import take

DEPTH = 50
RESAMPLES = 1000


@dataclass(frozen=True)
class Asked:
    kind: str
    text: str
    right: frozenset[Any]
    """Keys of the products that answer it."""


def run(
    *,
    name: str,
    catalogue: Path | None,
    limit: int | None,
    epochs: int | None,
    trained: Path | None,
    queries: int,
    ratios: list[float],
    again: bool,
    write: bool = True,
) -> dict[str, Any]:
    """Write results/hybrid_NAME.json; `again` measures what is loaded and trained under `name`."""
    if not again:
        stack.remove(name)
    with stack.start(name) as services:
        if not again:
            services.manage("migrate", "--verbosity", "0")
            if catalogue is not None:
                some = ["--limit", str(limit)] if limit else []
                services.manage("shop_load", str(catalogue.resolve()), *some)
            else:
                services.manage("shop_draw", "--products", str(limit or 2000))
        if not again and trained is None:
            services.manage("visualsearch_train", *(["--epochs", str(epochs)] if epochs else []))
        os.environ.update(services.environment)
        import django

        django.setup()
        if trained is not None:
            take(trained)
        figures = measure(queries=queries, ratios=ratios)
    figures = {"catalogue": catalogue.stem if catalogue else name} | figures
    _print(figures)
    if write:
        print(f"written to {record.write(f'hybrid_{name}', figures)}")
    return figures


def measure(*, queries: int, ratios: list[float]) -> dict[str, Any]:
    """MRR by kind of query and by what is compared; `ratios` are semantic ratios tried besides."""
    from shop.models import Product
    from visualsearch.models import Checkpoint

    checkpoint = Checkpoint.objects.live()
    if checkpoint is None:
        raise SystemExit("No checkpoint is live: train one, or promote it, and use --again.")
    products = list(Product.objects.filter(published=True).order_by("pk"))
    ways: dict[str, Any] = {
        "words": {"semantic_ratio": 0},
        "vectors": {"semantic_ratio": 1},
        "hybrid": None,
    } | {f"hybrid {ratio:g}": {"semantic_ratio": ratio} for ratio in ratios}
    kinds: dict[str, Any] = {}
    for kind, make in KINDS.items():
        asked = list(make(products, queries))
        if not asked:
            continue
        ranks = {way: [_reciprocal(each, hybrid) for each in asked] for way, hybrid in ways.items()}
        means = {way: sum(values) / len(values) for way, values in ranks.items()}
        best = max(("words", "vectors"), key=lambda way: means[way])
        kinds[kind] = {
            "queries": len(asked),
            "mrr": {way: round(mean, 4) for way, mean in means.items()},
            "hybrid_less_the_better_of_the_two": round(means["hybrid"] - means[best], 4),
            "interval_95": _interval(ranks["hybrid"], ranks[best]),
            "hybrid_is_first": means["hybrid"] >= means[best] - 1e-9,
        }
    return {
        "products": len(products),
        "checkpoint": checkpoint.name,
        "recipe": checkpoint.recipe,
        "depth": DEPTH,
        "hybrid_is_first_on_every_kind": all(each["hybrid_is_first"] for each in kinds.values()),
        "kinds": kinds,
    }


def title_words(products: list[Any], count: int) -> Iterator[Asked]:
    """Two words of a title, or the one it has."""
    pick = random.Random(1)
    for product in pick.sample(products, min(count, len(products))):
        words = re.findall(r"\w{3,}", product.name)
        if words:
            chosen = sorted(pick.sample(range(len(words)), min(2, len(words))))
            text = " ".join(words[number] for number in chosen)
            yield Asked("title words", text, _of_title(products, product.name))


def misspelt(products: list[Any], count: int) -> Iterator[Asked]:
    """The same, one letter of the longest word changed."""
    pick = random.Random(2)
    for asked in title_words(products, count):
        word = max(asked.text.split(), key=len)
        letters = [at for at, letter in enumerate(word) if letter.isascii() and letter.isalpha()]
        if len(word) < 4 or len(letters) < 2:
            continue
        # Shoppers hardly ever mistake the first letter.
        at = pick.choice(letters[1:])
        other = pick.choice([each for each in string.ascii_lowercase if each != word[at].lower()])
        wrong = word[:at] + other + word[at + 1 :]
        yield Asked("misspelt title words", asked.text.replace(word, wrong, 1), asked.right)


def numbers(products: list[Any], count: int) -> Iterator[Asked]:
    for product in random.Random(3).sample(products, min(count, len(products))):
        yield Asked("article number", product.sku, frozenset([product.pk]))


def colour_and_kind(products: list[Any], count: int) -> Iterator[Asked]:
    """Each colour with each kind that there is, as "black dress"."""
    groups: dict[tuple[str, str], set[Any]] = {}
    for product in products:
        if product.colour and product.category:
            groups.setdefault((product.colour, product.category), set()).add(product.pk)
    pairs = sorted(groups)
    for colour, kind in random.Random(4).sample(pairs, min(count, len(pairs))):
        yield Asked("colour and kind", f"{colour} {kind}".lower(), frozenset(groups[colour, kind]))


KINDS: dict[str, Callable[[list[Any], int], Iterator[Asked]]] = {
    "title words": title_words,
    "misspelt title words": misspelt,
    "article number": numbers,
    "colour and kind": colour_and_kind,
}


def _of_title(products: list[Any], title: str) -> frozenset[Any]:
    return frozenset(each.pk for each in products if each.name.lower() == title.lower())


def _reciprocal(asked: Asked, hybrid: Any) -> float:
    from visualsearch.search import searching

    results = searching.search(asked.text, hybrid=hybrid, limit=DEPTH)
    if results.degraded:
        raise SystemExit(f"{asked.text!r} was answered degraded: {results.reason}")
    for place, hit in enumerate(results, 1):
        if hit.product.pk in asked.right:
            return 1 / place
    return 0.0


def _interval(ones: list[float], others: list[float]) -> list[float]:
    """95 % of the mean difference over resampled queries (paired bootstrap)."""
    import numpy as np

    differences = np.array(ones) - np.array(others)
    rows = np.random.default_rng(0).integers(0, len(differences), (RESAMPLES, len(differences)))
    return [
        round(float(each), 4) for each in np.quantile(differences[rows].mean(1), (0.025, 0.975))
    ]


def _print(figures: dict[str, Any]) -> None:
    for kind, found in figures["kinds"].items():
        values = "  ".join(f"{way} {value:.3f}" for way, value in found["mrr"].items())
        first = "first" if found["hybrid_is_first"] else "NOT first"
        print(f"{kind:22s} {found['queries']:4d} queries  MRR {values}  hybrid {first}")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="of the data's folders and the results")
    parser.add_argument("--catalogue", type=Path, help="folder or zip; without it one is drawn")
    parser.add_argument("--limit", type=int, help="take only so many products")
    parser.add_argument("--epochs", type=int, help="of the training; the recipe's own without it")
    parser.add_argument(
        "--trained", type=Path, help="a checkpoint's folder, instead of training one"
    )
    parser.add_argument("--queries", type=int, default=300, help="of each kind")
    parser.add_argument("--ratios", type=float, nargs="*", default=[], help="tried besides")
    parser.add_argument(
        "--again", action="store_true", help="what this or benchmarks.pipeline left under --name"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    given = vars(parser.parse_args())
    if not given["name"]:
        given["name"] = given["catalogue"].stem if given["catalogue"] else "drawn"
    run(**given)
