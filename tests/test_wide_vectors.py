"""Vectors wider than an HNSW index takes: 4,096 numbers are stored, indexed, searched and served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from django.db import connection
from django.test import Client

from shop.models import Product
from tests.catalogue import make_product, photo
from visualsearch.models import Checkpoint, Embedding, SimilarProduct
from visualsearch.photos.images import open_image, to_pixels
from visualsearch.search import searching
from visualsearch.search.nearest import Kind, NearestProducts
from visualsearch.tables import deadlines, partitions
from visualsearch.testing import FakeEncoder, fake_checkpoint
from visualsearch.upkeep import indexing, neighbours

pytestmark = pytest.mark.django_db

WIDTH = 4096
COLOURS = ("red", "pink", "orange", "blue", "navy", "green", "black")
PHOTOS = {colour: photo(colour, seed=number) for number, colour in enumerate(COLOURS)}


class WideEncoder(FakeEncoder):
    """The fake encoder's vectors, 64 times over: as wide as the Siamese network's, same cosines."""

    narrow = FakeEncoder()
    width = WIDTH

    def __init__(self, folder: Any = None) -> None:
        """No basis of its own: one of 4,096 x 4,096 takes seconds."""

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self._widened(self.narrow.encode_image(pixels))

    def encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._widened(self.narrow.encode_text(texts))

    def _widened(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.tile(vectors, (1, 64)) / np.float32(8)


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.VISUALSEARCH = settings.VISUALSEARCH | {
        "ENCODER": "tests.test_wide_vectors.WideEncoder",
        "EXACT_THRESHOLD": 0,
        "THROTTLE_RATES": {},
    }


@pytest.fixture
def shop() -> dict[str, Product]:
    checkpoint = fake_checkpoint(width=WIDTH)
    made = {colour: make_product(PHOTOS[colour]) for colour in COLOURS}
    assert indexing.index_pending().embedded == len(COLOURS)
    partitions.build_ann_index(checkpoint)
    return made


def nearest_to(colour: str) -> str:
    """The colour whose photo's vector lies closest, by comparing them all."""
    pixels = [to_pixels(open_image(data), size=FakeEncoder.image_size) for data in PHOTOS.values()]
    vectors = FakeEncoder().encode_image(np.stack(pixels))
    cosines = vectors @ vectors[COLOURS.index(colour)]
    cosines[COLOURS.index(colour)] = -1
    return COLOURS[int(cosines.argmax())]


def test_embedding__is_stored_whole(shop: dict[str, Product]) -> None:
    row = Embedding.objects.get(product=shop["red"])
    stored = np.asarray(row.vector)
    assert stored.shape == (WIDTH,)
    assert np.linalg.norm(stored) == pytest.approx(1, abs=1e-2)
    assert Checkpoint.objects.get().has_ann_index


def test_search__by_product_by_photo_and_by_text(shop: dict[str, Product]) -> None:
    by_product = [hit.product for hit in searching.search(image=shop["red"])]
    assert by_product[0] == shop[nearest_to("red")]
    assert len(by_product) == len(COLOURS) - 1
    by_photo = searching.search(image=PHOTOS["navy"])
    assert by_photo[0].product == shop["navy"]
    assert by_photo[0].score == pytest.approx(1, abs=0.01)
    assert searching.search("green")[0].product == shop["green"]


def test_api__serves_it(shop: dict[str, Product], client: Client) -> None:
    body = client.get("/api/search/", {"product": shop["blue"].pk}).json()
    assert not body["degraded"]
    assert body["total"]["value"] == len(COLOURS) - 1
    found = client.get(f"/api/products/{shop['red'].pk}/similar/").json()["hits"]
    assert found[0]["id"] == shop[nearest_to("red")].pk


def test_neighbours__are_computed(shop: dict[str, Product]) -> None:
    assert neighbours.compute(Checkpoint.objects.get()) == len(COLOURS)
    first = SimilarProduct.objects.get(source=shop["navy"], rank=1)
    assert first.target == shop[nearest_to("navy")]


def test_index__of_signs_finds_what_comparing_all_vectors_finds() -> None:
    checkpoint = fake_checkpoint(width=WIDTH)
    random = np.random.default_rng(0)
    count = 400
    products = Product.objects.bulk_create(
        Product(sku=f"p{n}", name="thing", price=1) for n in range(count)
    )
    # Of 48 numbers that matter, spread over 4,096: some designs in some shapes.
    inner = random.normal(size=(20, 48))[np.arange(count) % 20] + random.normal(size=(count, 48))
    vectors = inner @ random.normal(size=(48, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    Embedding.objects.bulk_create(
        Embedding(
            checkpoint=checkpoint,
            product=product,
            position=0,
            image="a.jpg",
            content_hash=b"0" * 16,
            version=1,
            vector=vector.tolist(),
        )
        for product, vector in zip(products, vectors, strict=True)
    )
    partitions.build_ann_index(checkpoint)
    shares = []
    for vector in vectors[:10]:
        truth = {products[at].pk for at in np.argsort(-(vectors @ vector))[:10]}
        source = NearestProducts(
            checkpoint=checkpoint,
            vector=vector.astype(np.float32),
            kind=Kind.IMAGE,
            allowed=Product.objects.all(),
        )
        matches = source.block(0).matches
        shares.append(len(truth & {match.product_id for match in matches[:10]}) / 10)
        scores = [match.score for match in matches]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(1, abs=0.01)
    assert np.mean(shares) >= 0.98

    # And it is the index that was read.
    nearness = partitions.AnnIndex.of(WIDTH).nearness
    with deadlines.bounded() as cursor:
        deadlines.set_locally(cursor, {"enable_sort": "off"})
        asked = "[" + ",".join(map(str, vectors[0])) + "]"
        cursor.execute(
            f"EXPLAIN SELECT product_id FROM {source.table} AS e ORDER BY {nearness} LIMIT 200",
            [asked],
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert f"{source.table}_hnsw" in plan


def test_index__of_signs_takes_a_fraction_of_the_vectors_room() -> None:
    checkpoint = fake_checkpoint(width=WIDTH)
    partitions.build_ann_index(checkpoint)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_indexdef(to_regclass(%s))",
            [f"{partitions.partition_name(checkpoint)}_hnsw"],
        )
        (definition,) = cursor.fetchone()
    assert "bit_hamming_ops" in definition
    assert partitions.AnnIndex.of(4000).operators == "halfvec_ip_ops"
