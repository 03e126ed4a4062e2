"""Embeds a suspected product in a process of its own, which the worker outlives: so it knows whose fault it was.

A worker that was killed says nothing of why: a deploy, a lack of memory and a photo that crashes the
network leave the same expired lease. So a product that was in a batch which did not come back is
embedded by a child (trial_child.py), one at a time. If the child dies and the worker does not, that
is held against the product; if the worker dies as well, nothing is.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import OperationalError

import visualsearch
from visualsearch.exceptions import TrialError
from visualsearch.models import Checkpoint
from visualsearch.tables.partitions import database
from visualsearch.upkeep import trial_child
from visualsearch.upkeep.claiming import Claim
from visualsearch.upkeep.embedding import Fault, Report

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
"""For Django, the network and the decoder to be loaded, on a machine that is short of everything."""
LOOK_SECONDS = 1.0
"""How often a silent child makes us look whether the product is still ours."""
TOLD_TO_END = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
"""Signals by which somebody ends a process, and no product does."""

CONNECTION = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")


def is_possible() -> bool:
    """Whether a child would see what this process does: settings that have a name, no open transaction."""
    return bool(_settings_module()) and not database().in_atomic_block


def get_ready(checkpoints: Sequence[Checkpoint]) -> None:
    """Have a child that has loaded the networks, before a product is claimed that it is to embed.

    That takes far longer than a product does, and a worker that dies of something else meanwhile
    should have none in its hands. A child that does not come up is a matter for `embed`.
    """
    child = _child()
    try:
        child.get_ready(checkpoints)
    except (TrialError, OperationalError) as error:
        logger.warning("%s", error)
        _end(child)


def embed(
    claim: Claim,
    *,
    checkpoints: Sequence[Checkpoint],
    step: Callable[[], None],
    patience: float,
    is_last: bool,
) -> Report:
    """As `embedding.embed_products` of the one product, by the child.

    Raises TrialError, whose `is_charged` says whether it is the product's fault that there is no
    answer: the child died, or said nothing for `patience` seconds. OperationalError and what `step`
    raises go on.
    """
    child = _child()
    try:
        return child.embed(
            claim, checkpoints=checkpoints, step=step, patience=patience, is_last=is_last
        )
    except BaseException:
        _end(child)  # half a conversation: the next answer would be misread
        raise


class _Child:
    """One process for trials, and the socket to it."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        self.rest = bytearray()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "visualsearch.upkeep.trial_child"],
                stdin=theirs.fileno(),
                env=_environment(),
            )
        self._send(_databases())

    def get_ready(self, checkpoints: Sequence[Checkpoint]) -> None:
        self._send({"checkpoints": [checkpoint.pk for checkpoint in checkpoints]})
        said = self._receive(lambda: None, START_SECONDS, False)
        if said["kind"] != trial_child.READY:
            raise TrialError(said["message"], code=said["code"])

    def embed(
        self,
        claim: Claim,
        *,
        checkpoints: Sequence[Checkpoint],
        step: Callable[[], None],
        patience: float,
        is_last: bool,
    ) -> Report:
        self._send(
            {
                "product": str(claim.product_id),
                "version": claim.version,
                "lease": str(claim.lease),
                "checkpoints": [checkpoint.pk for checkpoint in checkpoints],
                "is_last": is_last,
            }
        )
        has_begun = False
        while True:
            said = self._receive(step, patience if has_begun else START_SECONDS, has_begun)
            step()
            kind = said["kind"]
            has_begun |= kind == trial_child.BEGUN
            if kind == trial_child.DONE:
                return _report(claim, said)
            if kind == trial_child.DATABASE:
                raise OperationalError(said["message"])
            if kind in trial_child.FAULTS:
                is_charged = kind == trial_child.CHARGED
                raise TrialError(said["message"], code=said["code"], is_charged=is_charged)

    def end(self) -> str:
        """Ends it, if it is still there, and says how it ended."""
        self.connection.close()
        try:  # a crash closes the socket a moment before its exit status is there to be read
            self.process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            self.process.kill()
        status = self.process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def _send(self, message: dict[str, Any]) -> None:
        self.connection.settimeout(START_SECONDS)
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self._died(has_begun=False) from error

    def _receive(self, step: Callable[[], None], seconds: float, has_begun: bool) -> dict[str, Any]:
        """The next line; TrialError if there is none in `seconds`."""
        looks = 0  # rather than the clock: while we are frozen ourselves, nothing can be heard
        while b"\n" not in self.rest:
            self.connection.settimeout(LOOK_SECONDS)
            try:
                received = self.connection.recv(1 << 16)
            except TimeoutError:
                looks += 1
                if looks * LOOK_SECONDS > seconds:
                    raise TrialError(
                        f"The process that embedded this product did nothing for {seconds:.0f} s.",
                        code="hung",
                        is_charged=has_begun,
                    ) from None
                if not has_begun:
                    step()  # it is being loaded: the product has not been touched yet
                continue
            except OSError:
                received = b""
            if not received:
                raise self._died(has_begun=has_begun)
            self.rest += received
        line, _, self.rest = self.rest.partition(b"\n")
        return dict(json.loads(line))

    def _died(self, *, has_begun: bool) -> TrialError:
        how = self.end()
        was_told = how in {number.name for number in TOLD_TO_END}
        if not has_begun or was_told:
            return TrialError(
                f"The process that tries products alone ended ({how}).", code="system"
            )
        return TrialError(
            f"The process that embedded this product ended ({how}): replace its photos, and save it.",
            code="crashed",
            is_charged=True,
        )


def _report(claim: Claim, said: dict[str, Any]) -> Report:
    pk = claim.product_id
    return Report(
        versions={pk: claim.version},
        faults={pk: Fault(**said["fault"])} if said["fault"] else {},
        changed={pk} if said["changed"] else set(),
        embedded=said["embedded"],
    )


def _settings_module() -> str:
    """The module that Django's settings come from; "" if they were made in this process."""
    return str(getattr(settings, "SETTINGS_MODULE", "") or "")


def _environment() -> dict[str, str]:
    """What a child needs to be like this process; its modules are found where ours are."""
    here = [str(Path(visualsearch.__file__).parents[1]), *(entry or "." for entry in sys.path)]
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": _settings_module(),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(here)),
    }


def _databases() -> dict[str, dict[str, Any]]:
    """Where the databases are, which tests change after the settings were read."""
    configured: dict[str, dict[str, Any]] = dict(settings.DATABASES)  # type: ignore[arg-type]
    return {
        alias: {name: str(values[name]) for name in CONNECTION if values.get(name)}
        for alias, values in configured.items()
    }


_children: dict[int, _Child] = {}


def _child() -> _Child:
    """This process's child, started when it is needed; a fork has one of its own."""
    pid = os.getpid()
    child = _children.get(pid)
    if child is None or child.process.poll() is not None:
        child = _children[pid] = _Child()
    return child


def _end(child: _Child) -> None:
    child.end()
    _children.pop(os.getpid(), None)


@atexit.register
def _close() -> None:
    if child := _children.pop(os.getpid(), None):
        child.end()
