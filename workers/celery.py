"""The Celery app: its queues, which task goes where, and what happens by the clock.

The record of all work is in PostgreSQL. A message here only says "look": losing it costs at most one poll interval.
"""

from __future__ import annotations

import os
import signal

from billiard.process import active_children
from celery import Celery
from celery.schedules import crontab
from celery.signals import worker_process_init, worker_shutting_down
from kombu.entity import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

INTERACTIVE, EMBED, TRAIN = "interactive", "embed", "train"

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_queues=[Queue(INTERACTIVE), Queue(EMBED), Queue(TRAIN)],
    task_default_queue=EMBED,
    task_routes={
        "visualsearch.encode_query": {"queue": INTERACTIVE},
        "visualsearch.run_queued_training": {"queue": TRAIN},
        "visualsearch.*": {"queue": EMBED},
    },
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    # One message at a time: a worker must not sit on a second one while the first runs for minutes.
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Fetches again after Redis froze, was full, or was away; Celery's own may stand still or end.
    worker_consumer="visualsearch.upkeep.worker_consumer:PersistentConsumer",
    # The two polls are what makes the doorbell optional. A poll nobody took in time is worthless: it expires.
    beat_schedule={
        "index what changed": {
            "task": "visualsearch.index_pending",
            "schedule": 2.0,
            "options": {"queue": EMBED, "expires": 10},
        },
        "start queued training": {
            "task": "visualsearch.run_queued_training",
            "schedule": 5.0,
            "options": {"queue": TRAIN, "expires": 10},
        },
        "find what slipped through": {
            "task": "visualsearch.sweep",
            "schedule": crontab(hour=3, minute=17),
            # Reads every photo, for those that were replaced under the same name.
            "kwargs": {"rehash": True},
            "options": {"queue": EMBED, "expires": 6 * 3600},
        },
        "measure the search index": {
            "task": "visualsearch.probe_recall",
            "schedule": crontab(hour=4, minute=17),
            "options": {"queue": EMBED, "expires": 6 * 3600},
        },
    },
)
app.autodiscover_tasks()


@worker_shutting_down.connect
def stop_children(**_: object) -> None:
    """Ask the children to end a training run between two steps, and indexing after its batch.

    The worker would wait for them otherwise, for hours or for some seconds. The signal is one that
    they note when they train or index and else do not hear: other tasks end soon by themselves.
    """
    for child in active_children():
        os.kill(child.pid, signal.SIGUSR2)


@worker_process_init.connect
def prepare_child(**_: object) -> None:
    """Choose the device and load the network in the child: a master that touched CUDA breaks its children."""
    from workers.gpu import prepare

    signal.signal(signal.SIGUSR2, lambda *_: None)
    prepare()
