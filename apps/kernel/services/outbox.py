"""Writes to the outbox and the relay that empties it. Nothing else in the product calls a broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import structlog
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.kernel.models import OutboxEntry

NOTIFY_CHANNEL = "pilothouse_outbox"
REQUEST_ID = "_request_id"
"""Beside a task's arguments in its payload; the transport takes it out and sends it as a header."""

_INSERT = """
    INSERT INTO kernel_outboxentry (topic, name, payload, attempts, last_error)
    SELECT topic, name, payload::jsonb, 0, '' FROM unnest(%s::text[], %s::text[], %s::text[]) AS m(topic, name, payload)
 RETURNING pg_notify(%s, '')
"""


class Deliver(Protocol):
    """Hands one message to its transport; raises when it could not."""

    def __call__(self, name: str, payload: Mapping[str, Any]) -> None: ...


def _add(messages: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
    """Messages of (topic, name, payload), one statement. A listening relay is woken by the commit."""
    if not connection.in_atomic_block:
        raise RuntimeError("the outbox is written in the transaction of its cause")
    topics, names, payloads = zip(*messages, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [list(topics), list(names), [_json(payload) for payload in payloads], NOTIFY_CHANNEL])


def _json(payload: Mapping[str, Any]) -> str:
    return json.dumps(dict(payload))


def enqueue_task(task_name: str, **kwargs: Any) -> None:
    """Ask for a Celery task by name once the surrounding transaction commits.

    The id of the request (or of the task) that asks goes with it, so that its log lines can be found together.
    """
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    _add([("task", task_name, {**kwargs, REQUEST_ID: str(request_id)} if request_id else kwargs)])


def publish_live(channel: str, *, id: str, revision: int, **state: Any) -> None:  # noqa: A002
    """Tell open pages that ``id`` has a new revision; they refetch, the frame carries no truth of its own."""
    publish_many([(channel, {"id": id, "revision": revision, **state})])


def publish_many(frames: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """``publish_live`` of several (channel, ``{"id", "revision", …}``) at once."""
    _add([("live", channel, frame) for channel, frame in frames])


def outbox_deliver(transports: Mapping[str, Deliver], *, limit: int = 200) -> int:
    """Deliver due messages, oldest first; returns how many left.

    1. claim a batch with SKIP LOCKED, so that several relays never hand out one row twice at the same time;
    2. hand each to its transport; 3. delete it, or push it back with a growing delay and the error's text.
    A crash between 2 and 3 repeats the message: receivers are idempotent.
    """
    delivered = 0
    with transaction.atomic():
        due = OutboxEntry.objects.select_for_update(skip_locked=True).filter(available_at__lte=Now()).order_by("id")
        done: list[int] = []
        for entry in due[:limit]:
            failure = _try(transports[entry.topic], entry)
            if failure is None:
                done.append(entry.pk)
                delivered += 1
            else:
                delay = timedelta(seconds=min(60, 2 ** min(entry.attempts, 6)))
                OutboxEntry.objects.filter(pk=entry.pk).update(
                    attempts=F("attempts") + 1, last_error=failure[:500], available_at=Now() + delay
                )
        OutboxEntry.objects.filter(pk__in=done).delete()
    return delivered


def _try(deliver: Callable[[str, Mapping[str, Any]], None], entry: OutboxEntry) -> str | None:
    try:
        deliver(entry.name, entry.payload)
    except (OSError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None
