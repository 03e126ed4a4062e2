"""A real worker and a real Redis: changes arrive, kills lose nothing, the shop never waits."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from django.core.files.base import ContentFile
from django.db import connection
from django.utils import timezone

from shop.embedded_servers import find_redis
from shop.models import Product
from tests.catalogue import add_photo, make_product, make_products, photo
from tests.training_catalogue import make_shapes
from visualsearch.models import Embedding, IndexEntry, TrainingRun
from visualsearch.testing import FakeEncoder, fake_checkpoint
from visualsearch.upkeep import doorbell
from workers.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


CHANGES = {
    "name": "long",
    "gradients": False,
    "colours": False,
    "head_hidden": 0,
    "head_epochs": 0,
    "image_size": 32,
    "width": 16,
    "text": "gru",
    "epochs": 1000,
    "min_steps": 0,
}
"""Makes a recipe of `default` whose steps are short and many."""


class SlowEncoder(FakeEncoder):
    """Takes so long that a kill finds it at work."""

    def encode_image(self, pixels: Any) -> Any:
        time.sleep(0.2)
        return super().encode_image(pixels)


StartWorker = Callable[..., Any]
Eventually = Callable[..., Any]


def embedded_positions(product: Product) -> list[int]:
    rows = Embedding.objects.filter(product_id=product.pk).order_by("position")
    return list(rows.values_list("position", flat=True))


def hashes(product: Product) -> list[bytes]:
    rows = Embedding.objects.filter(product_id=product.pk).order_by("position")
    return [bytes(each) for each in rows.values_list("content_hash", flat=True)]


def all_indexed() -> bool:
    """At rest: nothing open, no lease held."""
    return (
        not IndexEntry.objects.exclude(status="indexed").exists()
        and not IndexEntry.objects.filter(lease__isnull=False).exists()
    )


def kill_tree(pid: int) -> None:
    """kill -9 of a worker and its children, all at once."""
    parent = psutil.Process(pid)
    for process in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def test_worker__every_kind_of_change_arrives(
    celery_worker_process: StartWorker, eventually: Eventually
) -> None:
    fake_checkpoint()
    saved, bulk, raw, more, gone = products = [
        make_product(photo(colour)) for colour in ("red", "blue", "green", "pink", "navy")
    ]
    celery_worker_process("embed", beat=True)
    eventually(all_indexed, within=30, what="the first embeddings")
    assert all(embedded_positions(product) == [0] for product in products)
    before = {product.pk: hashes(product) for product in products}
    new_name = saved.images.get().original.storage.save(
        "products/new.png", ContentFile(photo("yellow"))
    )

    image = saved.images.get()
    image.original = new_name
    image.save()
    bulk_image = bulk.images.get()
    bulk_image.original = new_name
    type(bulk_image).objects.bulk_update([bulk_image], ["original"])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE shop_productimage SET original = %s WHERE product_id = %s", [new_name, raw.pk]
        )
    add_photo(more, photo("orange"), position=1)
    gone_id = gone.pk
    gone.delete()

    eventually(all_indexed, within=30, what="every change")
    for product in (saved, bulk, raw):
        assert hashes(product) != before[product.pk]
        assert Embedding.objects.get(product=product).image == new_name
    assert embedded_positions(more) == [0, 1]
    assert not Embedding.objects.filter(product_id=gone_id).exists()


def test_worker__the_doorbell_alone_wakes_it(
    celery_worker_process: StartWorker, eventually: Eventually
) -> None:
    fake_checkpoint()
    celery_worker_process("embed")  # no beat: nobody polls

    product = make_product(photo())

    eventually(lambda: embedded_positions(product) == [0], within=30, what="the embedding")


def test_worker__killed_while_it_works_loses_nothing(
    celery_worker_process: StartWorker, eventually: Eventually, tmp_path: Path
) -> None:
    fake_checkpoint()
    settings = tmp_path / "small_batches.py"
    settings.write_text(
        f"from {os.environ['DJANGO_SETTINGS_MODULE']} import *\n"
        "VISUALSEARCH = VISUALSEARCH | {'BATCH_SIZE': 4, 'LEASE_SECONDS': 2, "
        "'ENCODER': 'tests.test_worker.SlowEncoder'}\n"
    )
    paths = [str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        "DJANGO_SETTINGS_MODULE": "small_batches",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    worker = celery_worker_process("embed", beat=True, environment=environment)
    make_products(60)
    eventually(
        lambda: IndexEntry.objects.filter(lease__isnull=False).exists(),
        within=30,
        what="a claim under way",
    )

    kill_tree(worker.pid)
    worker.wait()
    left = IndexEntry.objects.filter(status="pending").count()
    assert left > 0, "the kill came too late to show anything"
    celery_worker_process("embed", beat=True, environment=environment)

    eventually(all_indexed, within=40, what="everything after the restart")
    assert Embedding.objects.count() == 60


@pytest.mark.slow
def test_worker__a_training_run_survives_a_shutdown_and_a_kill(
    celery_worker_process: StartWorker, eventually: Eventually, tmp_path: Path
) -> None:
    """Stopped by SIGTERM, taken up by a second worker that is killed, taken over by a third."""
    make_shapes(designs=1)
    settings = tmp_path / "long_training.py"
    settings.write_text(
        f"from {os.environ['DJANGO_SETTINGS_MODULE']} import *\n"
        "import dataclasses\n"
        "from visualsearch.ml import resume\n"
        "from visualsearch.ml.recipes import RECIPES\n"
        f"RECIPES['long'] = dataclasses.replace(RECIPES['default'], **{CHANGES!r})\n"
        f"VISUALSEARCH = VISUALSEARCH | {{'CHECKPOINT_ROOT': {str(tmp_path / 'root')!r}, "
        "'DEVICE': 'cpu'}\n"
    )
    paths = [str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        "DJANGO_SETTINGS_MODULE": "long_training",
        "PYTHONPATH": os.pathsep.join(paths),
        "WORKER_WARM_UP": "0",
    }
    run = TrainingRun.objects.create(recipe="long")

    def trained() -> int:
        run.refresh_from_db()
        return run.history[-1]["step"] if run.history and run.state == "running" else 0

    first = celery_worker_process("train", beat=True, environment=environment)
    eventually(trained, within=120, what="the first steps")
    first.terminate()
    started = time.monotonic()
    first.wait(60)
    assert time.monotonic() - started < 25, "it waited for the run"
    run.refresh_from_db()
    assert (run.state, run.attempts) == ("queued", 0)
    assert list((tmp_path / "root").glob(f".state-{run.pk}/*"))
    reached = run.history[-1]["step"]

    second = celery_worker_process("train", beat=True, environment=environment)
    eventually(lambda: trained() > reached, within=120, what="the run to go on")
    kill_tree(second.pid)
    second.wait()
    assert "Resumed after step" in second.log.read_text()
    TrainingRun.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    third = celery_worker_process("train", beat=True, environment=environment)
    eventually(lambda: "Resumed after step" in third.log.read_text(), within=120, what="a takeover")
    run.refresh_from_db()
    assert (run.state, run.attempts) == ("running", 2)
    steps = [point["step"] for point in run.history]
    assert steps == sorted(set(steps)), "a step that is repeated is in the curve once"
    TrainingRun.objects.update(cancel_requested=True)
    eventually(lambda: TrainingRun.objects.get().state == "cancelled", within=60, what="the cancel")


@pytest.fixture
def own_redis() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A Redis that a test may stop and start: (Celery's URL, stop, start)."""
    folder = Path(tempfile.mkdtemp(prefix="vs-redis-"))
    socket = folder / "redis.sock"
    command = [str(find_redis()), "--port", "0", "--unixsocket", str(socket)]
    command += ["--dir", str(folder), "--save", "", "--loglevel", "warning"]
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        deadline = time.monotonic() + 20
        with redis.Redis(unix_socket_path=str(socket)) as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return
                assert time.monotonic() < deadline, "Redis did not start"
                time.sleep(0.05)

    def stop() -> None:
        while running:
            process = running.pop()
            process.kill()
            process.wait()

    start()
    yield f"redis+socket://{socket}", stop, start
    stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_redis_stopped__a_save_returns_at_once_and_is_indexed_when_it_is_back(
    own_redis: tuple[str, Callable[[], None], Callable[[], None]],
    celery_worker_process: StartWorker,
    eventually: Eventually,
) -> None:
    url, stop, start = own_redis
    app.close()
    app.conf.broker_url = url  # the fixture `broker`, which the worker asks for, restores it
    fake_checkpoint()
    celery_worker_process("embed", beat=True, environment={"VISUALSEARCH_TEST_BROKER": url})
    first = make_product(photo("red"))
    eventually(lambda: embedded_positions(first) == [0], within=30, what="the first embedding")

    stop()
    made: list[Product] = []

    def save() -> None:
        made.append(make_product(photo("blue")))
        connection.close()

    saving = threading.Thread(target=save)
    saving.start()
    saving.join(2)
    assert made, "saving a product waited for the stopped Redis"
    assert IndexEntry.objects.get(product=made[0]).status == "pending"

    start()
    eventually(
        lambda: embedded_positions(made[0]) == [0], within=40, what="the save after Redis is back"
    )


def test_ring__returns_at_once_whatever_the_broker_does(
    own_redis: tuple[str, Callable[[], None], Callable[[], None]], broker: str
) -> None:
    url, stop, _ = own_redis
    app.close()
    app.conf.broker_url = url
    stop()

    started = time.monotonic()
    for _ in range(1000):
        doorbell.ring("embed")

    assert time.monotonic() - started < 1


def test_ring__works_in_a_forked_child(redis_url: str, broker: str, eventually: Eventually) -> None:
    doorbell.ring("embed")

    def waiting() -> int:
        with redis.Redis.from_url(redis_url) as client:
            return int(client.llen("embed"))

    eventually(lambda: waiting() == 1, what="the ring of the parent")
    pid = os.fork()
    if pid == 0:
        doorbell.ring("embed")
        time.sleep(2)
        os._exit(0)
    eventually(lambda: waiting() == 2, what="the ring of the child")
    os.waitpid(pid, 0)


def test_ring__an_unknown_bell_is_named() -> None:
    with pytest.raises(ValueError, match="no bell 'door'"):
        doorbell.ring("door")
