"""How the outbox relay hands messages on: tasks to the broker, live frames to Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import KombuError

from apps.kernel.live import live_publish
from apps.kernel.services.outbox import REQUEST_ID, Deliver

REST_SECONDS = 1.0


class BrokerAway(OSError):
    """The message was not handed on; its row stays in the outbox."""


class Resting:
    """After a failure the next messages fail at once for a second, instead of each waiting for the same timeout.

    The relay delivers inside one transaction: two hundred timeouts in a row would hold its row locks for minutes.
    """

    def __init__(self, deliver: Deliver, *, rest_seconds: float = REST_SECONDS) -> None:
        self._deliver = deliver
        self._rest_seconds = rest_seconds
        self._resting_until = 0.0

    def __call__(self, name: str, payload: Mapping[str, Any]) -> None:
        if time.monotonic() < self._resting_until:
            raise BrokerAway("the broker failed a moment ago")
        try:
            self._deliver(name, payload)
        except (redis.RedisError, KombuError, OSError) as error:
            self._resting_until = time.monotonic() + self._rest_seconds
            raise BrokerAway(f"{type(error).__name__}: {error}") from error


def task_transport(app: Celery) -> Deliver:
    """Sends a task by name, once, without Celery's own retries: the outbox is the retry."""

    def send(name: str, payload: Mapping[str, Any]) -> None:
        arguments = dict(payload)
        request_id = arguments.pop(REQUEST_ID, None)
        headers = {"request_id": request_id} if request_id else None
        app.send_task(name, kwargs=arguments, headers=headers, retry=False)

    return Resting(send)


def transports(app: Celery) -> dict[str, Deliver]:
    """One per outbox topic."""
    return {"task": task_transport(app), "live": Resting(live_publish)}
