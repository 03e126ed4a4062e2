"""Training and embedding of a loaded catalogue as shares of what the network alone can do.

Both sides of a share are measured in turns, in the same process: what else the machine does falls
on both. Network alone, training: forward, loss, backward, optimiser on one prepared batch, again
and again. Network alone, embedding: the app's encoder on batches of decoded pixels, one batch on all
cores, and beside it a batch on each core, which is what no decoder leaves the cores for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import record, stack, untrained

SMALL, FULL, HEADS = "small images first", "full images", "heads on features"


def run(
    *,
    name: str,
    catalogue: Path | None,
    limit: int,
    recipes: list[str],
    steps: int,
    rounds: int,
    device: str,
    parts: list[str],
) -> None:
    """Write results/throughput.json; the catalogue is loaded unless `name` exists."""
    loaded = stack.exists(name)
    with stack.start(name) as services:
        services.manage("migrate", "--verbosity", "0")
        if not loaded and catalogue is not None:
            services.manage("shop_load", str(catalogue.resolve()), "--limit", str(limit))
        elif not loaded:
            services.manage("shop_draw", "--products", str(limit))
        os.environ.update(services.environment)
        import django

        django.setup()
        label = catalogue.name if catalogue else "as loaded before" if loaded else "drawn"
        figures: dict[str, Any] = {"catalogue": label}
        figures |= {"products": limit, "device": device, "rounds": rounds}
        for recipe in recipes:
            if "training" in parts:
                figures[f"{recipe}: training"] = training(
                    recipe, steps=steps, rounds=rounds, device=device
                )
            if "embedding" in parts:
                figures[f"{recipe}: embedding"] = embedding(recipe, rounds=rounds, limit=limit)
            print(recipe, figures, flush=True)
    print(f"written to {record.write('throughput', figures)}")


# -- training -------------------------------------------------------------------------------------


def training(recipe_name: str, *, steps: int, rounds: int, device: str) -> dict[str, Any]:
    """Images a second of the training loop, and of the same steps without anything to prepare."""
    import dataclasses

    from visualsearch.lifecycle import examples
    from visualsearch.ml.recipes import get_recipe

    recipe = dataclasses.replace(get_recipe(recipe_name), weights=None)
    if recipe.head_epochs:  # its trunk learns with heads of its own, without descriptors
        recipe = dataclasses.replace(
            recipe, gradients=False, colours=False, head_hidden=0, head_epochs=0
        )
    figures: dict[str, Any] = {"batch": recipe.batch, "image_size": recipe.image_size}
    with tempfile.TemporaryDirectory() as folder:
        found = examples.collect(Path(folder), size=recipe.image_size)
        phases = {SMALL: 1.0} if recipe.small_first else {}
        phases[HEADS if recipe.frozen else FULL] = 0.0
        for phase, share in phases.items():
            varied = dataclasses.replace(recipe, small_first=share)
            loop = _loop(varied, found.catalogue, device=device)
            figures[phase] = _in_turns(_real(loop), _bare(loop), steps=steps, rounds=rounds)
    return figures


def _loop(recipe: Any, catalogue: Any, *, device: str) -> Any:
    import numpy as np
    import torch

    from visualsearch.ml import checkpoints, tokenizer
    from visualsearch.ml.encoders import VisualEncoder
    from visualsearch.ml.frozen import Features, Heads
    from visualsearch.ml.heads import HeadLoop
    from visualsearch.ml.loop import Loop
    from visualsearch.ml.memory import keep_memory

    keep_memory()
    torch.manual_seed(0)
    place = checkpoints.pick_device(device)
    tokens = None
    if recipe.text != "none":
        texts = (text for item in catalogue.items for text in item.texts)
        tokens = tokenizer.train(
            texts, vocabulary_size=recipe.vocabulary_size, text_length=recipe.text_length
        )
    network = VisualEncoder(
        recipe, vocabulary_size=tokens.vocabulary_size if tokens else 0, weights=None
    )
    network = network.to(place).to(memory_format=torch.channels_last)
    options: dict[str, Any] = {"place": place, "seed": 0, "budget_s": None}
    if not recipe.frozen:
        network.train()
        return Loop(catalogue, network, tokens, **options)
    # Heads on rows of features: what is in them makes no difference to the time.
    network.eval()
    pixels = torch.from_numpy(np.array(catalogue.pixels[:2])).to(place)
    with torch.no_grad():
        width = Features(network.image)(pixels).shape[1]
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(catalogue.pixels), width)).astype(np.float16)
    network.image = Heads(network.image)  # type: ignore[assignment]
    network.train()
    return HeadLoop(catalogue, network, tokens, [rows] * (1 + recipe.variations), **options)


def _real(loop: Any) -> Callable[[int], int]:
    from visualsearch.ml.feeding import Feeder

    def take(steps: int) -> int:
        first, images = loop.schedule.done, 0
        # Batches that no step learns from would be work that training does not have.
        last = first + steps
        with Feeder(loop.stream.after(first), loop.prepare, first=first, last=last) as feeder:
            for _ in range(steps):
                fed = next(feeder)
                loop.take(fed)
                images += len(fed.images)
        _synchronise(loop.place)
        return images

    return take


def _bare(loop: Any) -> Callable[[int], int]:
    import torch

    batch = next(loop.stream.after(0))
    images = torch.randn(loop.prepare(0, batch).shape, device=loop.place)
    if images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)

    def take(steps: int) -> int:
        for number in range(steps):
            loop.stepper(images, batch, number=number)
        _synchronise(loop.place)
        return steps * len(images)

    return take


def _synchronise(place: Any) -> None:
    import torch

    if place.type == "cuda":
        torch.cuda.synchronize(place)


def _in_turns(
    real: Callable[[int], int], bare: Callable[[int], int], *, steps: int, rounds: int
) -> dict[str, Any]:
    real(2)
    bare(2)
    speeds: dict[str, list[float]] = {"real": [], "bare": []}
    for _ in range(rounds):
        for name, take in (("real", real), ("bare", bare)):
            started = time.perf_counter()
            images = take(steps)
            speeds[name].append(images / (time.perf_counter() - started))
    return _shares(speeds["real"], speeds["bare"])


def _shares(real: list[float], bare: list[float]) -> dict[str, Any]:
    """Medians, and the median of the rounds' shares."""
    shares = [a / b for a, b in zip(real, bare, strict=True)]
    return {
        "images_per_second": round(statistics.median(real), 1),
        "network_alone_images_per_second": round(statistics.median(bare), 1),
        "share": round(statistics.median(shares), 3),
        "shares": [round(share, 3) for share in shares],
    }


