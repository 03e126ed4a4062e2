"""A worker's consumer starts over when the broker does not take what it says, and else leaves Celery alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection, Queue
from kombu.asynchronous import Hub

from tests.chaos.redis_server import RedisServer
from visualsearch.upkeep import worker_consumer
from visualsearch.upkeep.worker_consumer import PersistentConsumer
from workers.celery import app

QUEUE = "persistent"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    started = RedisServer()
    started.start()
    yield started
    started.remove()


@pytest.fixture
def connection(server: RedisServer) -> Iterator[Connection]:
    options = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2}
    with Connection(server.url, transport_options=options) as opened:
        yield opened


def consumer_of(channel: Any) -> PersistentConsumer:
    """One with a loop that this test turns, and no worker around it."""
    made = PersistentConsumer.__new__(PersistentConsumer)
    made.hub = Hub()
    made.task_consumer = SimpleNamespace(channel=channel)
    return made


def in_worker() -> PersistentConsumer:
    """One as a worker makes it, before it connects."""
    worker = SimpleNamespace(use_eventloop=True, consumer=None)
    return PersistentConsumer(lambda request: None, app=app, hub=Hub(), controller=worker)


def turn(consumer: PersistentConsumer) -> None:
    """What the loop does with what is to be done soon."""
    for ready in consumer.hub._pop_ready():
        ready()


def fetch(connection: Connection) -> tuple[Any, Any]:
    """A channel that may have one message at a time, and the one that it has."""
    channel = connection.channel()
    channel.basic_qos(0, 1, False)
    queue = Queue(QUEUE, channel=channel)
    queue.declare()
    with connection.Producer() as producer:
        for number in range(2):
            producer.publish({"number": number}, exchange="", routing_key=QUEUE)
    message = queue.get(no_ack=False)
    assert message is not None
    return channel, message


def acknowledge(consumer: PersistentConsumer, message: Any, connection: Connection) -> None:
    """As Celery does it when a task begins."""
    consumer.call_soon_ack(
        message.ack_log_error, logging.getLogger(__name__), connection.connection_errors
    )
    turn(consumer)


def test_acknowledgement__that_is_taken_makes_room_for_the_next(connection: Connection) -> None:
    channel, message = fetch(connection)
    assert not channel.qos.can_consume()

    acknowledge(consumer_of(channel), message, connection)

    assert channel.qos.can_consume()


def test_acknowledgement__that_a_frozen_redis_does_not_take_ends_the_connection(
    connection: Connection, server: RedisServer
) -> None:
    """Else the worker would wait for ever: its only message would count as one at work."""
    channel, message = fetch(connection)
    server.freeze()
    try:
        with pytest.raises(ConnectionResetError, match="did not take"):
            acknowledge(consumer_of(channel), message, connection)
    finally:
        server.thaw()

    assert not channel.qos.can_consume()
    assert issubclass(ConnectionResetError, connection.connection_errors)


def test_acknowledgement__of_a_connection_that_is_gone_leaves_the_new_one_alone(
    connection: Connection, server: RedisServer
) -> None:
    _, message = fetch(connection)
    server.freeze()
    try:
        acknowledge(consumer_of(object()), message, connection)
    finally:
        server.thaw()


def test_redis_that_is_full__is_an_error_after_which_the_worker_goes_on() -> None:
    """Celery ends at an error of the channel unless it is told not to."""
    assert app.conf.worker_consumer.endswith("worker_consumer:PersistentConsumer")
    consumer = in_worker()

    assert consumer.app.conf.broker_channel_error_retry is True


def test_broker_that_is_away__is_looked_for_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By itself Celery comes to look every thirty seconds only."""
    pauses: list[float] = []
    consumer = in_worker()
    away = Connection("redis+socket:///nowhere/at/all.sock")

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 40:
            raise KeyboardInterrupt

    monkeypatch.setattr("kombu.utils.functional.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        consumer.ensure_connected(away)

    attempts = consumer.broker_connection_retry_attempt
    assert sum(pauses) / attempts <= worker_consumer.LOOK_AGAIN_SECONDS
