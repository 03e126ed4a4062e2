"""Drift, bad files and a restored dump: found exactly, said clearly, repaired."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from PIL import Image

from shop import embedded
from shop.embedded_servers import Account, find_postgres
from shop.models import Product, ProductImage
from tests.catalogue import photo
from tests.chaos.catalogue import add_products, photo_files
from tests.conftest import ROOT
from visualsearch.health import doctor, sweeping
from visualsearch.models import Checkpoint, Embedding, IndexEntry
from visualsearch.photos.images import content_hash
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

Amount = Callable[[int, int], int]
Figures = dict[str, Any]


def execute(sql: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def embed_alike(products: list[Product]) -> None:
    """Products whose photos are embedded already, of others: their rows are copied."""
    product_ids = [product.pk for product in products]
    execute(
        "INSERT INTO visualsearch_embedding (checkpoint_id, product_id, position, image, "
        "content_hash, version, vector, embedded_at) "
        "SELECT checkpoint_id, photo.product_id, 0, image, content_hash, entry.version, vector, "
        "now() FROM shop_productimage AS photo "
        "JOIN visualsearch_indexentry AS entry ON entry.product_id = photo.product_id "
        "JOIN (SELECT DISTINCT ON (image) * FROM visualsearch_embedding) AS e "
        "ON e.image = photo.original WHERE photo.product_id = ANY(%s)",
        product_ids,
    )
    execute(
        "UPDATE visualsearch_indexentry SET status = 'indexed', indexed_at = now() "
        "WHERE product_id = ANY(%s)",
        product_ids,
    )


def test_r14_silent_drift__is_found_exactly_and_repaired(
    start_worker: Any,
    converge: Any,
    chance: random.Random,
    amount: Amount,
    figures: Figures,
    settings: Any,
) -> None:
    """Rows deleted, made stale, orphaned and corrupted behind everybody's back; photos replaced."""
    settings.VISUALSEARCH = settings.VISUALSEARCH | {"NEIGHBOURS": 4}
    live = fake_checkpoint()
    files = photo_files()
    products = add_products(len(files), files)
    indexing.index_pending()
    more = add_products(amount(400, 50_000) - len(files), files)
    embed_alike(more)
    products += more
    execute("ANALYZE")
    start_worker(NEIGHBOURS=4)
    converge(within=60)
    each = max(2, len(products) // 500)
    ids = chance.sample([product.pk for product in products], 6 * each)
    deleted, stale, extra, spoilt, unknown, replaced = (
        ids[n * each : (n + 1) * each] for n in range(6)
    )
    Embedding.objects.filter(product_id__in=deleted).delete()
    Embedding.objects.filter(product_id__in=stale).update(content_hash=b"0" * 16)
    execute(
        "INSERT INTO visualsearch_embedding (checkpoint_id, product_id, position, image, "
        "content_hash, version, vector, embedded_at) SELECT checkpoint_id, product_id, 7, 'ghost', "
        "content_hash, version, vector, embedded_at FROM visualsearch_embedding "
        "WHERE product_id = ANY(%s)",
        extra,
    )
    Embedding.objects.filter(product_id__in=spoilt).update(vector=[0.0] * live.width)
    IndexEntry.objects.filter(product_id__in=unknown).delete()
    for number, product_id in enumerate(replaced):  # each has a file of its own, then other bytes
        name = default_storage.save("chaos/own.png", ContentFile(photo("red", seed=number)))
        execute("ALTER TABLE shop_productimage DISABLE TRIGGER visualsearch_capture")
        ProductImage.objects.filter(product_id=product_id).update(original=name)
        execute("ALTER TABLE shop_productimage ENABLE TRIGGER visualsearch_capture")
        digest = content_hash(photo("red", seed=number))
        Embedding.objects.filter(product_id=product_id).update(image=name, content_hash=digest)
        default_storage.delete(name)
        default_storage.save(name, ContentFile(photo("blue", seed=number)))
    complaints = {f.name for f in doctor.examine(ask_workers=False) if f.level == "error"}

    found = sweeping.sweep(rehash=True)
    state = converge(within=60)

    figures |= {
        "fault": "R14",
        "products": len(products),
        "drifted": len(ids),
        "found": found,
        "falsely_quarantined": len(state.quarantined),
    }
    assert complaints == {"I1", "I3"}
    assert found["missing"] == found["vectors"] == found["unknown"] == each
    # Those whose embedding was deleted wait already.
    assert found["replaced"] == len(stale) + len(extra) + len(replaced)
    assert state.is_whole, state
    assert set(sweeping.sweep(rehash=True).values()) == {0}


def bad_files(chance: random.Random) -> list[bytes]:
    """Forty files that are no photos, or no whole ones."""
    buffer = io.BytesIO()
    pixels = bytes(chance.randrange(256) for _ in range(64 * 64 * 3))
    image = Image.frombytes("RGB", (64, 64), pixels)
    whole: dict[str, bytes] = {}
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "PPM", "TGA"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        whole[kind] = buffer.getvalue()
    found = [data for kind, data in whole.items() if kind not in ("JPEG", "PNG", "WEBP")]
    found += [b"", b"hello", b"%PDF-1.7\n" + bytes(50), b"<html>", b"<svg/>", bytes(2000)]
    for kind in ("JPEG", "PNG", "WEBP"):
        found += [whole[kind][: int(len(whole[kind]) * share)] for share in (0.1, 0.3, 0.5, 0.7)]
    while len(found) < 40:
        head = whole[chance.choice(["JPEG", "PNG", "WEBP"])][:30]
        found.append(head + bytes(chance.randrange(256) for _ in range(500)))
    return found


def test_r22_bad_files__are_listed_with_their_reason_and_healed_by_new_bytes(
    start_worker: Any, converge: Any, chance: random.Random, amount: Amount, figures: Figures
) -> None:
    fake_checkpoint()
    files = photo_files()
    good = add_products(amount(150, 1000), files)
    bad = add_products(40, files)
    for product, data in zip(bad, bad_files(chance), strict=True):
        name = default_storage.save(f"chaos/bad-{product.pk}.jpg", ContentFile(data))
        ProductImage.objects.filter(product=product).update(original=name)
    start_worker()
    state = converge(within=120)
    failed = IndexEntry.objects.filter(status="failed")
    reasons = dict(failed.values_list("product_id", "error"))

    figures |= {
        "fault": "R22",
        "products": len(good),
        "bad_files": len(bad),
        "caught": len(state.quarantined & {product.pk for product in bad}),
        "falsely_quarantined": len(state.quarantined - {product.pk for product in bad}),
    }
    assert state.quarantined == {product.pk for product in bad}
    assert state.is_whole, state
    assert all(f"bad-{pk}" in reason and len(reason) > 30 for pk, reason in reasons.items())
    assert not failed.filter(attempts__gt=0).exists(), "bytes that cannot get better were retried"

    ProductImage.objects.filter(product__in=bad).update(original=files[0])
    state = converge(within=60)
    assert state.is_whole, state
    assert not state.quarantined


def test_r24_restored_without_checkpoint_files__doctor_says_what_to_do(
    services: embedded.Addresses, tmp_path: Path, figures: Figures
) -> None:
    """pg_dump, then pg_restore into another database, on a host without the checkpoint folder."""
    if not services.folder:
        pytest.skip("the server is not the tests' own: its pg_dump is not at hand")
    fake_checkpoint()
    add_products(20, photo_files())
    indexing.index_pending()
    settings = connection.settings_dict
    server = ["-h", str(settings["HOST"]), "-U", str(settings["USER"])]
    programs = find_postgres(Account.choose())
    options = Account.choose().process_options()

    def run(program: str, *arguments: str, **more: Any) -> bytes:
        command = [str(programs / program), *server, *arguments]
        return subprocess.run(command, check=True, capture_output=True, cwd="/", **more).stdout

    dump = run("pg_dump", "--format=plain", str(settings["NAME"]), **options)
    run("createdb", "restored", **options)
    try:
        run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", input=dump, **options)
        base, _, _ = services.database_url.partition("?")[0].rpartition("/")
        environment = os.environ | {
            "DATABASE_URL": f"{base}/restored",
            "REDIS_URL": services.redis_url,
            "DATA_DIR": str(tmp_path / "data"),
            "DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS_VISUALSEARCH": json.dumps({"ENCODER": ""}),
        }
        command = [sys.executable, "manage.py", "visualsearch_doctor", "--json", "--no-workers"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    finally:
        run("dropdb", "restored", **options)
    found = {f["name"]: f for f in json.loads(done.stdout)["findings"] if f["level"] != "ok"}
    errors = {name for name, finding in found.items() if finding["level"] == "error"}

    figures |= {"fault": "R24", "errors": sorted(errors)}
    assert done.returncode == 1
    assert errors == {"checkpoint"}, found
    assert Checkpoint.objects.get().name in found["checkpoint"]["message"]
    assert "restore" in found["checkpoint"]["message"], found["checkpoint"]
    assert Product.objects.count() == 20
