"""`make demo`: its process tree ends whole, its view tells the truth, its check is strict."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
from django.utils import timezone
from rich.console import Console

from shop import demo, demo_check
from shop.demo_view import State, View, describe_run, duration
from shop.embedded import PROJECT
from shop.processes import ProcessTree, ProgramFailedError
from visualsearch.models import TrainingRun

# A program that ignores the mild signals and has a child that does as well.
STUBBORN = """
import signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
OWNER = """
import sys, time
from pathlib import Path
from shop.processes import ProcessTree
program = ProcessTree(Path(sys.argv[1])).start("sleeper", ["-c", "import time; time.sleep(600)"])
print(program.process.pid, flush=True)
time.sleep(600)
"""


def wait_for(condition: object, *, within: float = 10.0) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- the tree -----------------------------------------------------------------------------------


def test_stop__a_program_that_ignores_signals_ends_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop.processes.PATIENCE_S", 0.3)
    with ProcessTree(tmp_path) as tree:
        program = tree.start("stubborn", ["-c", STUBBORN])
        assert wait_for(lambda: program.log.read_text().strip().isdigit())
        child = int(program.log.read_text())
        assert is_running(program.process.pid)
        assert is_running(child)

    assert not is_running(program.process.pid)
    assert wait_for(lambda: not is_running(child))