# -- embedding ------------------------------------------------------------------------------------


def embedding(recipe_name: str, *, rounds: int, limit: int) -> dict[str, Any]:
    """Images a second from file to row, and of the encoder alone, at the same batch size."""
    import numpy as np

    from shop.models import Product
    from visualsearch import encoding
    from visualsearch.conf import get_settings
    from visualsearch.tables import partitions
    from visualsearch.upkeep import embedding as embedding_module
    from visualsearch.upkeep.embedding import ENCODE_AT_A_TIME, embed_products
    from visualsearch.upkeep.indexing import BACKFILL_BATCHES
    from visualsearch.upkeep.side_by_side import SideBySide

    with untrained.temporary(recipe_name, name="throughput") as checkpoint:
        partitions.create(checkpoint)
        encoder = encoding.bulk_encoder(checkpoint)
        size = encoder.image_size
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (ENCODE_AT_A_TIME, size, size, 3), dtype=np.uint8)
        ids = list(Product.objects.order_by("pk").values_list("pk", flat=True)[:limit])
        at_a_time = BACKFILL_BATCHES * get_settings().BATCH_SIZE
        each = len(ids) // rounds // at_a_time * at_a_time
        if not each:
            raise SystemExit(
                f"{len(ids)} products are too few for {rounds} rounds of {at_a_time}: give a --name "
                "that has no data yet, and a larger --limit."
            )
        embed_products(ids[-at_a_time:], checkpoints=[checkpoint])  # decoders start, pages are read
        encoder.encode_image(pixels)
        real: list[float] = []
        alone: list[float] = []
        beside: list[float] = []
        cpu = _Processors(encoding.decoder().pids)
        with _stopwatches(embedding_module, encoder) as seconds:
            for start in range(0, rounds * each, each):
                cpu.begin()
                began = time.perf_counter()
                embedded = 0
                for first in range(start, start + each, at_a_time):
                    chunk = ids[first : first + at_a_time]
                    embedded += embed_products(chunk, checkpoints=[checkpoint]).embedded
                real.append(embedded / (time.perf_counter() - began))
                cpu.end("file to row", embedded)
                spent = dict(seconds)
                cpu.begin()
                began, images = time.perf_counter(), 0
                while images < embedded:
                    encoder.encode_image(pixels)
                    images += len(pixels)
                alone.append(images / (time.perf_counter() - began))
                cpu.end("network alone", images)
                cpu.begin()
                began = time.perf_counter()
                with SideBySide(encoder.encode_image) as network:
                    for _ in range(0, embedded, len(pixels)):
                        network.submit(pixels)
                beside.append(images / (time.perf_counter() - began))
                cpu.end("network alone, a batch a core", images)
                seconds.clear()
                seconds.update(spent)
        total = sum(each / speed for speed in real)
        parts = {name: round(spent / total, 3) for name, spent in seconds.items()}
        parts["rest"] = round(1 - sum(parts.values()), 3)
        return {
            "batch": ENCODE_AT_A_TIME,
            "products_at_a_time": at_a_time,
            "decoder_processes": get_settings().DECODER_PROCESSES,
            **_shares(real, alone),
            "a_batch_a_core": _shares(real, beside),
            "share_of_time": parts,
            "cpu_ms_an_image": cpu.milliseconds(),
        }


