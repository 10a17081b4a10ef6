"""The long poll: hold an answer back until there is news."""

from __future__ import annotations

import time

from django.db import connection

from apps.rollouts.models import Rollout

LONGEST_SECONDS = 30
LOOK_SECONDS = 0.5


def wait_for_news(rollout_id: str, *, after_revision: int, wait_seconds: float) -> None:
    """Returns when the rollout's revision is above ``after_revision``, it does not exist, or the time is over.

    A waiting call costs a thread of its own (the ASGI handler gives every request one) and no database connection:
    it is given back before each sleep, because PostgreSQL has fewer of them than there may be watchers.
    """
    deadline = time.monotonic() + min(wait_seconds, LONGEST_SECONDS)
    while True:
        revision = Rollout.objects.filter(pk=rollout_id).values_list("revision", flat=True).first()
        left = deadline - time.monotonic()
        if revision is None or revision > after_revision or left <= 0:
            return
        if not connection.in_atomic_block:  # only a test wraps a request into a transaction
            connection.close()
        time.sleep(min(LOOK_SECONDS, left))
