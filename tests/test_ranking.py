"""The nearest of many equal what comparing every pair of photos gives, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from visualsearch.upkeep import ranking
from visualsearch.upkeep.gallery import Gallery, take


def drawn(products: int, *, most_photos: int, alike: int) -> Gallery:
    """Products of 1 to `most_photos` photos; the first `alike` photos are the same one."""
    random = np.random.default_rng(products + most_photos)
    counts = random.integers(1, most_photos + 1, products)
    starts = np.concatenate([[0], np.cumsum(counts)])
    vectors = random.normal(size=(starts[-1], 16))
    vectors[:alike] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Gallery(
        product_ids=list(range(products)),
        starts=starts,
        positions=np.concatenate([np.arange(count) for count in counts]).astype(np.int16),
        versions=np.zeros(starts[-1], dtype=np.int64),
        vectors=vectors.astype(np.float16),
    )


@pytest.mark.parametrize(("block", "part"), [(1024, 4096), (16, 40), (64, 7), (1, 1)])
@pytest.mark.parametrize(
    ("products", "most_photos", "k"), [(300, 1, 50), (300, 3, 50), (200, 2, 5), (5, 3, 50)]
)
def test_rank__equals_brute_force(
    monkeypatch: pytest.MonkeyPatch, products: int, most_photos: int, k: int, block: int, part: int
) -> None:
    monkeypatch.setattr(ranking, "BLOCK_PHOTOS", block)
    monkeypatch.setattr(ranking, "PART_PHOTOS", part)
    gallery = drawn(products, most_photos=most_photos, alike=40 if products > 40 else 0)
    vectors = gallery.vectors.astype(np.float32)
    photos = vectors @ vectors.T
    starts = gallery.starts[:-1]
    scores = np.maximum.reduceat(np.maximum.reduceat(photos, starts, axis=0), starts, axis=1)
    np.fill_diagonal(scores, -np.inf)
    parts = (ranking.Part.of(take(gallery, numbers), numbers) for numbers in ranking.parts(gallery))

    seen: list[int] = []
    for near in ranking.rank(gallery, np.arange(products), parts, k=k):
        seen += near.sources.tolist()
        for source, targets, found, positions in zip(
            near.sources, near.targets, near.scores, near.positions, strict=True
        ):
            count = min(k, products - 1)
            best = np.sort(scores[source])[::-1][:count]
            assert found[:count] == pytest.approx(best, abs=1e-5)
            assert np.isneginf(found[count:]).all()
            assert len(set(targets[:count])) == count
            assert found[:count] == pytest.approx(scores[source, targets[:count]], abs=1e-5)
            own = slice(gallery.starts[source], gallery.starts[source + 1])
            matched = photos[own, gallery.starts[targets[:count]] + positions[:count]].max(axis=0)
            assert found[:count] == pytest.approx(matched, abs=1e-5)

    assert sorted(seen) == list(range(products))


def test_rank__equal_ones_come_in_the_order_of_the_catalogue() -> None:
    gallery = drawn(20, most_photos=1, alike=20)
    numbers = np.arange(20)

    (near,) = ranking.rank(gallery, numbers, [ranking.Part.of(gallery, numbers)], k=19)

    if np.unique(near.scores).size == 1:  # else the sums differ in their last bit
        for source, targets in zip(near.sources, near.targets, strict=True):
            assert targets.tolist() == [n for n in range(20) if n != source]
