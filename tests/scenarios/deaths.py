"""Workers that die at a named point of a tick (apps/rollouts/services/faults.py)."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection

from apps.rollouts.services.tick import tick_due


class Killed(BaseException):
    """Not an Exception, as a SIGKILL is none: nothing on the way may catch it."""


def killed_at(*points: str, nth: int) -> Callable[[str], None]:
    """For ``faults.hook``: the ``nth`` time that any of ``points`` is passed, the worker dies there."""
    passes = 0

    def strike(at: str) -> None:
        nonlocal passes
        passes += at in points
        if at in points and passes == nth:
            raise Killed

    return strike


def tick_or_die(worker: str) -> bool:
    """A tick; whether the worker died in it. What it held runs out before the next one comes."""
    try:
        tick_due(worker)
    except Killed:
        leases_run_out()
        return True
    return False


def leases_run_out() -> None:
    """What the dead worker's lease does by itself after some seconds."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE targets_endpoint SET lease_until = clock_timestamp() - interval '1 second'")
