"""A Celery consumer that goes on when Redis froze, was full or was away: `worker_consumer` of a Celery app.

By itself a worker never fetches another message once Redis was too slow to take one
acknowledgement: Celery logs it, and kombu goes on counting the message as one at work, of which
a worker with a prefetch of one may have no second. A Redis that is full ends it. And when Redis was
away for minutes, it looks every half a minute only whether there is one again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer
from kombu.message import Message

LOOK_AGAIN_SECONDS = 3
"""The longest pause between two attempts at a broker that is away."""
REST_SECONDS = 1
"""After a broker that was there did not serve: it is asked again at once, and may be full."""


class PersistentConsumer(Consumer):
    """Starts over with a new connection where an acknowledgement failed, as after other errors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Redis says that it is full in answer to a command: else that would end the worker.
        self.app.conf.broker_channel_error_retry = True

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = partial(conn.ensure_connection, interval_max=LOOK_AGAIN_SECONDS)
        return super().ensure_connected(conn)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        super().on_connection_error_before_connected(exc)
        time.sleep(REST_SECONDS)

    # Celery before 5.7 acknowledges by `call_soon`, later by `call_soon_ack`.

    def call_soon(self, p: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return super().call_soon(self._checked(p), *args, **kwargs)

    def call_soon_ack(self, p: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return super().call_soon_ack(self._checked(p), *args, **kwargs)

    def _checked(self, settle: Callable[..., Any]) -> Callable[..., Any]:
        """`settle`, and an error where it is a message's method and leaves the message unsettled."""
        message = getattr(settle, "__self__", None)
        if not isinstance(message, Message):
            return settle

        def checked(*args: Any, **kwargs: Any) -> None:
            settle(*args, **kwargs)
            channel = self.task_consumer.channel
            # One of an earlier connection does not count in the window of this one.
            if message.acknowledged or message.channel is not channel:
                return
            if message.delivery_info.get("consumer_tag") not in (channel.no_ack_consumers or ()):
                raise ConnectionResetError("The broker did not take an acknowledgement.")

        return checked
