"""Writes to the outbox and the relay that empties it. Nothing else in the product calls a broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.kernel.models import OutboxEntry

NOTIFY_CHANNEL = "pilothouse_outbox"


class Deliver(Protocol):
    """Hands one message to its transport; raises when it could not."""

    def __call__(self, name: str, payload: Mapping[str, Any]) -> None: ...


def _add(topic: str, name: str, payload: Mapping[str, Any]) -> None:
    if not connection.in_atomic_block:
        raise RuntimeError("the outbox is written in the transaction of its cause")
    OutboxEntry.objects.create(topic=topic, name=name, payload=dict(payload))
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {NOTIFY_CHANNEL}")


def enqueue_task(task_name: str, **kwargs: Any) -> None:
    """Ask for a Celery task by name once the surrounding transaction commits."""
    _add("task", task_name, kwargs)


def publish_live(channel: str, *, id: str, revision: int, **state: Any) -> None:  # noqa: A002
    """Tell open pages that ``id`` has a new revision; they refetch, the frame carries no truth of its own."""
    _add("live", channel, {"id": id, "revision": revision, **state})


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
