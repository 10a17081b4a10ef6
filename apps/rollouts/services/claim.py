"""Claiming the rollouts that are due, so that each is looked at by one worker, and knowing how late that look is.

A claim moves ``due_at`` ahead and keeps what it was in ``was_due_at``: one statement, one write per look.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError, connection, transaction

from apps.kernel.clock import now
from apps.rollouts.domain.machine import ACTIVE, Phase
from apps.rollouts.domain.unlooked import LATE_SECONDS

if TYPE_CHECKING:
    from apps.rollouts.models import Rollout

OUTAGES = (OperationalError, InterfaceError)
"""The database is away: no rollout's fault, and nothing could be written down."""
SOON, LATER = 1, 3
"""Seconds until the next look: guarded traffic soon, a rollout that only waits for its turn or a person later."""
FAILED_LATER = 5
"""Seconds until a rollout is tried again whose look ended in an error."""

# A claim that was late is remembered until a look has told of the gap: a worker that dies with it hides nothing.
_CLAIM = """
      WITH due AS (SELECT id FROM rollouts_rollout WHERE phase = ANY(%(active)s) AND due_at <= %(now)s
                    ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    UPDATE rollouts_rollout AS rollout
       SET due_at = %(now)s + make_interval(secs =>
           CASE WHEN look_error <> '' THEN %(failed)s WHEN phase = ANY(%(slow)s) THEN %(later)s ELSE %(soon)s END),
           was_due_at = CASE
           WHEN due_at - was_due_at > make_interval(secs => %(late)s) AND was_due_at >= phase_started_at
            AND coalesce((memo ->> 'unlooked_until')::float8, 0) < extract(epoch FROM was_due_at) THEN was_due_at
           ELSE due_at END
      FROM due WHERE rollout.id = due.id
 RETURNING rollout.id, look_error <> '', was_due_at
"""
_MISSED = """
    UPDATE rollouts_rollout AS rollout SET look_failed_at = missed.since
      FROM unnest(%(ids)s::text[], %(since)s::timestamptz[]) AS missed(id, since)
     WHERE rollout.id = missed.id AND look_failed_at IS NULL AND phase = ANY(%(active)s)
"""
_ACTIVE = [phase.value for phase in ACTIVE]
_SLOW = [Phase.PENDING.value, Phase.WAITING.value, Phase.PAUSED.value]


def claim_due(limit: int) -> dict[str, tuple[bool, datetime]]:
    """At most ``limit`` due rollouts that nobody else is claiming: whether the last look at each ended in an error, and
    since when the one that is claimed was due."""
    values: dict[str, Any] = {
        "now": now(),
        "slow": _SLOW,
        "active": _ACTIVE,
        "limit": limit,
        "soon": SOON,
        "later": LATER,
        "failed": FAILED_LATER,
        "late": LATE_SECONDS + LATER,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CLAIM, values)
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}


def claims_missed(claims: Mapping[str, tuple[bool, datetime]]) -> None:
    """The database failed in the middle of these looks: since when nobody looked must not be lost with the claims.

    Best effort: a database that takes no write takes no claim either, so that the next look will know by itself.
    """
    values: dict[str, Any] = {"ids": list(claims), "since": [since for _, since in claims.values()], "active": _ACTIVE}
    with suppress(*OUTAGES), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_MISSED, values)


def due_since(rollout: Rollout) -> datetime:
    """Since when a look at ``rollout`` was due, or since when none has succeeded.

    Whoever looks beside a claim (a doorbell, a command, a page) cannot know whether the claimed look was carried out,
    so what the claim was late by counts for them too, until a look has told of it in the memo.
    """
    return min(at for at in (rollout.due_at, rollout.was_due_at, rollout.look_failed_at) if at is not None)


def is_unlooked(rollout: Rollout) -> bool:
    """Whether a look at it is overdue now: no worker is there, or all of them are far behind."""
    return (now() - rollout.due_at).total_seconds() > LATE_SECONDS