class _Processors:
    """Processor time an image, of this process and of the decoders; the database's is not in it."""

    def __init__(self, decoders: Callable[[], list[int]]) -> None:
        self.decoders = decoders
        self.spent: dict[str, list[float]] = {}

    def begin(self) -> None:
        self.before = self._now()

    def end(self, label: str, images: int) -> None:
        ours, theirs = (a - b for a, b in zip(self._now(), self.before, strict=True))
        found = self.spent.setdefault(label, [0.0, 0.0, 0.0])
        self.spent[label] = [found[0] + ours, found[1] + theirs, found[2] + images]

    def milliseconds(self) -> dict[str, dict[str, float]]:
        return {
            label: {
                "this process": round(1000 * ours / images, 3),
                "decoders": round(1000 * theirs / images, 3),
            }
            for label, (ours, theirs, images) in self.spent.items()
        }

    def _now(self) -> tuple[float, float]:
        # A decoder is replaced after some hundred images: what those that ended have spent counts
        # as the children's of this process.
        ended = os.times()
        spent, tick = ended.children_user + ended.children_system, os.sysconf("SC_CLK_TCK")
        for pid in self.decoders():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            spent += (int(fields[11]) + int(fields[12])) / tick
        return time.process_time(), spent


@contextmanager
def _stopwatches(module: Any, encoder: Any) -> Iterator[dict[str, float]]:
    """Seconds that the caller's thread spends in each part of the way from file to row."""
    from visualsearch.upkeep import storing

    seconds: dict[str, float] = {}
    watched = [
        (module, "_read", "read"),
        (module, "content_hash", "hash"),
        (type(encoder), "encode_image", "network"),
        (storing, "write", "write rows"),
        (storing, "stored", "look up rows"),
        (module, "_read_photos", "look up products"),
        (module, "_read_versions", "look up versions"),
    ]
    originals = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in watched]

    def timed(original: Callable[..., Any], label: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                seconds[label] = seconds.get(label, 0.0) + time.perf_counter() - started

        return call

    for owner, attribute, label in watched:
        setattr(owner, attribute, timed(getattr(owner, attribute), label))
    try:
        yield seconds
    finally:
        for owner, attribute, original in originals:
            setattr(owner, attribute, original)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="throughput", help="of the data's folders")
    parser.add_argument("--catalogue", type=Path, help="folder or zip; without it one is drawn")
    parser.add_argument("--limit", type=int, default=2000, help="products")
    parser.add_argument("--recipe", action="append", dest="recipes", help="may be repeated")
    parser.add_argument("--steps", type=int, default=6, help="of training, a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--only", action="append", dest="parts", choices=["training", "embedding"], help="one part"
    )
    options = vars(parser.parse_args())
    options["recipes"] = options["recipes"] or ["default"]
    options["parts"] = options["parts"] or ["training", "embedding"]
    run(**options)
