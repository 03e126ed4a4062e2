"""`make demo`: the whole shop as one process tree, which trains on its catalogue while the page is already up.

python -m shop.demo            PORT=…   another port        PRODUCTS=…   size of the drawn catalogue
DEMO_CHECK=1 python -m shop.demo         ask the running shop the four kinds of question; exit 0 or 1
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from shop import embedded
from shop.processes import ProcessTree, Program, ProgramFailedError

if TYPE_CHECKING:
    from shop.demo_view import View

PRODUCTS = 600
LOGIN = "admin"
CHECK_LIMIT_S = 900.0
POLL_S = 0.5


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why."""


def find_port(wanted: int | None) -> int:
    """PORT, or the first free one from 8000 on."""
    for port in [wanted] if wanted else range(8000, 8100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise DemoError(
        f"Port {wanted} of 127.0.0.1 is taken: choose another with PORT=…"
        if wanted
        else "No free port from 8000 to 8099: choose one with PORT=…"
    )


def wait_for_page(url: str, tree: ProcessTree, *, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while True:
        tree.check()
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                response.read(1)
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise DemoError(f"{url} did not answer within {within:.0f} s: {error}") from error
            time.sleep(0.1)


def prepare_database() -> None:
    """Migrate, and make the admin's login: only ever reached in DEBUG, on this machine."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    users = get_user_model()._default_manager
    if not users.filter(username=LOGIN).exists():
        users.create_superuser(username=LOGIN, email="", password=LOGIN)


def end_cut_off_training() -> None:
    """Mark a run that Ctrl-C cut off as failed, so that another can begin at once.

    To be called before any worker runs on these servers: nobody can be at work on it.
    """
    from visualsearch.lifecycle.runs import fail_abandoned
    from visualsearch.models import TrainingRun

    running = TrainingRun.objects.filter(state=TrainingRun.State.RUNNING)
    running.update(heartbeat_at=datetime.fromtimestamp(0, UTC))
    fail_abandoned()


def start_programs(tree: ProcessTree, port: int) -> None:
    web = ["-m", "gunicorn", "shop.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "8"]
    web += [
        "--worker-class",
        "gthread",
        "--graceful-timeout",
        "2",
        "--timeout",
        "120",
        "--no-control-socket",
    ]
    tree.start("web", web)
    worker = ["-m", "celery", "-A", "workers.celery", "worker", "-c", "1", "--loglevel", "INFO"]
    worker += ["--without-mingle", "--without-gossip"]
    beat = ["-B", "--schedule", str(tree.logs / "beat")]
    tree.start("embed", [*worker, "-Q", "embed,interactive", "-n", "embed@%h", *beat])
    give_way = {"WORKER_NICE": "10"}  # pages go first: the training takes every core there is
    tree.start("train", [*worker, "-Q", "train", "-n", "train@%h"], environment=give_way)


def start_drawing(tree: ProcessTree) -> Program | None:
    """Draw the catalogue in the background, unless there is one."""
    from shop.models import Product

    wanted = int(os.environ.get("PRODUCTS", PRODUCTS))
    if Product.objects.count() >= wanted:
        return None
    command = ["manage.py", "shop_draw", "--products", str(wanted)]
    return tree.start("draw", command, lasting=False)


def request_first_training() -> None:
    """Press Retrain for the newcomer, unless there is a checkpoint or somebody was faster."""
    from visualsearch.exceptions import TrainingInProgressError
    from visualsearch.lifecycle.training import request_training
    from visualsearch.models import Checkpoint

    if Checkpoint.objects.live() is None:
        with contextlib.suppress(TrainingInProgressError):
            request_training()


def run(view: View, *, check: bool) -> int:
    """Bring the shop up and stay; with `check`, ask it and return the exit status."""
    began = time.monotonic()
    port = find_port(int(os.environ["PORT"]) if os.environ.get("PORT") else None)
    url = f"http://127.0.0.1:{port}/"
    logs = Path(os.environ.get("DATA_DIR", embedded.PROJECT / "var")) / "logs"
    with contextlib.ExitStack() as stack:
        view.step("services")
        owns_database = not os.environ.get("DATABASE_URL")
        if owns_database or not os.environ.get("REDIS_URL"):
            services = stack.enter_context(embedded.start())
            os.environ.setdefault("DATABASE_URL", services.database_url)
            os.environ.setdefault("REDIS_URL", services.redis_url)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        tree = stack.enter_context(ProcessTree(logs))
        view.step("database")
        prepare_database()
        if owns_database:
            end_cut_off_training()
        view.step("page")
        start_programs(tree, port)
        drawing = start_drawing(tree)
        wait_for_page(url, tree)
        view.page_is_up(url, LOGIN, time.monotonic() - began)
        requested = False
        stack.callback(view.stopping)
        while True:
            tree.check()
            drawn = drawing is None or drawing.process.poll() is not None
            if drawn and not requested:
                request_first_training()
                requested = True
            state = view.refresh(drawn=drawn)
            if check and requested and state.searchable:
                view.close()
                from shop.demo_check import ask_all

                return ask_all(url, seconds=time.monotonic() - began)
            if check and requested and state.problem:
                raise DemoError(state.problem)
            if check and time.monotonic() - began > CHECK_LIMIT_S:
                raise DemoError(f"Not searchable within {CHECK_LIMIT_S:.0f} s: {state.summary()}")
            time.sleep(POLL_S)


def _interrupt(*_: object) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    if os.environ.get("DEBUG", "1").strip().lower() not in {"1", "true", "yes", "on"}:
        print(
            "The demo creates a login with a known password: it runs only with DEBUG on.",
            file=sys.stderr,
        )
        return 2
    from shop.demo_view import View

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    os.chdir(Path(embedded.PROJECT))
    view = View()
    try:
        return run(view, check=os.environ.get("DEMO_CHECK", "0") not in {"", "0"})
    except KeyboardInterrupt:
        view.say("Stopped. `make demo` goes on from here.")
        return 0 if not os.environ.get("DEMO_CHECK") else 130
    except (DemoError, ProgramFailedError, embedded.EmbeddedError) as error:
        view.close()
        view.say(f"The demo stopped: {error}")
        return 1
    finally:
        view.close()


if __name__ == "__main__":
    sys.exit(main())
