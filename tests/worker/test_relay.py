"""What is in the outbox arrives, at least once, whatever the broker does."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
import redis
import structlog
from celery import Celery
from django.conf import settings
from django.db import connection, transaction

from agent.testing import free_ports
from apps.kernel.live import LIVE_CHANNEL, redis_client
from apps.kernel.models import OutboxEntry
from apps.kernel.services.outbox import enqueue_task, publish_live
from worker.app import _bind, _unbind, app
from worker.config import celery_config
from worker.observing import relay
from worker.transports import BrokerAway, Resting, task_transport, transports

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_queues() -> None:
    redis_client().delete("rollouts", "telemetry", "analysis")


def ask_for_a_task() -> None:
    with transaction.atomic():
        enqueue_task("targets.reconcile", endpoint_id="ep_1")


def make_due() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE kernel_outboxentry SET available_at = now() - interval '1 s'")


def away() -> Celery:
    broken = Celery("away", set_as_current=False)
    broken.conf.update(celery_config(f"redis://127.0.0.1:{free_ports(1)[0]}/0"))
    return broken


def test_a_task_reaches_its_queue_by_name() -> None:
    ask_for_a_task()
    assert relay(transports(app)) == 1
    message = orjson.loads(redis_client().lindex("rollouts", 0))  # type: ignore[arg-type]
    assert message["headers"]["task"] == "targets.reconcile"
    assert OutboxEntry.objects.count() == 0


def test_the_id_of_the_request_that_asked_for_a_task_goes_with_it_and_is_no_argument() -> None:
    with structlog.contextvars.bound_contextvars(request_id="req-12345678"):
        ask_for_a_task()
    assert relay(transports(app)) == 1
    message = orjson.loads(redis_client().lindex("rollouts", 0))  # type: ignore[arg-type]
    assert message["headers"]["request_id"] == "req-12345678"
    assert orjson.loads(base64.b64decode(message["body"]))[1] == {"endpoint_id": "ep_1"}


def test_a_task_that_runs_binds_the_request_it_was_asked_for_in() -> None:
    from celery.app.task import Context

    class Running:
        name = "targets.reconcile"
        request = Context({"id": "task-1", "headers": {}, "request_id": "req-12345678"})

    _bind(task_id="task-1", task=Running(), kwargs={})
    try:
        assert structlog.contextvars.get_contextvars()["request_id"] == "req-12345678"
    finally:
        _unbind()


def test_a_live_frame_reaches_every_subscriber_with_its_channel() -> None:
    with redis.Redis.from_url(settings.PILOTHOUSE_REDIS_URL) as client, client.pubsub() as pubsub:
        pubsub.subscribe(LIVE_CHANNEL)
        assert pubsub.get_message(timeout=10) is not None
        with transaction.atomic():
            publish_live("fleet", id="ep_1", revision=7)
        relay(transports(app))
        message = pubsub.get_message(timeout=10)
    assert message is not None
    assert orjson.loads(message["data"]) == {"channel": "fleet", "id": "ep_1", "revision": 7}


def test_a_broker_that_is_down_loses_nothing_and_gets_it_later() -> None:
    ask_for_a_task()
    assert relay({"task": task_transport(away())}) == 0
    entry = OutboxEntry.objects.get()
    assert entry.attempts == 1
    assert entry.last_error.startswith("BrokerAway")
    assert relay(transports(app)) == 0, "it waits for its own time"
    make_due()
    assert relay(transports(app)) == 1
    assert redis_client().llen("rollouts") == 1


def test_after_a_failure_the_rest_of_the_batch_does_not_wait_for_the_same_timeout() -> None:
    tries = []

    def slow_failure(name: str, payload: Mapping[str, Any]) -> None:
        tries.append((name, payload))
        raise redis.TimeoutError("no answer")

    resting = Resting(slow_failure, rest_seconds=60)
    for _ in range(200):
        with pytest.raises(BrokerAway):
            resting("fleet", {})
    assert len(tries) == 1


def test_a_broker_that_is_back_is_used_again_after_its_rest() -> None:
    answers = [redis.ConnectionError("away"), None]

    def once_away(name: str, payload: Mapping[str, Any]) -> None:
        if error := answers.pop(0):
            raise error

    resting = Resting(once_away, rest_seconds=0)
    with pytest.raises(BrokerAway):
        resting("fleet", {})
    resting("fleet", {})
    assert answers == []
