"""Prepare a worker's child process: its threads and a first warm pass on its device through the live encoder."""

from __future__ import annotations

import logging
import os
import threading

logger = logging.getLogger(__name__)


def threads_per_child() -> int:
    """Threads of one child: WORKER_THREADS, or every core this process may use."""
    try:
        wanted = int(os.environ.get("WORKER_THREADS", "0"))
    except ValueError:
        logger.warning(
            "WORKER_THREADS=%r is not a number; using every core.", os.environ["WORKER_THREADS"]
        )
        wanted = 0
    if wanted > 0:
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare() -> None:
    """Run in a fresh child, before its first task; never fails, because a worker without GPU still works."""
    import gc

    threads = str(threads_per_child())
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)
    if nice := os.environ.get("WORKER_NICE"):
        _give_way(nice)
    gc.freeze()  # what the master loaded stays shared between its children
    if os.environ.get("WORKER_WARM_UP", "1") != "0":
        # Beside the first task, not before it: Celery kills a child that takes long to come up.
        threading.Thread(target=warm_up, name="warm-up", daemon=True).start()


def _give_way(nice: str) -> None:
    """A training run takes every core for minutes: on a shared machine shoppers' pages go first."""
    try:
        os.nice(int(nice))
    except (ValueError, OSError):
        logger.warning("WORKER_NICE=%r is not a niceness from 0 to 19; it is ignored.", nice)


def warm_up() -> None:
    """Load the live checkpoint's encoder once, so that the first task does not pay for it."""
    import numpy as np
    from django.db import close_old_connections

    try:
        from visualsearch.conf import get_settings
        from visualsearch.encoding import bulk_encoder
        from visualsearch.models import Checkpoint

        live = Checkpoint.objects.live()
        if live is None:
            logger.info("No live checkpoint yet: nothing to warm up.")
            return
        encoder = bulk_encoder(live)
        encoder.encode_image(
            np.full((1, encoder.image_size, encoder.image_size, 3), 255, dtype=np.uint8)
        )
        logger.info("Checkpoint %s is loaded, device %s.", live, get_settings().DEVICE)
    except Exception:
        logger.warning("The warm-up failed; the first task will load the encoder.", exc_info=True)
    finally:
        close_old_connections()