def test_owner_killed__its_programs_end(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    program = int(owner.stdout.readline())
    assert is_running(program)

    owner.kill()
    owner.wait()

    assert wait_for(lambda: not is_running(program))


@pytest.mark.parametrize(("status", "lasting"), [(3, True), (3, False), (0, True)])
def test_check__a_program_that_ended_is_reported_with_its_last_words(
    tmp_path: Path, status: int, lasting: bool
) -> None:
    with ProcessTree(tmp_path) as tree:
        code = f"print('no such table'); raise SystemExit({status})"
        tree.start("web", ["-c", code], lasting=lasting).process.wait()

        with pytest.raises(
            ProgramFailedError, match=rf"(?s)web ended with status {status}.*no such table"
        ):
            tree.check()


def test_check__a_short_program_may_end_well(tmp_path: Path) -> None:
    with ProcessTree(tmp_path) as tree:
        tree.start("draw", ["-c", "pass"], lasting=False).process.wait()

        tree.check()


# --- the demo as a person runs it ---------------------------------------------------------------


@pytest.fixture
def private_demo() -> Iterator[dict[str, str]]:
    """The environment of a demo that shares nothing with one that may be running here."""
    with tempfile.TemporaryDirectory(prefix="vs-demo-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        hidden = {"DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "DEMO_CHECK", "DEBUG"}
        yield {name: value for name, value in os.environ.items() if name not in hidden} | {
            "RUN_DIR": f"{folder}/run",
            "DATA_DIR": f"{folder}/var",
            "PORT": str(demo.find_port(None)),
            "PRODUCTS": "12",
            "PYTHONUNBUFFERED": "1",
        }


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_demo__page_comes_up_and_no_process_outlives_it(
    private_demo: dict[str, str], number: signal.Signals, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "shop.demo"],
            cwd=PROJECT,
            env=private_demo,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert wait_for(
            lambda: "up after" in output.read_text() or process.poll() is not None, within=90
        )
        assert process.poll() is None, output.read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{private_demo['PORT']}/") as response:
            assert response.status == 200
        family = [
            process.pid,
            *(p.pid for p in psutil.Process(process.pid).children(recursive=True)),
        ]
        assert len(family) > 6

        process.send_signal(number)

        assert wait_for(lambda: process.poll() is not None, within=20), output.read_text()
        assert wait_for(lambda: not any(map(is_running, family)), within=20), [
            psutil.Process(pid).cmdline() for pid in family if is_running(pid)
        ]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_demo__refuses_to_run_without_debug(private_demo: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shop.demo"],
        cwd=PROJECT,
        env=private_demo | {"DEBUG": "0"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "only with DEBUG on" in done.stderr


def test_find_port__a_taken_port_is_named_with_the_fix() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_address[1]

        with pytest.raises(demo.DemoError, match=rf"Port {port} .* PORT="):
            demo.find_port(port)


@pytest.mark.django_db
def test_training__that_was_cut_off_begins_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visualsearch.upkeep.doorbell.ring", lambda _: None)
    cut_off = TrainingRun.objects.create(
        state="running", token=uuid.uuid4(), heartbeat_at=timezone.now()
    )

    demo.end_cut_off_training()
    demo.request_first_training()

    cut_off.refresh_from_db()
    assert cut_off.state == "failed"
    assert TrainingRun.objects.open().get().state == "queued"


# --- the view -----------------------------------------------------------------------------------


def test_state__searchable_only_when_drawn_live_and_indexed() -> None:
    assert State(drawn=True, live="v1").searchable
    assert not State(drawn=False, live="v1").searchable
    assert not State(drawn=True).searchable
    assert not State(drawn=True, live="v1", pending=1).searchable


def test_state__a_failed_training_is_a_problem_with_its_reason() -> None:
    state = State(run={"state": "failed", "error": "4 products are too few"})

    assert "4 products are too few" in state.problem
    assert State(run={"state": "running"}).problem == ""
    assert State(live="v1", run={"state": "failed", "error": "later run"}).problem == ""


def test_summary__fits_in_a_sentence_however_long_the_run_was() -> None:
    run = {
        "state": "running",
        "stage": "training",
        "history": [{"epoch": 1, "epochs": 2, "loss": 0.5}] * 300,
        "metrics": {"lines": ["figure"] * 100},
        "eta_seconds": None,
        "error": "",
    }

    text = State(products=600, pending=7, run=run).summary()

    assert text == (
        "600 products, 7 pending; training: training, epoch 1 of 2, loss 0.500; live checkpoint: none"
    )


def test_describe_run__epoch_loss_and_time_left() -> None:
    run = {
        "state": "running",
        "stage": "training",
        "history": [{"epoch": 3, "epochs": 12, "loss": 1.23456}],
        "eta_seconds": 81,
        "error": "",
    }

    assert describe_run(run) == "training, epoch 3 of 12, loss 1.235, 1 min 21 s left"
    assert duration(59.4) == "59 s"


def test_view__without_a_terminal_prints_plain_lines() -> None:
    output = io.StringIO()
    view = View(Console(file=output))

    view.step("services")
    view.page_is_up("http://127.0.0.1:8000/", "admin", 7.2)
    view.close()

    assert "\x1b" not in output.getvalue()
    assert "http://127.0.0.1:8000/admin/" in output.getvalue()
    assert "up after 7.2 s" in output.getvalue()


def test_view__a_closed_terminal_does_not_stop_the_demo() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    View(Console(file=Gone())).say("Stopped.")


# --- the check ----------------------------------------------------------------------------------


class Shop(BaseHTTPRequestHandler):
    """Answers every request with `body`, as a shop in some state would."""

    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, b'{"hits": [{"id": 1}], "degraded": true}', "degraded"),
        (200, b'{"hits": [{"id": 1}]}', "degraded"),
        (200, b'{"hits": [], "degraded": false}', "no hits"),
        (500, b"oops", "HTTP 500: oops"),
        (200, b"<html>", "Expecting value"),
    ],
)
def test_ask__only_hits_from_the_encoder_count(
    shop_url: str, db: None, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, problem: str
) -> None:
    monkeypatch.setattr(Shop, "status", status)
    monkeypatch.setattr(Shop, "body", body)

    assert problem in demo_check._ask("text", shop_url).problem


def test_ask__a_good_answer_has_no_problem(
    shop_url: str, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shop, "status", 200)
    monkeypatch.setattr(Shop, "body", b'{"hits": [{"id": 999999}], "degraded": false}')

    answer = demo_check._ask("text", shop_url, b"{}", "application/json")

    assert answer.problem == ""
    assert answer.titles == ["#999999, which is not in the catalogue"]
