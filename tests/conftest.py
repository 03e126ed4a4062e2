"""Fixtures of the whole suite: private PostgreSQL and Redis, a real worker, files in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dj_database_url
import pytest
from django.conf import settings as django_settings
from django.db import connections, transaction

from shop import embedded

ROOT = Path(__file__).resolve().parent.parent
if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of several test processes would take turns on the same cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Selected for the whole process by --ds, so that both catalogues use one conftest.
SETTINGS_MODULE = os.environ.get("DJANGO_SETTINGS_MODULE", "tests.settings")


class WorkerProcess(subprocess.Popen[bytes]):
    """A real worker, and where it writes its log."""

    log: Path


@pytest.fixture(scope="session")
def services() -> Iterator[embedded.Addresses]:
    """PostgreSQL and Redis: those of DATABASE_URL and REDIS_URL, or private ones that end with the run."""
    database_url, redis_url = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if database_url and redis_url:
        yield embedded.Addresses(database_url=database_url, redis_url=redis_url, folder="")
        return
    folder = Path(tempfile.mkdtemp(prefix="vs-test-", dir="/tmp"))
    folder.chmod(0o711)
    with embedded.start(folder, durable=False, temporary=True) as started:
        yield embedded.Addresses(
            database_url=database_url or started.database_url,
            redis_url=redis_url or started.redis_url,
            folder=str(started.folder),
        )


@pytest.fixture(scope="session")
def django_db_modify_db_settings(services: embedded.Addresses) -> None:
    """Point Django at the servers just before pytest-django creates the test database."""
    # The connection handler holds this very dictionary, so it is changed in place.
    django_settings.DATABASES["default"].update(dj_database_url.parse(services.database_url))
    django_settings.DATABASES["default"]["CONN_MAX_AGE"] = 0


@pytest.fixture(scope="session", autouse=True)
def _data_folder() -> Iterator[Path]:
    """Photos and checkpoints of the tests go to a folder that is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="vs-data-"))
    django_settings.DATA_DIR = folder
    django_settings.MEDIA_ROOT = str(folder / "media")
    django_settings.VISUALSEARCH = django_settings.VISUALSEARCH | {
        "CHECKPOINT_ROOT": folder / "checkpoints"
    }
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """Each test begins as a process does that has been asked nothing."""
    from visualsearch.search import known_words, similar

    known_words.forget()
    similar._untrained.clear()


@pytest.fixture
def data_folder(_data_folder: Path) -> Path:
    """Where this run keeps photos (`media`) and `checkpoints`."""
    return _data_folder


@pytest.fixture
def redis_url(services: embedded.Addresses) -> str:
    """A Redis for this test: emptied before it."""
    import redis

    with redis.Redis.from_url(services.redis_url) as client:
        client.flushdb()
    return services.redis_url


@pytest.fixture
def broker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Celery of this process talks to the real Redis."""
    from shop.settings import _broker
    from workers.celery import app

    def forget_connections() -> None:
        app.close()
        # A ring of an earlier test has left its producers here, and with them the broker in memory.
        app.amqp._producer_pool = None

    url = _broker(redis_url)
    forget_connections()
    monkeypatch.setattr(django_settings, "CELERY_BROKER_URL", url, raising=False)
    before = app.conf.broker_url
    app.conf.broker_url = url
    yield url
    forget_connections()
    app.conf.broker_url = before


def database_url_of_tests(services: embedded.Addresses) -> str:
    """The URL of the database that pytest-django made from `services`."""
    head, _, _ = services.database_url.partition("?")
    base, _, _ = head.rpartition("/")
    return f"{base}/{quote(django_settings.DATABASES['default']['NAME'])}"


@pytest.fixture
def worker_environment(
    transactional_db: None, services: embedded.Addresses, broker: str, _data_folder: Path
) -> dict[str, str]:
    """The environment in which another process sees this test's database, broker, settings and files."""
    return os.environ | {
        "DATABASE_URL": database_url_of_tests(services),
        "REDIS_URL": services.redis_url,
        "DATA_DIR": str(_data_folder),
        "DEBUG": "1",
        "DJANGO_SETTINGS_MODULE": SETTINGS_MODULE,
        "VISUALSEARCH_TEST_BROKER": broker,
    }


@pytest.fixture
def celery_worker_process(
    worker_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    """Start real workers: `celery_worker_process("embed", "interactive", beat=True)`; they end with the test."""
    started: list[WorkerProcess] = []

    def start(
        *queues: str, beat: bool = False, environment: dict[str, str] | None = None, **options: Any
    ) -> WorkerProcess:
        name = "-".join(queues) + str(len(started))
        log = tmp_path / f"worker-{name}.log"
        command = [sys.executable, "-m", "celery", "-A", "workers.celery", "worker"]
        command += ["-Q", ",".join(queues), "-c", str(options.get("concurrency", 1))]
        command += ["-n", f"{name}-{os.getpid()}@%h", "--loglevel", "INFO", "--without-mingle"]
        command += ["-B", "-s", str(tmp_path / f"beat-{name}")] if beat else []
        with log.open("wb") as output:
            worker = WorkerProcess(
                command,
                cwd=ROOT,
                env=worker_environment | (environment or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker.log = log
        started.append(worker)
        deadline = time.monotonic() + 300  # of a machine that much else shares
        while b" ready." not in log.read_bytes():
            if worker.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the worker did not start:\n{log.read_text()}")
            time.sleep(0.05)
        return worker

    yield start
    for worker in started:
        worker.terminate()
    for worker in started:
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Wait until a condition holds: `eventually(lambda: Embedding.objects.exists())`; returns its value."""

    def wait(condition: Callable[[], Any], *, within: float = 10.0, what: str = "") -> Any:
        deadline = time.monotonic() + within
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within:g} s: {what or condition}")
            time.sleep(0.05)

    return wait


@pytest.fixture
def in_transaction() -> Callable[[Callable[[], Any]], AbstractContextManager[None]]:
    """Another connection has done something, and commits when the block ends: `with in_transaction(edit):`."""

    @contextlib.contextmanager
    def others(do: Callable[[], Any]) -> Iterator[None]:
        done, may_commit = threading.Event(), threading.Event()

        def hold() -> None:
            try:
                with transaction.atomic():
                    do()
                    done.set()
                    may_commit.wait(30)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as threads:
            held = threads.submit(hold)
            try:
                assert done.wait(10)
                yield
            finally:
                may_commit.set()
                held.result(30)

    return others


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would be published."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("django_visualsearch-*.whl")
    return built


@pytest.fixture(scope="session")
def fresh_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel; its dependencies are those that are here already."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True
    )
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    # A line in a .pth file adds the folder, and not what the .pth files in there add: this
    # repository, which is installed there for development, stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    interpreter = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "-q"]
    install += ["--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return interpreter
