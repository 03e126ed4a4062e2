"""The speed table of the VGG16 similarity system, redone: four ways to answer "similar products".

train and search   every photo of the catalogue and the query's are decoded and read by VGG16
saved features     the query's photo is read, then compared with the stored features of all others
precomputed        the neighbours of every product are stored; the answer is looked up
our search         `similar_to` and `search(image=product)` of the app, from Postgres to hits

All in one process, on the same catalogue, one query at a time. VGG16 has random weights, which
take the same time as ImageNet's. Reading the whole catalogue for each query is measured on a sample
of the photos and multiplied: it is the same work a photo.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import record, stack

NAME = "visual-similarity-speed"
K = 10
AT_A_TIME = 32


def run(*, name: str, catalogue: Path | None, limit: int | None, queries: int, sample: int) -> None:
    """Write results/visual_similarity_speed.json; the catalogue is loaded unless `name` exists."""
    loaded = stack.exists(name)
    with stack.start(name) as services:
        services.manage("migrate", "--verbosity", "0")
        if not loaded and catalogue is not None:
            some = ["--limit", str(limit)] if limit else []
            services.manage("shop_load", str(catalogue.resolve()), *some)
        elif not loaded:
            services.manage("shop_draw", "--products", str(limit or 2000))
        os.environ.update(services.environment)
        import django

        django.setup()
        figures = measure(queries=queries, sample=sample)
        figures = {"catalogue": catalogue.name if catalogue else "drawn", **figures}
    for way, numbers in figures["ways"].items():
        print(f"{way:<60}{numbers['p50_ms']:>12.2f} ms")
    print(f"written to {record.write('visual_similarity_speed', figures)}")


def measure(*, queries: int, sample: int) -> dict[str, Any]:
    """Installs the untrained checkpoint, embeds the catalogue and takes every way's time."""
    import numpy as np
    from django.conf import settings
    from django.test.utils import override_settings

    from shop.models import Product
    from visualsearch.search import searching
    from visualsearch.upkeep import gallery as galleries

    network, checkpoint, seconds = _installed()
    gallery = galleries.load(checkpoint)
    chosen = np.random.default_rng(0).permutation(len(gallery))[:queries]
    products = Product.objects.in_bulk([gallery.product_ids[i] for i in chosen])
    asked = [products[gallery.product_ids[i]] for i in chosen]
    files = _files(sample)
    read = _times(lambda file: _features(network, [file]), files[: max(5, queries // 5)])
    per_photo = _seconds_a_photo(network, files)
    ways: dict[str, dict[str, float]] = {}
    whole = per_photo * len(gallery.positions)
    ways["train and search: all photos read for one query"] = {
        "p50_ms": round(1000 * (whole + statistics.median(read)), 1)
    }
    with tempfile.TemporaryDirectory() as folder:
        saved, lists = Path(folder) / "features.npy", Path(folder) / "neighbours.npy"
        np.save(saved, gallery.vectors.astype(np.float32))
        search = _times(lambda i: _knn(saved, gallery.starts[i]), chosen)
        ways["saved features: loaded and compared"] = _summary(search)
        memory = np.load(saved)
        ways["saved features: in memory, compared"] = _summary(
            _times(lambda i: _nearest(memory, memory[gallery.starts[i]]), chosen)
        )
        ways["saved features: the query's photo read, loaded and compared"] = _summary(
            [a + b for a, b in zip(itertools.cycle(read), search, strict=False)]
        )
        np.save(lists, _all_neighbours(memory))
        ways["precomputed neighbours: looked up in a file"] = _summary(
            _times(lambda i: np.load(lists, mmap_mode="r")[gallery.starts[i]].copy(), chosen)
        )
    ways["our search: similar_to, neighbours in Postgres"] = _summary(
        _times(lambda product: _hits(searching.similar_to(product, limit=K)), asked)
    )
    for label, threshold in (("exact", 10**9), ("HNSW", 0)):
        with override_settings(
            VISUALSEARCH={**settings.VISUALSEARCH, "EXACT_THRESHOLD": threshold}
        ):
            ways[f"our search: search by product, {label}"] = _summary(
                _times(lambda product: _hits(searching.search(image=product, limit=K)), asked)
            )
    return {
        "network": "VGG16, random weights (the time is that of ImageNet's), 4,096 features, 224 px",
        "products": len(gallery),
        "photos": len(gallery.positions),
        "queries": len(asked),
        "sample_of_photos": len(files),
        "seconds_a_photo_decoded_and_read": round(per_photo, 4),
        "embedding_stages_s": seconds,
        "published": {"train and search": "8.3 s", "saved features": "9 ms", "precomputed": "4 ms"},
        "ways": ways,
    }


# -- the system that is redone --------------------------------------------------------------------


def _features(network: Any, files: Sequence[bytes]) -> Any:
    """Unit features float32 [B, 4096] of photo files: decoded, scaled, read by the network."""
    import numpy as np
    import torch

    from visualsearch.photos.images import open_image, to_pixels

    pixels = np.stack([to_pixels(open_image(file), size=224) for file in files])
    with torch.inference_mode():
        return network.encode_image(torch.from_numpy(pixels)).numpy()


def _seconds_a_photo(network: Any, files: list[bytes]) -> float:
    parts = [files[start : start + AT_A_TIME] for start in range(0, len(files), AT_A_TIME)]
    return sum(_times(lambda part: _features(network, part), parts)) / len(files)


def _knn(saved: Path, row: int) -> Any:
    import numpy as np

    features = np.load(saved)
    return _nearest(features, features[row])


def _nearest(features: Any, query: Any) -> Any:
    """The K rows of the largest cosine with `query`, best first."""
    import numpy as np

    scores = features @ query
    found = np.argpartition(-scores, min(K, len(scores) - 1))[: K + 1]
    return found[np.argsort(-scores[found])]


def _all_neighbours(features: Any) -> Any:
    import numpy as np

    parts = range(0, len(features), 512)
    rows = [np.argsort(-(features[i : i + 512] @ features.T), axis=1)[:, : K + 1] for i in parts]
    return np.concatenate(rows)


# -- the app --------------------------------------------------------------------------------------


def _installed() -> tuple[Any, Any, dict[str, float]]:
    """VGG16 as a live checkpoint with its embeddings and neighbours; the seconds of each stage."""
    import torch

    from visualsearch.conf import get_settings
    from visualsearch.lifecycle import training
    from visualsearch.ml import checkpoints
    from visualsearch.ml.encoders import VisualEncoder
    from visualsearch.ml.manifest import Manifest
    from visualsearch.ml.recipes import get_recipe
    from visualsearch.models import Checkpoint
    from visualsearch.photos.images import PREPROCESSING
    from visualsearch.tables import partitions

    recipe = dataclasses.replace(get_recipe("pretrained-knn"), weights=None)
    torch.manual_seed(0)
    network = VisualEncoder(recipe, vocabulary_size=0, weights=None).eval()
    recipe = network.recipe
    with checkpoints.writing(get_settings().CHECKPOINT_ROOT / NAME) as folder:
        checkpoints.save_weights(network, folder)
        Manifest(
            recipe=recipe.name,
            options=recipe.as_dict(),
            width=recipe.width,
            image_size=recipe.image_size,
            preprocessing=PREPROCESSING,
            text_length=0,
            parameters=network.parameter_count(),
            attributes={},
        ).write(folder)
    for old in Checkpoint.objects.filter(name=NAME):
        partitions.drop(old)
        old.delete()
    checkpoint = Checkpoint.objects.create(
        name=NAME,
        folder=NAME,
        recipe=recipe.name,
        state=Checkpoint.State.REFUSED,
        width=recipe.width,
        image_size=recipe.image_size,
        preprocessing=PREPROCESSING,
    )
    done = training.promote_now(checkpoint)
    if done.state != done.State.SUCCEEDED:
        raise SystemExit(f"The catalogue could not be embedded: {done.error}")
    checkpoint.refresh_from_db()
    return network, checkpoint, done.timings


def _files(count: int) -> list[bytes]:
    """The bytes of some photos of the catalogue, spread over it."""
    from shop.models import ProductImage

    photos = ProductImage.objects.order_by("pk")
    step = max(1, photos.count() // count)
    return [photo.original.open("rb").read() for photo in photos[::step][:count]]


def _hits(results: Any) -> int:
    hits = list(results)
    if len(hits) != K:
        raise SystemExit(f"A search for {K} products found {len(hits)}.")
    return len(hits)


def _times(work: Callable[[Any], Any], inputs: Sequence[Any]) -> list[float]:
    """Seconds of `work` on each input; on the first one it is done once before."""
    work(inputs[0])
    seconds = []
    for each in inputs:
        started = time.perf_counter()
        work(each)
        seconds.append(time.perf_counter() - started)
    return seconds


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50_ms": round(1000 * statistics.median(ordered), 3),
        "p95_ms": round(1000 * ordered[int(0.95 * (len(ordered) - 1))], 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="similarity", help="of the data's folders")
    parser.add_argument("--catalogue", type=Path, help="folder or zip; without it one is drawn")
    parser.add_argument("--limit", type=int, help="take only so many products")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--sample", type=int, default=128, help="photos that VGG16's time is of")
    run(**vars(parser.parse_args()))
