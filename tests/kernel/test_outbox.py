"""What must happen outside because of a commit happens after it, at least once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now

from apps.kernel.models import OutboxEntry
from apps.kernel.services.outbox import enqueue_task, outbox_deliver, publish_live

pytestmark = pytest.mark.django_db


class Post:
    """Takes messages, or fails."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.fault = fault

    def __call__(self, name: str, payload: Mapping[str, Any]) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append((name, dict(payload)))


def test_messages_are_delivered_in_order_and_leave() -> None:
    tasks, live = Post(), Post()
    with transaction.atomic():
        enqueue_task("rollouts.tick", rollout_id="ro_1")
        publish_live("fleet", id="ep_1", revision=3, phase="paused")
        enqueue_task("rollouts.tick", rollout_id="ro_2")
    assert outbox_deliver({"task": tasks, "live": live}) == 3
    assert tasks.taken == [("rollouts.tick", {"rollout_id": "ro_1"}), ("rollouts.tick", {"rollout_id": "ro_2"})]
    assert live.taken == [("fleet", {"id": "ep_1", "revision": 3, "phase": "paused"})]
    assert outbox_deliver({"task": tasks, "live": live}) == 0


@pytest.mark.django_db(transaction=True)
def test_a_message_without_a_transaction_is_refused_and_one_of_a_failed_transaction_never_leaves() -> None:
    with pytest.raises(RuntimeError, match="transaction of its cause"):
        enqueue_task("rollouts.tick")
    with transaction.atomic():
        enqueue_task("rollouts.tick")
        transaction.set_rollback(True)
    assert outbox_deliver({"task": Post()}) == 0


def test_a_message_that_could_not_be_handed_over_waits_and_comes_again() -> None:
    with transaction.atomic():
        enqueue_task("rollouts.tick")
    assert outbox_deliver({"task": Post(OSError("broker is away"))}) == 0
    entry = OutboxEntry.objects.get()
    assert (entry.attempts, entry.last_error) == (1, "OSError: broker is away")
    well = Post()
    assert outbox_deliver({"task": well}) == 0  # not due yet
    OutboxEntry.objects.update(available_at=Now() - timedelta(seconds=1))
    assert outbox_deliver({"task": well}) == 1
    assert not OutboxEntry.objects.exists()


def test_one_message_that_fails_does_not_hold_up_the_others() -> None:
    live = Post()
    with transaction.atomic():
        enqueue_task("rollouts.tick")
        publish_live("fleet", id="ep_1", revision=1)
    assert outbox_deliver({"task": Post(OSError("away")), "live": live}) == 1
    assert len(live.taken) == 1


@pytest.mark.django_db(transaction=True)
def test_two_relays_do_not_hand_out_one_message_twice() -> None:
    for number in range(60):
        with transaction.atomic():
            enqueue_task("rollouts.tick", number=number)
    post, gate = Post(), threading.Barrier(4)

    def relay() -> None:
        try:
            gate.wait(30)
            while outbox_deliver({"task": post}, limit=5):
                pass
        finally:
            connections.close_all()

    threads = [threading.Thread(target=relay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outbox_deliver({"task": post}) == 0
    assert sorted(payload["number"] for _, payload in post.taken) == list(range(60))
